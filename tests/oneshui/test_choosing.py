"""The score that a choice goes by: its formula, its curve, and what is not finite."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from tiny import TinyProblem, tiny_model

from oneshui.choosing import (
    Curve,
    OracleChoice,
    Run,
    SimulatedChoice,
    Study,
    SupportAndValChoice,
    SupportOnlyChoice,
    observe,
    shortlist,
    simulated_tow,
)
from oneshui.rehearsal import Scores, importances, movement, set_score

CPU = torch.device("cpu")
VAL = 0.6
PROBLEM = TinyProblem("convnext")


def plain_score(
    m_val: float,
    sims: dict[str, np.ndarray[Any, Any]],
    point: int,
    drop: float,
    moved: float,
    val_drop: float | None = None,
) -> float:
    """The decision record's formula, word by word, with scikit-learn's isotonic regression.

    Args:
        m_val: Score of the pretrained model on D_v.
        sims: [points, requests] each: forget, retain, val, support, movement, and *0 before.
        point: Which one.
        drop: What S lost.
        moved: Movement on the real request.
        val_drop: What D_v lost.
    """
    utility = (1 - np.abs(sims["retain"] - sims["retain0"])) * (
        1 - np.abs(sims["val"] - sims["val0"])
    )

    def fitted(at: np.ndarray[Any, Any], where: float) -> float:
        curve = IsotonicRegression(increasing=False, out_of_bounds="clip")
        curve.fit(at.ravel(), utility.ravel())
        return float(np.clip(curve.predict([where])[0], 0, 1))

    log = np.log(np.maximum(sims["movement"], 1e-30))
    g = fitted(log, math.log(max(moved, 1e-30)))
    if val_drop is not None:
        g = math.sqrt(g * fitted(sims["val0"] - sims["val"], val_drop))
    further = drop - (sims["support0"] - sims["support"])[point].mean()
    forget = sims["forget"][point].mean() - further
    return float(np.clip(1 - abs(forget - m_val), 0, 1) * g)


def made_up(points: int, requests: int, seed: int) -> tuple[Study, dict[str, np.ndarray[Any, Any]]]:
    """A study in which more movement costs more, with noise, and its arrays."""
    random = np.random.default_rng(seed)
    shape = (points, requests)
    movement = np.exp(random.uniform(-9, 2, shape))
    sims = {
        name + "0": np.broadcast_to(random.uniform(0.6, 0.9, requests), shape)
        for name in ("forget", "retain", "val", "support")
    }
    harm = 0.5 / (1 + np.exp(-np.log(movement)))
    for name in ("forget", "retain", "val", "support"):
        noise = random.normal(0, 0.05, shape)
        sims[name] = np.clip(sims[name + "0"] - harm * random.uniform(0.3, 1) + noise, 0, 1)
    sims["movement"] = movement
    names = ("forget", "retain", "val", "support")
    runs = tuple(
        tuple(
            Run(
                before=Scores(**{n: float(sims[n + "0"][p, k]) for n in names}),
                after=Scores(**{n: float(sims[n][p, k]) for n in names}),
                movement=float(movement[p, k]),
            )
            for k in range(requests)
        )
        for p in range(points)
    )
    return Study(runs=runs, val_score=VAL), sims


def simulated(study: Study) -> list[float]:
    return [simulated_tow(runs, study.val_score) for runs in study.runs]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("val_drop", [None, 0.08])
def test_the_score_is_the_record_s_formula(seed: int, val_drop: float | None) -> None:
    study, sims = made_up(12, 4, seed)
    random = np.random.default_rng(100 + seed)
    for point in range(12):
        drop, moved = random.uniform(-0.1, 0.4), math.exp(random.uniform(-12, 4))
        wanted = plain_score(VAL, sims, point, drop, moved, val_drop)
        found = study.score(point, support_drop=drop, moved=moved, val_drop=val_drop)
        assert found == pytest.approx(wanted, abs=1e-9)


def test_the_simulated_tow_is_the_mean_product_of_three() -> None:
    study, sims = made_up(5, 4, 0)
    wanted = (
        (1 - np.abs(sims["forget"] - VAL))
        * (1 - np.abs(sims["retain"] - sims["retain0"]))
        * (1 - np.abs(sims["val"] - sims["val0"]))
    ).mean(axis=1)
    assert simulated(study) == pytest.approx(wanted)
    assert [SimulatedChoice(study=study).score(p) for p in range(5)] == simulated(study)


numbers = st.lists(st.tuples(st.floats(-20, 5), st.floats(0, 1)), min_size=1, max_size=40)


@given(numbers, st.lists(st.floats(-50, 50), min_size=2, max_size=10))
def test_a_curve_never_rises_and_stays_within_its_values(
    points: list[tuple[float, float]], where: list[float]
) -> None:
    curve = Curve.fit([at for at, _ in points], [value for _, value in points])
    found = [curve(at) for at in sorted(where)]
    assert all(low <= high + 1e-12 for high, low in itertools.pairwise(found))
    values = [value for _, value in points]
    assert all(min(values) - 1e-9 <= value <= max(values) + 1e-9 for value in found)


def test_a_curve_is_constant_outside_and_linear_between() -> None:
    curve = Curve.fit([0, 1, 3, 3], [0.9, 0.7, 0.2, 0.4])
    assert [curve(at) for at in (-5, 0, 0.5, 2, 3, 9)] == pytest.approx(
        [0.9, 0.9, 0.8, 0.5, 0.3, 0.3]
    )
    assert Curve.fit([0, 1], [0.2, 0.8])(0.3) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no points"):
        Curve.fit([], [])


def broken(study: Study, point: int) -> Study:
    """The study with one run of a point that left the finite numbers."""
    run = study.runs[point][0]
    lost = Scores(forget=math.nan, retain=math.nan, val=math.nan, support=math.nan)
    bad = dataclasses.replace(run, after=lost, movement=math.nan)
    runs = list(study.runs)
    runs[point] = (bad, *study.runs[point][1:])
    return dataclasses.replace(study, runs=tuple(runs))


def test_a_point_that_is_not_finite_scores_nothing_and_bends_no_curve() -> None:
    study, sims = made_up(6, 3, 1)
    hurt = broken(study, 2)
    assert simulated(hurt)[2] == 0.0
    assert simulated(hurt)[:2] == simulated(study)[:2]
    assert hurt.score(2, support_drop=0.1, moved=0.1) == 0.0
    # The other runs of the point still say what a movement costs, as those of all others do.
    keep = np.ones((6, 3), dtype=bool)
    keep[2, 0] = False
    utility = (1 - np.abs(sims["retain"] - sims["retain0"])) * (
        1 - np.abs(sims["val"] - sims["val0"])
    )
    curve = IsotonicRegression(increasing=False, out_of_bounds="clip")
    curve.fit(np.log(sims["movement"])[keep], utility[keep])
    further = 0.1 - (sims["support0"] - sims["support"])[0].mean()
    forget = 1 - abs(sims["forget"][0].mean() - further - VAL)
    wanted = forget * float(curve.predict([math.log(0.1)])[0])
    assert hurt.score(0, support_drop=0.1, moved=0.1) == pytest.approx(wanted)


@pytest.mark.parametrize("moved", [math.nan, math.inf])
def test_a_real_model_that_is_not_finite_scores_nothing(moved: float) -> None:
    study, _ = made_up(6, 3, 2)
    assert study.score(0, support_drop=0.0, moved=0.1) > 0
    assert study.score(0, support_drop=0.0, moved=moved) == 0.0
    assert study.score(0, support_drop=0.0, moved=0.1, val_drop=math.nan) == 0.0


def test_nothing_but_broken_points_scores_nothing() -> None:
    study, _ = made_up(1, 1, 0)
    hurt = broken(study, 0)
    assert simulated(hurt) == [0.0]
    assert hurt.score(0, support_drop=0.0, moved=0.1) == 0.0
    assert simulated_tow([], VAL) == 0.0


def test_a_support_score_that_is_not_defined_counts_as_no_change() -> None:
    study, _ = made_up(4, 2, 3)
    runs = tuple(
        tuple(
            dataclasses.replace(
                run,
                before=dataclasses.replace(run.before, support=math.nan),
                after=dataclasses.replace(run.after, support=math.nan),
            )
            for run in point
        )
        for point in study.runs
    )
    blind = dataclasses.replace(study, runs=runs)
    found = blind.score(1, support_drop=math.nan, moved=0.3)
    assert found == blind.score(1, support_drop=0.0, moved=0.3) > 0


@pytest.mark.parametrize(
    ("simulated", "carried", "expected"),
    [
        ([0.1, 0.9, 0.5, 0.7], 2, [0, 1, 3]),
        ([0.9, 0.1, 0.5], 2, [0, 2]),
        ([0.5, 0.5, 0.5, 0.5], 2, [0, 1]),
        ([0.2], 5, [0]),
        ([0.0, 0.3, 0.2], 9, [0, 1, 2]),
    ],
)
def test_the_shortlist_is_the_best_and_always_the_defaults(
    simulated: list[float], carried: int, expected: list[int]
) -> None:
    assert shortlist(simulated, carried) == expected


def test_the_choices_see_what_they_are_given() -> None:
    study, _ = made_up(4, 2, 5)
    request, val = PROBLEM.unlearn_request(), PROBLEM.images("val")
    importance = importances(
        request.model, PROBLEM.images("train"), task="multilabel", seed=0, device=CPU
    )
    model = copy.deepcopy(request.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    seen = observe(model, request, importance)
    assert seen.movement == pytest.approx(movement(model, request.model, importance))
    assert seen.movement > 0
    only = SupportOnlyChoice(study=study, request=request, importance=importance)
    assert only.score(1, model) == study.score(
        1, support_drop=seen.support_drop, moved=seen.movement
    )
    both = SupportAndValChoice(study=study, request=request, importance=importance, val=val)
    after = set_score(model, val, "multilabel", CPU)
    assert both.score(1, model) == study.score(
        1, support_drop=seen.support_drop, moved=seen.movement, val_drop=VAL - after
    )
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    assert math.isnan(observe(model, request, importance).movement)
    assert only.score(1, model) == both.score(1, model) == 0.0


def test_the_oracle_s_score_is_the_true_tow() -> None:
    request = PROBLEM.unlearn_request()
    sets = {name: PROBLEM.images(name) for name in ("retain", "forget", "test")}
    retrained_model, model = tiny_model("convnext", seed=1), tiny_model("convnext", seed=2)
    retrained, own = (
        {name: set_score(m, data, "multilabel", CPU) for name, data in sets.items()}
        for m in (retrained_model, model)
    )
    oracle = OracleChoice(request=request, sets=sets, retrained=retrained)
    assert oracle.score(0, retrained_model) == 1.0
    wanted = math.prod(1 - abs(own[name] - retrained[name]) for name in sets)
    assert oracle.score(0, model) == pytest.approx(wanted)
    assert wanted < 1
    with torch.no_grad():
        next(model.parameters()).fill_(math.inf)
    assert oracle.score(0, model) == 0.0
