"""Which audits a sweep adds to its rows.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from oneshui.spec import require

POOL_SEED = 2000
"""Of the pool's split; its models are trained with this seed and those after it. Fixed, and far
from the seeds that are reported and from those that only tune, so that whatever is measured on the
pool is measured on other models than it is used for."""

Choose = Literal["random", "memorised", "forgettable"]
"""Who is forgotten: whom a seed draws, or those of the pool whom models memorise most or least."""


@dataclass(frozen=True, kw_only=True)
class AuditSpec:
    """What is asked of every row beyond the predictions of its model.

    Attributes:
        probes: Whether every unlearned model is trained again on the people that it forgot, and
            asked to recognise them, as the retrained model is.
        completeness: Whether it is said how completely every person is forgotten, and what the
            cheap measures say that other benchmarks print.
        pool: People of the pool that likelihood audits share, a multiple of 4; 0 for no likelihood
            audit.
        models: Trainings of that audit, each with a random half of the pool, of whom it is asked
            to forget half; a multiple of 4 has everybody asked for equally often.
    """

    probes: bool = True
    completeness: bool = True
    pool: int = 0
    models: int = 32

    def __post_init__(self) -> None:
        require(
            self.pool == 0 or (8 <= self.pool <= 4096 and self.pool % 4 == 0),
            "sweep.audit.pool",
            self.pool,
            "0 for none, or a multiple of 4 from 8 to 4096",
        )
        require(
            self.models % 2 == 0 and 8 <= self.models <= 1000,
            "sweep.audit.models",
            self.models,
            "an even number from 8 to 1000",
        )
