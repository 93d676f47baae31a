"""A cell of drawn faces whose models are probed."""

from __future__ import annotations

from pathlib import Path

from support.inline_sweep import InlineSweep, inline_sweep

PROBED = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.seeds=[0]",
    "sweep.methods=[pretrain,retrain,retrain_again,ssd]",
    "+sweep.rows.retrain_again={method: retrain, reseed: 1}",
    "sweep.audit.probes=true",
)


def probed(folder: Path) -> InlineSweep:
    """A small sweep with probes, really run; its models have learnt little."""
    made = inline_sweep(folder, *PROBED)
    assert not made.scheduler.failures()
    return made
