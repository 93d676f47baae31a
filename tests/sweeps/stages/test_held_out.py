"""Cells that only tune, run: nobody whom a reported cell forgets is forgotten in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.inline_sweep import InlineSweep, inline_sweep
from support.stage_contexts import entry_of, identity_of_rows, jobs_of

from oneshui.data.splits import make_split


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    """Two studies of one row, for two reported cells of which a third is to come."""
    return inline_sweep(
        tmp_path_factory.mktemp("held_out"),
        "sweep=leak_cost",
        "scale=toy",
        "sweep.methods=[ssd]",
        "sweep.seeds=[0,1]",
        "tuning.reserved_seeds=[2]",
        # Both would forget somebody whom a reported cell forgets.
        "tuning.seeds=[1004,1016]",
        "tuning.studies=2",
        "tuning.objective=support_only",
        "tuning.trials=2",
        "tuning.requests=4",
        "tuning.true_tow=false",
    )


def document(sweep: InlineSweep, key: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((entry_of(sweep, key).folder / name).read_text())
    return found


def tuning_splits(sweep: InlineSweep) -> dict[str, str]:
    """The key of each simulation's split."""
    jobs = [job for job in sweep.plan.jobs.values() if job.stage == "simulate"]
    return {job.key: job.inputs["split"] for job in jobs}


def test_nobody_whom_a_reported_cell_forgets_is_forgotten_where_it_is_tuned(
    sweep: InlineSweep,
) -> None:
    reported = [
        document(sweep, job.key, "split.json")
        for job in jobs_of(sweep, "split")
        if job.spec["split_seed"] in (0, 1, 2)
    ]
    assert len(reported) == 3
    forgotten = {identity for split in reported for identity in split["forget"]}
    splits = tuning_splits(sweep)
    assert len(splits) == 2
    for simulation, key in splits.items():
        split = document(sweep, key, "split.json")
        assert len(split["forget"]) == 4
        assert not forgotten & set(split["forget"])
        requests = document(sweep, simulation, "requests.json")["requests"]
        assert len(requests) > 1
        players = {identity for request in requests for identity in request["identities"]}
        assert players <= set(split["retain"])
        assert not forgotten & players
        # They may be trained on: otherwise nobody could tune on the people of a small dataset.
        assert forgotten & set(split["retain"])


def test_without_being_kept_out_they_would_be_forgotten_there(sweep: InlineSweep) -> None:
    """So that the test above can fail."""
    (index,) = jobs_of(sweep, "index")
    order = pd.read_parquet(entry_of(sweep, index.key).folder / "identities.parquet")["identity"]
    for key in tuning_splits(sweep).values():
        stored, seed = document(sweep, key, "split.json"), sweep.plan.jobs[key].spec["split_seed"]
        plain = make_split(identity_of_rows(sweep), order.tolist(), num_forget=4, seed=seed)
        assert list(plain.train) == stored["train"]
        assert set(plain.forget) & set(stored["reserved"])


def test_each_reported_row_runs_with_what_its_study_chose(sweep: InlineSweep) -> None:
    choices = [study.choices["support_only"] for study in sweep.plan.studies]
    for row, choice in zip(sweep.plan.results, choices, strict=True):
        assert row.choose_key == choice
        value = entry_of(sweep, choice).value["hyperparameters"]
        assert entry_of(sweep, row.model_key).value["hyperparameters"] == value


def test_a_cell_that_tunes_itself_has_the_true_tow_of_the_point_it_picked(tmp_path: Path) -> None:
    own = inline_sweep(
        tmp_path,
        "sweep=leak_cost",
        "scale=toy",
        "sweep.methods=[ssd]",
        "sweep.seeds=[0,1]",
        "tuning.cells=own",
        "tuning.objective=support_only",
        "tuning.trials=2",
    )
    for study in own.plan.studies:
        (cell,) = study.cells
        (row,) = [row for row in own.plan.results if row.cell == cell]
        (simulated,) = study.simulated
        split = own.plan.jobs[simulated].inputs["split"]
        assert split == own.plan.jobs[row.evaluate_key].inputs["split"]
        assert "reserved" not in document(own, split, "split.json")
        value = entry_of(own, study.choices["support_only"]).value["hyperparameters"]
        assert entry_of(own, row.model_key).value["hyperparameters"] == value
        place = entry_of(own, study.choices["support_only"]).value["point"]
        (true_tow,) = study.true_tows[place]
        true = entry_of(own, true_tow).value["tow"]
        assert entry_of(own, row.score_key).value["tow"] == pytest.approx(true, abs=1e-6)
