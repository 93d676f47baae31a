"""Differences as people read them."""

from __future__ import annotations

import pytest

from sweeps.report.numbers import signed


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.04, 1, "+0.0"),
        (-0.04, 1, "+0.0"),
        (-0.06, 1, "-0.1"),
        (12.345, 2, "+12.35"),
        (-3, 0, "-3"),
    ],
)
def test_what_rounds_to_nothing_has_no_minus(value: float, digits: int, text: str) -> None:
    assert signed(value, digits) == text
