"""Statistics against slow obvious computations, scipy, and known values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support.result_frames import frame_of as result_frame
from support.result_frames import row

from oneshui.errors import InputError
from sweeps.report import statistics

NUMBERS = st.lists(
    st.floats(-1, 1, allow_nan=False).map(lambda value: round(value, 3)), min_size=2, max_size=9
)


def frame_of(values: dict[str, list[float | None]]) -> pd.DataFrame:
    """ToW by row and seed; rows have the role that they are called after, others unlearn."""
    return result_frame(
        [row(name, seed, tow) for name, tows in values.items() for seed, tow in enumerate(tows)]
    )


def test_the_interval_of_few_values_is_that_of_every_resample() -> None:
    values = [0.1, 0.4, 0.35, 0.8]
    means = [np.mean(pick) for pick in itertools.product(values, repeat=4)]
    expected = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    assert statistics.bootstrap_interval(values) == pytest.approx(tuple(expected))


def test_the_interval_of_many_values_is_near_scipys() -> None:
    values = np.random.default_rng(3).normal(0.7, 0.1, size=40)
    found = statistics.bootstrap_interval(values)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.005)
    assert found == statistics.bootstrap_interval(values)


@given(NUMBERS)
def test_the_interval_lies_within_the_values(values: list[float]) -> None:
    low, high = statistics.bootstrap_interval(values)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_one_value_has_no_interval() -> None:
    assert all(map(math.isnan, statistics.bootstrap_interval([0.5])))
    assert all(map(math.isnan, statistics.bootstrap_interval([])))


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
    assert statistics.interquartile_mean(values) == pytest.approx(expected, nan_ok=True)


def test_an_outlier_does_not_move_the_interquartile_mean() -> None:
    assert statistics.interquartile_mean([1, 1, 1, 1, 1, 1, 1, 100]) == 1


@given(NUMBERS)
@settings(max_examples=40, deadline=None)
def test_the_sign_flip_test_is_scipys_exact_permutation_test(values: list[float]) -> None:
    found = statistics.paired_p(values)
    if not any(values):
        assert found == 1
        return
    reached = abs(sum(values)) - 1e-9
    flips = itertools.product([1, -1], repeat=len(values))
    sums = [sum(s * v for s, v in zip(signs, values, strict=True)) for signs in flips]
    assert found == pytest.approx(np.mean([abs(total) >= reached for total in sums]))


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.1], 1.0),
        ([0.1, 0.2, 0.3], 2 / 8),
        ([1.0, -1.0, 2.0], 6 / 8),  # only the two patterns with 1 - 1 of one sign and 2 fall short
        ([0.1] * 18, 2 / 2**18),
        ([0.3, -0.6, 0.9, -0.3], 1.0),  # as far as the smallest of all but for rounding
        ([], math.nan),
    ],
)
def test_p_counts_the_signs_that_reach_as_far(differences: list[float], expected: float) -> None:
    assert statistics.paired_p(differences) == pytest.approx(expected, nan_ok=True)


def test_many_pairs_are_tested_by_signed_ranks() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.05, size=30)
    assert statistics.paired_p(values) == pytest.approx(float(stats.wilcoxon(values).pvalue))


def test_three_clear_wins_are_not_significant_and_it_is_said() -> None:
    frame = frame_of({"pretrain": [0.5, 0.6, 0.7], "ssd": [0.9, 0.95, 0.99]})
    (test,) = statistics.compare(frame, [("ssd", "pretrain")])
    assert test.p == test.smallest_p == 0.25
    assert test.difference == pytest.approx(np.mean([0.4, 0.35, 0.29]))
    said = statistics.support_statement([test])
    assert "3 cells" in said
    assert "0.25" in said
    assert "no difference" in said


def test_six_cells_support_one_comparison_but_not_five() -> None:
    level = [0.5, 0.6, 0.7, 0.5, 0.6, 0.7]
    rows: dict[str, list[float | None]] = {"pretrain": [*level]}
    rows |= {f"m{i}": [value + 0.1 + i / 100 for value in level] for i in range(5)}
    one = statistics.compare(frame_of(rows), [("m0", "pretrain")])
    assert one[0].p == pytest.approx(2 / 64)
    assert "Exact paired tests over 6 cells" in statistics.support_statement(one)
    five = statistics.compare(frame_of(rows), [(f"m{i}", "pretrain") for i in range(5)])
    assert [test.p_holm for test in five] == pytest.approx([5 * 2 / 64] * 5)
    assert "Holm's correction no single row" in statistics.support_statement(five)


def test_only_cells_that_have_both_rows_count() -> None:
    frame = frame_of({"pretrain": [0.5, 0.6, None], "ssd": [0.6, None, 0.9]})
    (test,) = statistics.compare(frame, [("ssd", "pretrain")])
    assert test.num_cells == 1
    (absent,) = statistics.compare(frame, [("ssd", "nobody")])
    assert absent.num_cells == 0
    assert math.isnan(absent.p_holm)
    assert statistics.support_statement([absent]) == ""


def test_holm_is_the_textbook_example() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx(
        [0.03, 0.06, 0.06, math.nan], nan_ok=True
    )
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_the_best_row_is_compared_with_every_other() -> None:
    frame = frame_of({"pretrain": [0.5, 0.5], "a": [0.6, 0.6], "b": [0.9, 0.8], "c": [0.7, 0.7]})
    tests = statistics.comparisons(frame)
    assert [(t.method, t.other) for t in tests] == [
        ("a", "pretrain"),
        ("b", "pretrain"),
        ("c", "pretrain"),
        ("b", "a"),
        ("b", "c"),
    ]


def test_the_noise_floor_is_the_worst_pair_of_retrained_models() -> None:
    frame = frame_of({"retrain": [1.0, 1.0], "retrain_again": [0.97, 0.95], "ssd": [0.9, 0.9]})
    (floor,) = statistics.noise_floor(frame).values()
    assert floor == statistics.NoiseFloor(num_pairs=2, tow=0.95)
    assert statistics.noise_floor(frame[frame["method"] != "retrain_again"]) == {}


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(InputError, match="expected finite numbers"):
        statistics.bootstrap_interval([0.5, math.nan])


def test_what_a_row_is_called_says_nothing() -> None:
    rows = [row("gold", 0, 1.0, role="retrain", access="full")]
    rows += [row("again", 0, 0.97, role="retrain_again", access="full")]
    rows += [row("nothing", 0, 0.5, role="pretrain")]
    rows += [row(name, 0, 0.7, role="method") for name in ("retrain_free", "pretrain_less")]
    rows += [row("ssd@oracle", 0, 0.6, tuning="support_only"), row("jit", 0, 0.9, tuning="oracle")]
    rows += [row("pgu", 0, 0.9, tuning="support_and_val"), row("scar", 0, 0.6, tuning="simulated")]
    frame = result_frame([*rows, row("scrub", 0, 0.9)])
    assert statistics.noise_floor(frame) == {
        ("synthetic", 20): statistics.NoiseFloor(num_pairs=1, tow=0.97)
    }
    ranked = statistics.names(frame[statistics.is_ranked(frame)])
    assert ranked == ["retrain_free", "pretrain_less", "ssd@oracle", "scar"]
    pairs = [(test.method, test.other) for test in statistics.comparisons(frame)]
    assert pairs[:4] == [(name, "nothing") for name in ranked]


def test_every_dataset_and_forget_size_has_a_noise_floor_of_its_own() -> None:
    again = [
        row("retrain_again", seed, tow, dataset=dataset, num_forget=size)
        for dataset, size, tows in (
            ("a", 5, (0.9, 0.8)),
            ("a", 20, (0.99, None)),
            ("b", 5, (None, None)),
        )
        for seed, tow in enumerate(tows)
    ]
    assert statistics.noise_floor(result_frame(again)) == {
        ("a", 5): statistics.NoiseFloor(num_pairs=2, tow=0.8),
        ("a", 20): statistics.NoiseFloor(num_pairs=1, tow=0.99),
    }


def test_what_the_cells_can_support_is_said_in_full() -> None:
    def said(cells: int, rows: int) -> str:
        values: dict[str, list[float | None]] = {"pretrain": [0.5] * cells}
        values |= {f"m{i}": [0.6 + i / 100] * cells for i in range(rows)}
        pairs = [(f"m{i}", "pretrain") for i in range(rows)]
        return statistics.support_statement(statistics.compare(frame_of(values), pairs))

    assert said(1, 1) == (
        "With 1 cell the smallest p of a paired test is 1: no difference between rows can be "
        "called significant at 0.05, whatever it is. Add seeds."
    )
    assert said(5, 1).startswith("With 5 cells the smallest p of a paired test is 0.062: no")
    assert said(6, 2) == (
        "With 6 cells the smallest p is 0.031, and 2 rows are compared: after Holm's correction "
        "no single row can be significant at 0.05. Add seeds."
    )
    assert said(7, 3) == (
        "Exact paired tests over 7 cells (dataset, forget size and seed), p after Holm's "
        "correction; cells of one dataset share their pictures, so read the p as a lower bound."
    )


def test_the_difference_is_the_first_row_minus_the_second() -> None:
    frame = frame_of({"a": [0.6, 0.5], "b": [0.5, 0.3]})
    forth, back = statistics.compare(frame, [("a", "b"), ("b", "a")])
    assert (forth.difference, forth.low, forth.high) == pytest.approx((0.15, 0.1, 0.2))
    assert (back.difference, back.low, back.high) == pytest.approx((-0.15, -0.2, -0.1))


def test_the_best_row_is_best_where_all_rows_are() -> None:
    # Alone, "a" has the highest mean; over the cells that all have, "b".
    frame = frame_of({"a": [0.5, 0.5, 0.9], "b": [0.6, 0.6, None], "c": [0.4, 0.4, 0.4]})
    assert statistics.best_row(frame, ["a", "b", "c"]) == "b"
    assert statistics.best_row(frame, ["a", "c"]) == "a"
    nowhere = frame_of({"a": [0.5, None], "b": [None, 0.6]})
    assert statistics.best_row(nowhere, ["a", "b"]) is None
