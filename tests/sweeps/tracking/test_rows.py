"""What a run of MLflow says about a row, without a database."""

from __future__ import annotations

import dataclasses
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
    assert {name: run.tags[name] for name in run.params if not name.startswith("hp.")} == {
        name: value for name, value in run.params.items() if not name.startswith("hp.")
    }
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


@pytest.mark.parametrize(("name", "images"), [("pretrain", 208), ("retrain", 188)])
def test_a_trained_row_has_its_curves_by_epoch(name: str, images: int) -> None:
    row, entries = row_of(name, 0), entries_of(PLAN)
    epochs = [{"number": n, "loss": 2.0 / n, "val_score": 0.1 * n} for n in (1, 2)]
    entries[row.model_key].value["epochs"] = epochs  # type: ignore[index]
    entries[row.split_key].value["num_images"] = {"forget": 20, "retain": 188}  # type: ignore[index]
    run = wanted_run(PLAN, row, entries, "p")
    assert run.curves["train/loss"] == [2.0, 1.0]
    assert run.curves["train/val_score"] == [0.1, 0.2]
    recipe = PLAN.sweep.training["synthetic_tiny"]
    # The cosine from the end of the warm-up; both sets are 7 or 6 batches.
    steps = math.ceil(images / 32)
    warm = 0.2 * steps
    done = [(epoch * steps - 1 - warm) / (2 * steps - warm) for epoch in (1, 2)]
    rates = [0.004 * (1 + math.cos(math.pi * part)) / 2 for part in done]
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (2, 32, 0.004)
    assert run.curves["train/learning_rate"] == pytest.approx(rates)
    assert run.last["train/loss"] == 1.0
    assert not wanted_run(PLAN, row_of("ssd", 0), entries, "p").curves


def test_a_row_names_its_source() -> None:
    row, entries = row_of("ssd", 0), entries_of(PLAN)
    entries[row.model_key] = dataclasses.replace(entries[row.model_key], made={"commit": "abc"})
    tags = wanted_run(PLAN, row, entries, "p").tags
    assert tags["mlflow.source.git.commit"] == tags["commit"] == "abc"
    entries[row.score_key] = dataclasses.replace(entries[row.score_key], made={"commit": "def"})
    tags = wanted_run(PLAN, row, entries, "p").tags
    assert tags["commit"] == "abc + def"
    assert "mlflow.source.git.commit" not in tags, "a column for one"
