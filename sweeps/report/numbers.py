"""Differences as people read them."""

from __future__ import annotations


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign, never -0.0: what rounds to nothing has the sign of nothing."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"
