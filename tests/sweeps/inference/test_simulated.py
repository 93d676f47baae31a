"""From a results table with a known truth to the printed sentence: how often each claim is false.

The fast form of benchmarks/inference.py; its bounds leave room for the few repetitions.
"""

from __future__ import annotations

import math

import pytest

from benchmarks.inference import (
    dataset_alarms,
    equivalence,
    found,
    margin_gap,
    null_alarms,
    swinging_alarms,
    true_shortfall,
)

pytestmark = pytest.mark.long
REPEATS = 40
ALLOWED = 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / REPEATS)
"""5 % and what so many repetitions may be off by."""


@pytest.mark.parametrize("seeds", [3, 10])
def test_of_twelve_rows_without_effect_no_sentence_and_no_mark_says_one(seeds: int) -> None:
    alarms = null_alarms(REPEATS, seeds)
    assert set(alarms) >= {"sentence", "equivalent", "tow", "forget_score", "mia_auc"}
    assert max(alarms.values()) <= ALLOWED, alarms


def test_a_row_two_points_off_is_not_as_good_as_retrained_however_many_seeds_there_are() -> None:
    gap = margin_gap()
    assert true_shortfall(gap) == pytest.approx(0.02, abs=0.002)
    for seeds in (3, 30):
        assert equivalence(REPEATS // 2, seeds, gap)["some"] <= ALLOWED + 0.05, seeds


def test_rows_as_good_as_retrained_are_found_with_enough_seeds() -> None:
    assert equivalence(30, 10, 0.0)["some"] > 0.8


def test_what_is_there_is_found_and_nothing_else() -> None:
    ten = found(30, 10, 0.09)
    assert min(ten["better"], ten["best"]) > 0.9
    assert ten["false"] <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 30)


def test_a_row_that_is_off_either_way_is_not_marked_as_closest() -> None:
    assert swinging_alarms(25, 4) == 0.0


def test_datasets_whose_effects_average_to_nothing_do_not_make_an_effect() -> None:
    # Sign flips over all cells called this significant in 29 to 45 %.
    assert dataset_alarms(REPEATS, 3, 3, 0.05) <= ALLOWED
