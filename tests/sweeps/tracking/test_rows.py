"""What a run of MLflow says about a row, without a database."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from support.publishing import PLAN, entries_of, plan_of

from sweeps.graph.plan import ResultRow
from sweeps.store import Entry
from sweeps.tracking.rows import wanted_run


def row_of(name: str, seed: int) -> ResultRow:
    (found,) = [r for r in PLAN.results if (r.row.name, r.cell.seed) == (name, seed)]
    return found


def with_values(row: ResultRow, **values: Any) -> dict[str, Entry]:
    entries = entries_of(PLAN)
    entries[row.score_key].value.update(values)  # type: ignore[attr-defined]
    return entries


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_only_finite_numbers_are_metrics(value: float | None) -> None:
    row = row_of("ssd", 0)
    metrics = wanted_run(PLAN, row, with_values(row, tow=value, retain_score=0.5), "p").metrics
    assert "tow" not in metrics
    assert metrics["retain/score"] == 0.5
    assert metrics["forget/score"] == 0.7
    assert metrics["cost/unlearn_seconds"] == 1.5


def test_a_run_is_found_again_by_what_it_shows() -> None:
    row = row_of("ssd", 1)
    entries = entries_of(PLAN)
    run = wanted_run(PLAN, row, entries, "the parent")
    assert run.name == "ssd synthetic_tiny n4 s1"
    assert run.tags["mlflow.parentRunId"] == "the parent"
    assert run.tags["oneshui.job_key"] == row.score_key
    assert run.tags["oneshui.content"] == entries[row.score_key].content
    assert run.tags["oneshui.weights"] == f"unlearn/{row.model_key}"
    assert (run.tags["num_forget"], run.tags["seed"]) == ("004", "001")
    assert (run.params["num_forget"], run.params["seed"]) == ("4", "1")
    assert run.params["requests"] == "1"
    assert run.params["hp.alpha"] == "50.0"
    assert run.tags["tuning"] == "no"
    (split,) = run.inputs
    assert split.dataset.digest == "split-1"
    key = PLAN.jobs[row.evaluate_key].inputs["split"]
    assert json.loads(split.dataset.source) == {"store": f"split/{key}"}
    assert [(tag.key, tag.value) for tag in split.tags] == [("mlflow.data.context", "split")]


def test_a_run_of_several_requests_leads_to_all_their_models() -> None:
    plan = plan_of("sweep.forget_sizes=[1]", "sweep.requests=3")
    (row, *_) = (row for row in plan.results if row.row.name == "ssd")
    run = wanted_run(plan, row, entries_of(plan), "p")
    assert run.tags["oneshui.weights"] == f"unlearn/{row.model_keys[0]} and 2 more"
    assert (run.params["num_forget"], run.params["requests"]) == ("1", "3")
    (split,) = run.inputs
    assert json.loads(split.dataset.source) == {"store": f"split/{row.split_key}"}


def test_doing_nothing_takes_no_time() -> None:
    run = wanted_run(PLAN, row_of("pretrain", 0), entries_of(PLAN), "p")
    assert not [name for name in run.metrics if name.startswith("cost/")]
