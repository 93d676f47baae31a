"""A cell of four requests of one person each: what every request has of its own, and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from support.inline_sweep import InlineSweep, inline_sweep
from support.stage_contexts import entry_of

from sweeps.graph.plan import ResultRow

REQUESTS = 4
SEVERAL = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.seeds=[0]",
    "sweep.forget_sizes=[1]",
    f"sweep.requests={REQUESTS}",
    "sweep.methods=[pretrain,retrain,retrain_again,ssd]",
    "+sweep.rows.retrain_again={method: retrain, reseed: 1}",
    "sweep.reference_copies=true",
)


def several_requests(folder: Path, *, fresh: bool = False) -> InlineSweep:
    made = inline_sweep(folder, *SEVERAL, fresh=fresh)
    assert not made.scheduler.failures()
    return made


def row_of(sweep: InlineSweep, name: str) -> ResultRow:
    (found,) = [row for row in sweep.plan.results if row.row.name == name]
    return found


def stored(sweep: InlineSweep, key: str, name: str) -> pd.DataFrame:
    """A table of a finished job."""
    return pd.read_parquet(entry_of(sweep, key).folder / f"{name}.parquet")


def split_stored(sweep: InlineSweep, key: str) -> dict[str, Any]:
    """The split that a job looked at."""
    split = entry_of(sweep, sweep.plan.jobs[key].inputs["split"])
    found: dict[str, Any] = json.loads((split.folder / "split.json").read_text())
    return found
