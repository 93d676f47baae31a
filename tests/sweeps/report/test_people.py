"""Resamples of people as the report reads them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.inline_sweep import InlineSweep, inline_sweep

from oneshui.metrics.resampling import NUM_RESAMPLES, RESAMPLED, interval
from sweeps.graph.artifacts import PEOPLE
from sweeps.report import people
from sweeps.report.results import OF_A_ROW, Entries, results_frame
from sweeps.store import DamagedEntryError
from sweeps.store.status import scan

SIX = ("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.forget_sizes=[6]")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    methods = "sweep.methods=[pretrain,retrain,gradient_ascent]"
    made = inline_sweep(tmp_path_factory.mktemp("people"), *SIX, methods)
    assert not made.scheduler.failures()
    return made


@pytest.fixture(scope="module")
def entries(sweep: InlineSweep) -> Entries:
    return scan(sweep.plan, sweep.store, discard=False).entries


def test_every_finished_row_has_its_resamples(sweep: InlineSweep, entries: Entries) -> None:
    drawn: Any = people.resamples(sweep.plan, entries)
    assert list(drawn.columns) == [*OF_A_ROW, "resample", *RESAMPLED]
    assert len(drawn) == len(sweep.plan.results) * NUM_RESAMPLES
    for row in sweep.plan.results:
        own = drawn[(drawn["seed"] == row.cell.seed) & (drawn["method"] == row.row.name)]
        assert set(own["dataset"]) == {"synthetic_tiny"}
        assert set(own["num_forget"]) == {6}
        assert own["resample"].tolist() == list(range(NUM_RESAMPLES))
        stored = pd.read_parquet(entries[row.score_key].folder / PEOPLE)
        pd.testing.assert_frame_equal(own[list(RESAMPLED)].reset_index(drop=True), stored)


def test_the_results_have_the_intervals_of_the_attacks(
    sweep: InlineSweep, entries: Entries
) -> None:
    frame: Any = results_frame(sweep.plan, entries).set_index(["method", "seed"])
    drawn: Any = people.resamples(sweep.plan, entries).set_index(["method", "seed"])
    for place, row in frame.iterrows():
        for name in ("mia_auc", "rmia_auc"):
            ends = row[f"{name}_low"], row[f"{name}_high"]
            if place[0] == "retrain" and name == "rmia_auc":
                assert np.isnan(ends).all()
                continue
            assert ends == interval(row[name], drawn.loc[place, name], 6)
            assert 0 < ends[0] < row[name] < ends[1] < 1
    assert (frame["forget_people"] == 6).all()


def test_rows_without_resamples_are_left_out(
    sweep: InlineSweep, entries: Entries, tmp_path: Path
) -> None:
    first, second, *_ = (row.score_key for row in sweep.plan.results)
    changed = {first: dataclasses.replace(entries[first], files={})}
    drawn = people.resamples(sweep.plan, {**entries, **changed})
    assert len(drawn) == (len(sweep.plan.results) - 1) * NUM_RESAMPLES
    # What is damaged is no absence: the command computes it again.
    gone = {second: dataclasses.replace(entries[second], folder=tmp_path / "gone")}
    with pytest.raises(DamagedEntryError):
        people.resamples(sweep.plan, {**entries, **gone})
    nothing = people.resamples(sweep.plan, {})
    assert nothing.empty
    assert list(nothing.columns) == list(drawn.columns)


def test_the_interval_of_a_mean_over_seeds_draws_people_in_all_of_them(
    sweep: InlineSweep, entries: Entries
) -> None:
    frame = results_frame(sweep.plan, entries)
    drawn = people.resamples(sweep.plan, entries)
    rows = frame[frame["method"] == "pretrain"]
    own = drawn[drawn["method"] == "pretrain"]
    found = people.mean_interval(rows, own, "rmia_auc")
    table = own.pivot_table(index="resample", columns="seed", values="rmia_auc")
    assert table.shape == (NUM_RESAMPLES, 2)
    assert found == interval(rows["rmia_auc"].mean(), (table[0] + table[1]) / 2, 6)
    assert found is not None
    assert found[0] < rows["rmia_auc"].mean() < found[1]
    assert people.mean_interval(rows, own[own["seed"] == 0], "rmia_auc") is None
    is_reference, of_it = (table["method"] == "retrain" for table in (frame, drawn))
    assert people.mean_interval(frame[is_reference], drawn[of_it], "rmia_auc") is None
    few = rows.assign(test_people=4)
    assert people.mean_interval(few, own, "rmia_auc") is None
