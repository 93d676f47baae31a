"""A sweep with a pool of eight people and eight models, whose cells are also chosen from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from support.inline_sweep import InlineSweep, inline_sweep
from support.stage_contexts import entry_of

from sweeps.graph.plan import ResultRow

PEOPLE, MODELS = 8, 8
POOL = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.forget_sizes=[2]",
    "sweep.seeds=[0]",
    "sweep.methods=[pretrain,retrain,ssd,jit]",
    f"+sweep.audit={{probes: false, completeness: false, pool: {PEOPLE}, models: {MODELS}}}",
    "+sweep.choose=memorised",
)


def pool_sweep(folder: Path) -> InlineSweep:
    made = inline_sweep(folder, *POOL)
    assert not made.scheduler.failures()
    return made


def row_of(sweep: InlineSweep, name: str) -> ResultRow:
    (found,) = [row for row in sweep.plan.results if row.row.name == name]
    return found


def document_of(sweep: InlineSweep, split: str) -> dict[str, list[int]]:
    """What a split says, by its key."""
    found: dict[str, list[int]] = json.loads(
        (entry_of(sweep, split).folder / "split.json").read_text()
    )
    return found


def table_of(sweep: InlineSweep, key: str, name: str) -> pd.DataFrame:
    """A table of a finished job."""
    return pd.read_parquet(entry_of(sweep, key).folder / f"{name}.parquet")


def value_of(sweep: InlineSweep, key: str) -> dict[str, Any]:
    return dict(entry_of(sweep, key).value)
