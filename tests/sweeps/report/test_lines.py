"""Intervals of the report's lines hold the truth as often as they say (benchmarks/lines.py)."""

from __future__ import annotations

import pytest

from benchmarks.lines import Situation, coverage

REPETITIONS = 200
CHANCE = 0.046
"""Three standard errors of a share of .95."""


def test_intervals_cover_where_people_recur_and_seeds_differ() -> None:
    found = coverage(Situation(people=30, per_seed=20, seeds=3), REPETITIONS)
    assert found["slope"] == pytest.approx(0.95, abs=CHANCE)
    assert found["slope_minus_again"] == pytest.approx(0.95, abs=CHANCE)
    assert found["seeds pooled"] < 0.5
    assert found["points as people"] < 0.95 - CHANCE
