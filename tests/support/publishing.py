"""A small sweep with made-up results, for tests that publish it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.config import load
from sweeps.graph.plan import Plan, expand
from sweeps.store import Entry

COMMAND = [
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.methods=[pretrain,retrain,ssd]",
]


def plan_of(*overrides: str) -> Plan:
    return expand(load([*COMMAND, *overrides]).sweep)


PLAN = plan_of()


def entries_of(plan: Plan, tow: float = 0.8) -> dict[str, Entry]:
    values: dict[str, Mapping[str, Any]] = {}
    for row in plan.results:
        values[row.score_key] = {"tow": tow, "forget_score": 0.7, "mia_auc": None}
        values |= {key: {} for key in (*row.model_keys, row.prepare_key) if key is not None}
        values[row.split_key] = {
            "fingerprint": f"split-{row.cell.seed}",
            "num_images": {"forget": 16},
        }
    return {
        key: Entry(
            stage=plan.jobs[key].stage,
            key=key,
            folder=Path("/nowhere"),
            files={},
            value=value,
            content=f"{key}-{tow}",
            inputs={},
            cost={"method_seconds": 1.5},
        )
        for key, value in values.items()
    }
