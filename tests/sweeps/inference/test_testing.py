"""Tests of differences against SciPy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sweeps.inference import testing
from sweeps.inference.testing import Difference

NUMBERS = st.lists(
    st.floats(-1, 1, allow_nan=False).map(lambda value: round(value, 3)), min_size=2, max_size=9
)


@given(NUMBERS)
@settings(max_examples=40, deadline=None)
def test_p_is_students(values: list[float]) -> None:
    found = Difference.of(values)
    if len(set(values)) == 1:
        assert math.isnan(found.p())
        return
    assert found.p() == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)
    above = stats.ttest_1samp(values, 0.1, alternative="greater").pvalue
    assert found.p_above(0.1) == pytest.approx(above)
    assert found.p_below(0.1) == pytest.approx(1 - above)


@pytest.mark.parametrize("values", [[], [0.3], [0.2, 0.2, 0.2]])
def test_what_has_no_spread_has_no_p(values: list[float]) -> None:
    # Equal differences say that the seeds changed nothing, and no more than one of them counts.
    found = Difference.of(values)
    assert math.isnan(found.p())
    assert math.isnan(found.p_within(0.5))
    assert found.num == len(values)


def test_alike_is_what_two_one_sided_tests_show() -> None:
    values = [0.005, -0.004, 0.002, 0.001]
    found = Difference.of(values)
    sides = [
        stats.ttest_1samp(values, -0.02, alternative="greater").pvalue,
        stats.ttest_1samp(values, 0.02, alternative="less").pvalue,
    ]
    assert found.p_within(0.02) == pytest.approx(max(sides))
    assert found.p_within(0.02) < 0.05
    # The more it varies, the less it is shown, and never by having few seeds.
    assert Difference.of([0.05, -0.05]).p_within(0.02) > 0.3
    assert Difference.of([0.03, 0.031, 0.029]).p_within(0.02) > 0.95


def test_holm_is_the_textbook_example() -> None:
    assert testing.holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx(
        [0.03, 0.06, 0.06, math.nan], nan_ok=True
    )
    assert testing.holm([0.6, 0.7]) == [1.0, 1.0]
    assert testing.holm([]) == []


def test_the_best_must_beat_every_other() -> None:
    goodness = np.array([[0.9, 0.7, 0.5], [0.91, 0.72, 0.5], [0.92, 0.71, 0.53]])
    p = testing.p_best(goodness)
    against = [
        stats.ttest_rel(goodness[:, 0], goodness[:, other], alternative="greater").pvalue
        for other in (1, 2)
    ]
    assert p[0] == pytest.approx(2 * max(against))
    assert p[0] < 0.05 < p[1]
    assert testing.ranks(goodness).tolist() == [1, 2, 0]


def test_of_two_alike_neither_is_best_more_often_than_the_level() -> None:
    generator = np.random.default_rng(0)
    marks = [testing.ranks(generator.normal(size=(4, 2))).any() for _ in range(1500)]
    assert np.mean(marks) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 1500)


def test_seeds_that_one_row_lacks_are_left_out_of_its_pairs_only() -> None:
    goodness = np.array([[0.9, 0.5, 0.1], [0.91, 0.52, np.nan], [0.95, 0.51, 0.12]])
    assert testing.ranks(goodness[:, :2]).tolist()[0] == 1
    p = testing.p_best(goodness)
    two = stats.ttest_rel(goodness[[0, 2], 0], goodness[[0, 2], 2], alternative="greater").pvalue
    three = stats.ttest_rel(goodness[:, 0], goodness[:, 1], alternative="greater").pvalue
    assert p[0] == pytest.approx(2 * max(two, three))


@pytest.mark.parametrize(
    "goodness", [[[0.9, 0.1]], [[0.9, 0.1], [0.9, 0.1]], [[0.9], [0.8]], [[0.9, np.nan], [0.8] * 2]]
)
def test_nothing_is_best_of_one_seed_of_equal_seeds_or_alone(goodness: list[list[float]]) -> None:
    assert not testing.ranks(np.array(goodness)).any()


def test_the_cross_fitted_gain_counts_only_seeds_that_did_not_choose() -> None:
    gains = np.array([[0.3, 0.0], [0.0, 0.1], [0.0, 0.2]])
    # Without seed 0 the second row is chosen (gain 0 there), without the others the first.
    assert testing.cross_fitted_gain(gains) == pytest.approx(0.0)
    assert testing.cross_fitted_gain(np.array([[0.1], [0.3]])) == pytest.approx(0.2)
    assert math.isnan(testing.cross_fitted_gain(np.array([[0.1, 0.2]])))


def test_of_rows_without_effect_the_cross_fitted_gain_is_none_where_the_highest_mean_is() -> None:
    gains = np.random.default_rng(0).normal(size=(800, 3, 12))
    fresh = np.array([testing.cross_fitted_gain(one) for one in gains])
    assert abs(fresh.mean()) < 3 * fresh.std() / math.sqrt(len(fresh))
    assert gains.mean(axis=1).max(axis=1).mean() > 0.8


@pytest.mark.parametrize("seeds", [3, 5, 30])
def test_what_can_be_detected_is_found_as_often_as_it_says(seeds: int) -> None:
    generator = np.random.default_rng(0)
    rows, repeats = 12, 3000
    seen = generator.normal(size=(repeats, rows, seeds)).std(axis=2, ddof=1) / math.sqrt(seeds)
    sizes = np.array([testing.detectable(errors, seeds, rows) for errors in seen])
    drawn = sizes[:, None] + generator.normal(size=(repeats, seeds))
    p = stats.ttest_1samp(drawn, 0.0, axis=1).pvalue
    # The quantiles of Student added up were found in half the sweeps of three seeds.
    assert float((p < 0.05 / rows).mean()) == pytest.approx(0.8, abs=0.04)


def test_nothing_can_be_detected_without_an_error_or_a_second_seed() -> None:
    assert math.isnan(testing.detectable([math.nan], 3, 4))
    assert math.isnan(testing.detectable([0.1], 1, 4))
