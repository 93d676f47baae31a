"""Intervals against known values, SciPy, and how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.inference import KINDS, Kind, coverage, overall_coverage
from oneshui.errors import InputError
from sweeps.inference import intervals


def test_the_interval_of_three_values_is_the_textbooks() -> None:
    # Mean 2, standard error 1 / sqrt(3), and 4.303 is Student's quantile at 2 degrees of freedom.
    half = 4.302652729911275 / math.sqrt(3)
    assert intervals.t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half))


def test_it_is_scipys() -> None:
    values = np.random.default_rng(3).normal(0.7, 0.1, size=9)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval()
    assert intervals.t_interval(values) == pytest.approx((theirs.low, theirs.high))
    less = stats.ttest_1samp(values, 0.0).confidence_interval(0.8)
    assert intervals.t_interval(values, 0.8) == pytest.approx((less.low, less.high))


def test_many_samples_with_gaps_have_the_intervals_of_each() -> None:
    table = np.array([[0.1, 0.4, 0.2], [0.5, np.nan, 0.7], [np.nan, 0.3, np.nan]])
    found = intervals.t_intervals(table)
    assert found[0] == pytest.approx(intervals.t_interval([0.1, 0.4, 0.2]))
    assert found[1] == pytest.approx(intervals.t_interval([0.5, 0.7]))
    assert np.isnan(found[2]).all()


@pytest.mark.parametrize("values", [[], [0.5]])
def test_one_value_has_no_interval(values: list[float]) -> None:
    assert all(map(math.isnan, intervals.t_interval(values)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seeds", [3, 5, 10, 30])
def test_95_percent_intervals_hold_the_truth_in_93_to_97_percent(kind: Kind, seeds: int) -> None:
    assert 0.93 <= coverage(kind, 6000, seeds) <= 0.97


def test_the_bootstrap_of_three_seeds_did_not() -> None:
    # What the report printed before: the percentile interval of three values.
    values = np.random.default_rng(0).normal(size=(4000, 3))
    picks = np.random.default_rng(1).integers(3, size=(500, 3))
    means = values[:, picks].mean(axis=2)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert 0.70 <= float(((low <= 0) & (high >= 0)).mean()) <= 0.80


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.3, 0.1, 0.8], 0.4),  # nothing can be cut off
        ([9.0, 0.2, 0.4, -9.0], 0.3),
        ([7.0, 1.0, 2.0, 3.0, 0.0], 2.0),  # one of five at each end
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 70.0, 80.0], 4.5),  # two of eight
        ([], math.nan),
    ],
)
def test_the_interquartile_mean_cuts_a_quarter_off_each_end(
    values: list[float], expected: float
) -> None:
    assert intervals.interquartile_mean(values) == pytest.approx(expected, nan_ok=True)
    if values:
        (found,) = intervals.interquartile_mean_of([np.array([values])])
        assert found == pytest.approx(expected)


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(InputError, match="expected finite numbers, but 1 are not"):
        intervals.t_interval([0.5, math.nan])


def test_a_ratio_is_of_the_means_and_not_the_mean_of_ratios() -> None:
    ratio, low, high = intervals.ratio_of_means([0.1, 0.2, 0.3], [0.2, 0.3, 0.4])
    assert ratio == pytest.approx(0.2 / 0.3)
    assert low < ratio < high


def test_fiellers_ends_are_where_the_difference_is_just_significant() -> None:
    top, bottom = np.array([0.11, 0.18, 0.32, 0.2]), np.array([0.31, 0.3, 0.42, 0.35])
    _, *ends = intervals.ratio_of_means(top, bottom)
    for end in ends:
        assert stats.ttest_1samp(top - end * bottom, 0.0).pvalue == pytest.approx(0.05)


@pytest.mark.parametrize(
    "bottom",
    [
        [0.3],  # one seed has no standard error
        [0.1, 0.3, -0.2],  # under three standard errors
        [-0.3, -0.31, -0.32],  # retraining is worse than doing nothing
    ],
)
def test_a_ratio_over_next_to_nothing_is_none(bottom: list[float]) -> None:
    assert all(map(math.isnan, intervals.ratio_of_means([0.1] * len(bottom), bottom)))


def test_a_ratio_whose_interval_is_not_bounded_has_no_ends() -> None:
    # The denominator is 3.5 standard errors above zero, Student's quantile of three seeds 4.3.
    bottom = np.array([1.0, 1.0, 1.0]) + np.array([-1, 0, 1]) * math.sqrt(3) / 3.5
    ratio, low, high = intervals.ratio_of_means([0.5, 0.6, 0.7], bottom)
    assert ratio == pytest.approx(0.6)
    assert math.isnan(low)
    assert math.isnan(high)


def test_intervals_over_datasets_and_sizes_hold_the_truth() -> None:
    for seeds in (3, 10):
        found = overall_coverage(400, seeds, 6)
        assert 0.92 <= found["mean"] <= 0.99, (seeds, found)
        assert 0.92 <= found["iqm"] <= 0.995, (seeds, found)


def test_an_interval_over_strata_is_reproducible_and_needs_two_of_each() -> None:
    strata = [[0.1, 0.2, 0.3], [0.7, 0.8, 0.75]]
    one, again = (intervals.stratified_interval(strata, intervals.mean_of) for _ in range(2))
    assert one == again
    assert one[0] < 0.475 < one[1]
    lonely = intervals.stratified_interval([[0.1, 0.2], [0.3]], intervals.mean_of)
    assert all(map(math.isnan, lonely))
    alike = intervals.stratified_interval([[0.5, 0.5], [0.7, 0.7]], intervals.mean_of)
    assert alike == pytest.approx((0.6, 0.6))
