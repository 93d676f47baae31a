"""Seeds nested in each other: trainings, their unlearnings, and the evaluations of those."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.inline_sweep import inline_sweep

from oneshui.errors import InputError
from oneshui.spec import Role
from sweeps.config import load
from sweeps.graph.plan import Plan, expand
from sweeps.report import levels
from sweeps.report.results import results_frame
from sweeps.store.status import scan

SMALL = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.seeds=[0,1]",
    # The first two views are the picture and its mirror image: nothing is drawn for these.
    "sweep.views=4",
    "sweep.methods=[pretrain,retrain,retrain_again,jit]",
    "+sweep.rows.retrain_again={method: retrain, reseed: 1}",
)
NESTED = (*SMALL, "sweep.vary=nested", "sweep.nested={unlearning: 2, evaluation: 3}")


def plan_of(*overrides: str) -> Plan:
    return expand(load(list(overrides)).sweep)


def test_the_first_of_each_is_what_is_computed_without_nesting() -> None:
    single, nested = plan_of(*SMALL), plan_of(*NESTED)
    assert single.jobs.keys() < nested.jobs.keys()
    for one, many in zip(single.results, nested.results, strict=True):
        assert (one.score_key, one.model_keys) == (many.score_key, many.model_keys)
        assert not one.replicates
        first = many.replicates[0]
        assert (first.score_key, first.model_keys) == (one.score_key, one.model_keys)
        places = [(it.unlearning, it.evaluation) for it in many.replicates]
        assert places == [(u, e) for u in range(2) for e in range(3)]


def test_unlearnings_differ_in_their_seed_and_evaluations_in_theirs_alone() -> None:
    plan = plan_of(*NESTED)
    for row in plan.results:
        made = {it.unlearning: it.model_keys for it in row.replicates}
        # What is trained does not depend on who unlearns.
        assert (made[0] == made[1]) == (row.row.role is not Role.METHOD)
        for it in row.replicates:
            score = plan.jobs[it.score_key]
            assert score.spec.get("evaluation", 0) == it.evaluation
            seen = [plan.jobs[key] for key in score.needs if plan.jobs[key].stage == "evaluate"]
            assert {job.spec.get("evaluation", 0) for job in seen} == {it.evaluation}
            own = plan.jobs[score.inputs["predictions"]]
            assert own.inputs["weights"] == it.model_keys[0]
    unlearned = [job for job in plan.jobs.values() if job.stage == "unlearn"]
    assert len({job.spec["unlearning_seed"] for job in unlearned}) == len(unlearned) == 4
    split = {job.spec["split_seed"] for job in plan.jobs.values() if job.stage == "split"}
    assert split == {0, 1}


def test_everything_behind_a_row_is_needed() -> None:
    plan = plan_of(*NESTED)
    wanted = {key for row in plan.results for key in plan.needed(row)}
    assert wanted == plan.jobs.keys()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sweep.nested={unlearning: 3}"], "sweep.nested says how often .* sweep.vary is 'all'"),
        (["sweep.vary=nested", "sweep.nested={unlearning: 0}"], "nested.unlearning is 0"),
        (["sweep.vary=nested", "sweep.nested={evaluation: 101}"], "nested.evaluation is 101"),
    ],
)
def test_what_cannot_be_nested_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(["sweep=smoke", *overrides])


def test_a_sequence_is_not_nested() -> None:
    with pytest.raises(InputError, match="is 'nested', but sweep"):
        load(["sweep=sequence", "sweep.vary=nested"])


def test_components_are_those_that_made_the_values() -> None:
    draws = np.random.default_rng(0)
    values = (
        draws.normal(0, 3, (3000, 1, 1))
        + draws.normal(0, 2, (3000, 3, 1))
        + draws.normal(0, 1, (3000, 3, 4))
    )
    assert levels.components(values) == pytest.approx((3, 2, 1), rel=0.05)


def test_a_level_that_occurs_once_has_no_spread_of_its_own() -> None:
    draws = np.random.default_rng(0)
    trained = draws.normal(0, 3, (4000, 1, 1))
    drawn = draws.normal(0, 1, (4000, 1, 4))
    found = levels.components(trained + drawn)
    assert found[0] == pytest.approx(3, rel=0.05)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(1, rel=0.05)
    alone = levels.components(trained[:1] + drawn[:1])
    assert math.isnan(alone[0])


def test_levels_without_spread_have_none_below_zero() -> None:
    values = np.tile(np.array([1.0, 2.0]), (3, 2, 1))
    assert levels.components(values) == pytest.approx((0, 0, math.sqrt(0.5)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame, Plan]:
    folder: Path = tmp_path_factory.mktemp("nested")
    sweep = inline_sweep(folder, *NESTED)
    assert not sweep.scheduler.failures()
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    for row in sweep.plan.results:
        values = [entries[it.score_key].value["mia_auc"] for it in row.replicates]
        frame = results_frame(sweep.plan, entries)
        own = frame[(frame["method"] == row.row.name) & (frame["seed"] == row.cell.seed)]
        assert own["mia_auc"].item() == pytest.approx(np.mean(values))
    return results_frame(sweep.plan, entries), levels.spreads(sweep.plan, entries), sweep.plan


@pytest.mark.slow
def test_a_nested_sweep_has_a_row_per_training_and_a_spread_per_level(
    whole: tuple[pd.DataFrame, pd.DataFrame, Plan],
) -> None:
    frame, spreads, plan = whole
    assert len(frame) == len(plan.results) == 8
    assert frame["tow"].notna().all()
    assert set(spreads["trainings"]) == {2}
    assert set(spreads["unlearnings"]) == {2}
    assert set(spreads["evaluations"]) == {3}
    by = spreads.set_index(["method", "measure"])
    # A ToW has nothing that an evaluation draws; an attack has.
    assert (by.xs("tow", level="measure")["evaluation_std"] < 1e-12).all()
    of = by.to_dict("index")
    assert of["jit", "mia_auc"]["evaluation_std"] > 0
    assert of["jit", "rmia_auc"]["evaluation_std"] > 0
    assert of["jit", "forget_score"]["unlearning_std"] >= 0
    assert of["pretrain", "retain_score"]["unlearning_std"] == 0
    assert of["pretrain", "retain_score"]["training_std"] > 0
    mean = frame.groupby("method")["rmia_auc"].mean()
    for method in ("pretrain", "jit"):
        assert by.loc[(method, "rmia_auc"), "mean"] == pytest.approx(mean[method])


def test_the_tables_say_which_spread_is_which() -> None:
    (note,) = levels.nested_notes(load([*NESTED]).sweep)
    assert "unlearned twice and evaluated 3 times each" in note
    assert levels.nested_notes(load([*SMALL]).sweep) == ()
    line = ("synthetic", 20, "jit", "tow", 2, 2, 3, 0.8, 0.031, 0.0, math.nan)
    found = levels.spread_lines(pd.DataFrame([line], columns=levels.COLUMNS))
    assert found == [("synthetic n20", "jit", "ToW", "80.00", "3.10", "0.00", "-")]
