"""The score that a choice goes by: its formula, its curve, and what is not finite."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from support.made_up_study import VAL, made_up

from oneshui.tuning.score import (
    Curve,
    Run,
    Scores,
    TrialScores,
    shortlist,
    shown_to_gain,
    simulated_tow,
)


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


def simulated(study: TrialScores) -> list[float]:
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
    # Three points at one place and one at another count as four.
    assert Curve.fit([0, 0, 0, 1], [0.2, 0.2, 0.2, 0.8])(0.3) == pytest.approx(0.35)
    with pytest.raises(ValueError, match="no points"):
        Curve.fit([], [])


def broken(study: TrialScores, point: int) -> TrialScores:
    """The study with one run of a point that left the finite numbers."""
    run = study.runs[point][0]
    lost = Scores(forget=math.nan, retain=math.nan, val=math.nan, support=math.nan)
    bad = dataclasses.replace(run, after=lost, movement=math.nan)
    runs = list(study.runs)
    runs[point] = (bad, *study.runs[point][1:])
    return dataclasses.replace(study, runs=tuple(runs))


@pytest.mark.parametrize("name", ["forget", "retain", "val", "movement"])
def test_one_number_that_is_not_finite_leaves_nothing_of_a_run(name: str) -> None:
    study, _ = made_up(3, 2, 1)
    run = study.runs[1][0]
    if name == "movement":
        bad = dataclasses.replace(run, movement=math.inf)
    else:
        bad = dataclasses.replace(run, after=dataclasses.replace(run.after, **{name: math.nan}))
    assert run.is_finite
    assert not bad.is_finite
    assert simulated_tow((bad, study.runs[1][1]), VAL) == 0.0


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


@pytest.mark.parametrize(
    ("shown", "carried", "expected"),
    [
        ([2, 3], 3, [1, 2, 3]),
        ([0, 2, 3], 1, [0, 1, 3]),
        ([0], 2, [0, 1]),
        ([], 2, [1]),
    ],
)
def test_what_is_not_shown_to_gain_is_not_on_the_shortlist(
    shown: list[int], carried: int, expected: list[int]
) -> None:
    assert shortlist([0.1, 0.5, 0.6, 0.7, 0.9], carried, nothing=1, shown=shown) == expected


def gains(*by_cell: list[float]) -> list[TrialScores]:
    """A study of two points on cells, the second doing nothing: the first's gains by request."""

    def run(forget: float) -> Run:
        scores = Scores(forget=forget, retain=0.9, val=0.5, support=0.5)
        return Run(before=scores, after=scores, movement=1.0)

    return [
        TrialScores(
            runs=(
                tuple(run(0.8 - gain) for gain in of_cell),
                tuple(run(0.8) for _ in of_cell),
            ),
            val_score=0.5,
        )
        for of_cell in by_cell
    ]


@pytest.mark.parametrize(
    ("by_cell", "shown"),
    [
        # Mean .05, standard error .0289: t of 1.73 with two degrees of freedom, 1.89 needed.
        (([0.0, 0.05], [0.1]), []),
        # One request more: 2.12, 1.64 needed.
        (([0.0, 0.05], [0.1, 0.06]), [0]),
        (([0.05, 0.05],), [0]),
        (([0.05],), [0]),
        (([0.0],), []),
        (([-0.05, -0.06],), []),
    ],
)
def test_a_point_must_be_shown_to_gain_over_requests_of_all_cells(
    by_cell: tuple[list[float], ...], shown: list[int]
) -> None:
    assert shown_to_gain(gains(*by_cell), nothing=1) == shown
