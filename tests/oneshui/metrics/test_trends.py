"""Straight lines with an intercept for every seed, and intervals over people."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from reference.analyses import clustered_error, ranks, slope_within, without_seeds
from scipy.stats import t

from oneshui.errors import InputError
from oneshui.metrics.trends import Trend, trend

Array = npt.NDArray[Any]
NUMBERS = [field.name for field in dataclasses.fields(Trend) if field.name != "points"]


def points(
    people: int, per_seed: int, seeds: int, slope: float = 0.0
) -> tuple[Array, Array, Array, Array]:
    """Distances, outcomes, identities and seeds, with people and seeds that differ."""
    generator = np.random.default_rng(0)
    whose = [generator.choice(people, per_seed, replace=False) for _ in range(seeds)]
    person, seed = np.concatenate(whose), np.repeat(np.arange(seeds), per_seed)
    own = generator.normal(size=(2, people))
    level = 3 * generator.normal(size=seeds)[seed]
    x = own[0, person] + level + 0.3 * generator.normal(size=len(person))
    return x, slope * x + own[1, person] + level, person, seed


def numbers(found: Trend) -> dict[str, Any]:
    return {name: getattr(found, name) for name in NUMBERS}


def test_the_line_is_that_of_least_squares_with_a_column_for_every_seed() -> None:
    x, y, person, seed = points(30, 12, 4, slope=0.4)
    found = trend(x, y, "gap", person, seed)
    columns = np.column_stack([x, *(seed == s for s in range(4))]).astype(float)
    slope, *intercepts = np.linalg.lstsq(columns, y)[0]
    assert found.slope == pytest.approx(slope)
    assert found.intercept == pytest.approx(np.mean(intercepts))
    left = [without_seeds(values.tolist(), seed.tolist()) for values in (x, y)]
    assert found.pearson == pytest.approx(np.corrcoef(left[0], left[1])[0, 1])
    assert (found.num_people, found.num_points, found.num_seeds) == (len(set(person)), 48, 4)
    assert list(found.points.columns) == ["identity", "seed", "distance", "gap"]


def test_ranks_are_those_within_a_seed() -> None:
    x, y, person, seed = points(30, 12, 4)
    x = x.round(1)
    by_rank = [
        [rank for s in range(4) for rank in ranks(values[seed == s].tolist())] for values in (x, y)
    ]
    found = trend(x, y, "gap", person, seed)
    assert found.spearman == pytest.approx(np.corrcoef(by_rank[0], by_rank[1])[0, 1])


def test_differences_between_seeds_are_no_trend() -> None:
    x, y, person, seed = points(30, 12, 4)
    moved = trend(x + 10 * seed, y + 50 * seed, "gap", person, seed)
    expected = numbers(trend(x, y, "gap", person, seed)) | {"intercept": moved.intercept}
    assert numbers(moved) == pytest.approx(expected)


def test_the_interval_is_nearly_that_of_the_clustered_standard_error() -> None:
    x, y, person, seed = points(400, 250, 3, slope=0.4)
    found = trend(x, y, "gap", person, seed)
    error = clustered_error(x.tolist(), y.tolist(), person.tolist(), seed.tolist())
    assert found.slope is not None
    assert found.slope_low == pytest.approx(found.slope - 1.966 * error, abs=0.1 * error)
    assert found.slope_high == pytest.approx(found.slope + 1.966 * error, abs=0.1 * error)
    assert found.pearson is not None
    assert found.pearson_low is not None
    assert found.pearson_high is not None
    assert 0.2 < found.pearson_low < found.pearson < found.pearson_high < 0.6


def test_a_resample_has_intercepts_of_its_own() -> None:
    """Where a seed has three people, those who were drawn are far from the mean of all three."""
    x, y, person, seed = points(24, 3, 8)
    generator = np.random.default_rng(5)
    people = np.unique(person)
    slopes = []
    for _ in range(400):
        drawn = generator.choice(people, len(people))
        of = np.concatenate([np.flatnonzero(person == one) for one in drawn])
        slopes.append(slope_within(x[of].tolist(), y[of].tolist(), seed[of].tolist()))
    found = trend(x, y, "gap", person, seed)
    assert found.slope_high is not None
    assert found.slope is not None
    errors = t.ppf(0.975, len(people) - 1) * math.sqrt(len(people) / (len(people) - 1))
    assert (found.slope_high - found.slope) / errors == pytest.approx(np.std(slopes), rel=0.1)


def test_a_person_of_two_seeds_is_one_person() -> None:
    x, y, person, seed = points(40, 40, 1)
    once = trend(x, y, "gap", person, seed)
    twice = [np.concatenate([values, values]) for values in (x, y, person)]
    both = np.repeat([0, 1], 40)
    again = trend(twice[0], twice[1], "gap", twice[2], both)
    expected = numbers(once) | {"num_points": 80, "num_seeds": 2}
    assert numbers(again) == pytest.approx(expected)
    others = trend(twice[0], twice[1], "gap", np.arange(80), both)
    assert once.slope_high is not None
    assert once.slope_low is not None
    assert others.slope_high is not None
    assert others.slope_low is not None
    narrower = (others.slope_high - others.slope_low) / (once.slope_high - once.slope_low)
    assert 0.6 < narrower < 0.8


def test_the_slope_of_a_difference_is_the_difference_of_slopes() -> None:
    x, y, person, seed = points(30, 12, 4)
    other = np.random.default_rng(1).normal(size=len(x))
    first, second, between = (trend(x, v, "gap", person, seed) for v in (y, other, y - other))
    assert first.slope is not None
    assert second.slope is not None
    assert between.slope == pytest.approx(first.slope - second.slope)


def test_the_order_of_points_changes_nothing() -> None:
    x, y, person, seed = points(30, 12, 4)
    order = np.random.default_rng(2).permutation(len(x))
    shuffled = trend(x[order], y[order], "gap", person[order], seed[order])
    assert numbers(shuffled) == pytest.approx(numbers(trend(x, y, "gap", person, seed)))


@pytest.mark.parametrize(("people", "alone", "has_interval"), [(10, 0, True), (9, 5, False)])
def test_intervals_need_ten_people_who_share_a_seed(
    people: int, alone: int, has_interval: bool
) -> None:
    x, y, _, _ = points(people + alone, people + alone, 1)
    seed = np.concatenate([np.zeros(people), np.arange(1, alone + 1)])
    found = trend(x, y, "gap", seeds=seed)
    assert found.num_people == people + alone
    assert found.slope is not None
    assert found.pearson is not None
    ends = (found.slope_low, found.slope_high, found.pearson_low, found.pearson_high)
    assert [end is not None for end in ends] == [has_interval] * 4


def test_a_line_that_one_person_makes_has_no_interval() -> None:
    x = np.zeros(20)
    x[3] = 1
    found = trend(x, np.arange(20.0), "gap")
    assert found.slope is not None
    assert (found.slope_low, found.slope_high) == (None, None)


def test_people_who_are_alone_in_their_seeds_have_no_line() -> None:
    found = trend(np.arange(12.0), np.arange(12.0), "gap", seeds=np.arange(12))
    assert (found.num_people, found.num_seeds) == (12, 12)
    assert {value for name, value in numbers(found).items() if not name.startswith("num")} == {None}


def test_an_outcome_that_does_not_vary_has_no_interval() -> None:
    found = trend(np.arange(12.0), np.zeros(12), "gap")
    assert found.slope == 0
    assert (found.slope_low, found.pearson, found.spearman) == (None, None, None)


def test_differences_that_are_rounding_have_no_correlation() -> None:
    rounded = 0.1 + 1e-17 * np.arange(6)
    nearly = 0.3 * np.where(np.arange(6) % 2, 1 + 2**-52, 1)
    for outcomes in (rounded, nearly):
        found = trend(np.arange(6.0), outcomes, "gap")
        assert (found.pearson, found.spearman) == (None, None)
    across = trend(nearly, np.arange(6.0), "gap")
    assert (across.slope, across.intercept, across.pearson) == (None, None, None)
    assert trend(np.arange(6.0), 1e-9 * np.arange(6.0), "gap").pearson == pytest.approx(1)


def test_unusable_points_are_refused() -> None:
    with pytest.raises(InputError, match="at least one point"):
        trend([], [], "gap")
    with pytest.raises(InputError, match="2 finite distances"):
        trend([0.0, np.nan], [0.0, 1.0], "gap")
    with pytest.raises(InputError, match="seeds"):
        trend([0.0, 1.0], [0.0, 1.0], "gap", seeds=[0])
