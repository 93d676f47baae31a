"""Measures of requests one after the other, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from oneshui.errors import InputError
from oneshui.metrics.sequence import (
    at_time,
    cumulative,
    drift,
    erosion,
    lost,
    of_people,
    reversal,
    survived,
)

PREDICTED = pd.DataFrame(
    {
        "set": ["retain", "forget", "forget", "forget", "test"],
        "image": [0, 1, 2, 3, 4],
        "identity": [9, 1, 2, 2, 7],
    }
)


def test_who_has_not_asked_yet_is_retained() -> None:
    sets = at_time(PREDICTED, {1})["set"].tolist()
    assert sets == ["retain", "forget", "retain", "retain", "test"]
    assert at_time(PREDICTED, {1, 2})["set"].tolist() == PREDICTED["set"].tolist()
    assert PREDICTED["set"].tolist()[2] == "forget", "the table itself stays as it is"


def test_a_group_alone_is_looked_at_beside_the_other_sets() -> None:
    assert of_people(PREDICTED, {2})["image"].tolist() == [0, 2, 3, 4]


def test_erosion_is_what_is_lost_beyond_retraining() -> None:
    # Of 0.9 before, the model keeps 0.80 and a retrained one 0.86.
    scores, retrained = {"retain": 0.80, "test": 0.7}, {"retain": 0.86, "test": 0.65}
    assert erosion(scores, retrained, "retain") == pytest.approx((0.9 - 0.80) - (0.9 - 0.86))
    assert erosion(scores, retrained, "test") == pytest.approx(-0.05)


def test_what_retraining_happens_to_gain_is_not_lost_by_anybody() -> None:
    scores, before = {"retain": 0.80}, {"retain": 0.83}
    assert lost(scores, before, {"retain": 0.86}, "retain") == pytest.approx(0.03)
    assert lost(scores, before, {"retain": 0.81}, "retain") == pytest.approx(0.01)
    assert lost(before, before, {"retain": 0.86}, "retain") == 0, "of doing nothing"


def test_reversal_is_the_share_of_what_was_forgotten_that_is_back() -> None:
    # Known to 0.9 before and to 0.7 by a retrained model: 0.2 are to be forgotten, 0.05 come back.
    assert reversal(0.77, 0.72, 0.9, 0.7) == pytest.approx(0.25)
    assert reversal(0.68, 0.72, 0.9, 0.7) == pytest.approx(-0.2), "forgotten further"
    assert reversal(0.9, 0.7, 0.9, 0.7) == pytest.approx(1)
    assert reversal(0.75, 0.70, 0.7, 0.695) is None, "nothing was to be forgotten"
    assert reversal(0.75, 0.70, 0.7, 0.9) is None


def test_drift_is_measured_in_ways_to_retraining() -> None:
    before = {"a": np.array([3.0, 4.0]), "b": np.array([0.0])}
    retrained = {"a": np.array([3.0, 4.0]), "b": np.array([2.0])}
    moved = {"a": np.array([3.0, 7.0]), "b": np.array([4.0])}
    assert drift(moved, before, retrained) == pytest.approx(5 / 2)
    assert drift(before, before, retrained) == 0
    assert drift(moved, before, before) is None


def test_the_cumulative_tow_is_the_mean_so_far() -> None:
    assert cumulative([0.9, 0.8, 0.4]) == pytest.approx([0.9, 0.85, 0.7])


TIMES, NOTHING = [5, 10, 20], [0.90, 0.90, 0.90]


@pytest.mark.parametrize(
    ("tow", "less", "floor", "last"),
    [
        ([0.95, 0.95, 0.95], [0.0, 0.0, 0.0], 0.02, 20),
        ([0.95, 0.95, 0.91], [0.0, 0.0, 0.0], 0.02, 10),
        ([0.95, 0.95, 0.95], [0.0, 0.01, 0.011], 0.02, 10),
        # What is worse for a while may be better again: the last time counts.
        ([0.85, 0.95, 0.80], [0.0, 0.0, 0.0], 0.02, 10),
        ([0.91, 0.91, 0.91], [0.0, 0.0, 0.0], 0.02, 0),
        ([0.95, 0.95, 0.95], [0.02, 0.02, 0.02], 0.02, 0),
        ([0.95, 0.95, 0.95], [-0.5, -0.5, -0.5], 0.05, 0),
    ],
)
def test_requests_are_survived_up_to_the_last_that_beats_doing_nothing(
    tow: list[float], less: list[float], floor: float, last: int
) -> None:
    assert survived(TIMES, tow, NOTHING, less, floor) == last


def test_every_time_needs_its_numbers() -> None:
    with pytest.raises(InputError, match="a loss a time"):
        survived([5], [0.9, 0.8], [0.9], [0.0], 0.0)
