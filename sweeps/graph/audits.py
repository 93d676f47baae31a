"""Which audits a sweep adds to its rows.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

from dataclasses import dataclass

from oneshui.spec import require


@dataclass(frozen=True, kw_only=True)
class AuditSpec:
    """What is asked of every row beyond the predictions of its model.

    Attributes:
        probes: Whether every unlearned model is trained again on the people that it forgot, and
            asked to recognise them, as the retrained model is.
        pool: People of the pool that likelihood audits share; 0 for no likelihood audit.
        models: Trainings of that audit, each with a random half of the pool.
    """

    probes: bool = True
    pool: int = 0
    models: int = 32

    def __post_init__(self) -> None:
        require(
            self.pool == 0 or 4 <= self.pool <= 4096,
            "sweep.audit.pool",
            self.pool,
            "0 for none, or 4 to 4096 people",
        )
        require(
            self.models % 2 == 0 and 4 <= self.models <= 1024,
            "sweep.audit.models",
            self.models,
            "an even number from 4 to 1024",
        )
