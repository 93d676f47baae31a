"""What the results table takes from the plan and from the store."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sweeps.config import load
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.report.results import resolved_hyperparameters


def plan() -> Plan:
    return expand(
        load(
            [
                "sweep=leak_cost",
                "scale=toy",
                "sweep.seeds=[0]",
                "sweep.methods=[pretrain,retrain,ssd]",
                "++sweep.rows.ssd.batch_size=7",
                "tuning.rows=[ssd]",
                "tuning.trials=2",
            ]
        ).sweep
    )


def row_of(made: Plan) -> ResultRow:
    return next(row for row in made.results if row.row.study == "ssd" and row.choose_key)


def test_a_tuned_row_shows_what_its_study_chose_and_what_it_was_given() -> None:
    row = row_of(plan())
    chosen: Any = SimpleNamespace(value={"hyperparameters": {"alpha": 3.5, "dampening": 0.25}})
    assert row.choose_key is not None
    shown = resolved_hyperparameters(row, {row.choose_key: chosen})
    assert (shown["alpha"], shown["dampening"], shown["batch_size"]) == (3.5, 0.25, 7)


def test_a_row_whose_study_is_not_done_shows_nothing_that_it_varies() -> None:
    shown = resolved_hyperparameters(row_of(plan()), {})
    assert shown["batch_size"] == 7
    assert not {"alpha", "dampening"} & shown.keys()
