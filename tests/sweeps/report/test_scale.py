"""Axes that what lies far off does not set."""

from __future__ import annotations

import math

import pytest

from sweeps.report.scale import shown_range


def test_a_value_far_off_does_not_set_the_axis() -> None:
    assert shown_range([72, 74, 75, 76, 82, 20]) == pytest.approx((71.2, 82.8))


def test_controls_are_seen_wherever_they_lie() -> None:
    assert shown_range([72, 74, 75, 76, 82, 20], [97]) == pytest.approx((70, 99))
    assert shown_range([], [0.5, math.nan]) == pytest.approx((0.5, 0.5))


def test_an_axis_has_a_length_and_nothing_has_none() -> None:
    assert shown_range([3.0, 3.0], least=0.5) == (2.5, 3.5)
    assert shown_range([math.nan]) is None
