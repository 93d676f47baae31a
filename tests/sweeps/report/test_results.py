"""What the results table takes from the plan and from the store."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

from support.publishing import PLAN, entries_of

from sweeps.config import load
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.report.results import made_of, resolved_hyperparameters, results_frame
from sweeps.store import Entry


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
    assert "share" not in shown


CPU = {"device": "cpu", "precision": "float32", "versions": "torch 2", "commit": "abc"}
GPU = {**CPU, "device": "NVIDIA H200", "precision": "bfloat16"}


def made_with(made: dict[str, dict[str, str]]) -> dict[str, Entry]:
    """All results of the plan, those of some stages made with something else than the processor."""
    (example, *_) = entries_of(PLAN).values()
    return {
        key: dataclasses.replace(
            example,
            stage=job.stage,
            key=key,
            made=made.get(job.stage, CPU),
            value={"task": "multilabel"},
        )
        for key, job in PLAN.jobs.items()
    }


def test_a_row_says_what_all_jobs_behind_it_were_computed_with() -> None:
    (ssd, *_) = (row for row in PLAN.results if row.row.name == "ssd")
    assert made_of(PLAN, ssd, made_with({})) == CPU
    mixed = made_of(PLAN, ssd, made_with({"unlearn": GPU}))
    assert mixed["device"] == "NVIDIA H200 + cpu"
    assert mixed["precision"] == "bfloat16 + float32"
    assert mixed["versions"] == "torch 2"
    # The pretrained model of doing nothing was not unlearned.
    (nothing, *_) = (row for row in PLAN.results if row.row.name == "pretrain")
    assert made_of(PLAN, nothing, made_with({"unlearn": GPU})) == CPU


def test_reading_data_and_measuring_are_the_same_on_every_device() -> None:
    (ssd, *_) = (row for row in PLAN.results if row.row.name == "ssd")
    readers = dict.fromkeys(("index", "cache", "split", "score"), GPU)
    assert made_of(PLAN, ssd, made_with(readers)) == CPU
    newer = {"score": {**CPU, "versions": "torch 3"}}
    assert made_of(PLAN, ssd, made_with(newer))["versions"] == "torch 2 + torch 3"


def test_the_table_holds_the_code_s_hash_and_what_rows_were_made_with() -> None:
    frame = results_frame(PLAN, made_with({}))
    sources = {row.row.name: row.row.source for row in PLAN.results}
    assert dict(zip(frame["method"], frame["method_source"], strict=True)) == sources
    assert len(set(sources.values())) == len(sources)
    assert set(frame["device"]) == {"cpu"}
    assert results_frame(PLAN, {})["device"].isna().all()
