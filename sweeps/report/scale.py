"""What axis shows a column's numbers: all but what lies far off, and nothing else.

Pure. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

SHARE = 0.6
"""Of an axis: what makes the rest shorter than this by its absence lies far off."""
PADDING = 0.08


def shown_range(
    values: Iterable[float], always: Iterable[float] = (), least: float = 1e-9
) -> tuple[float, float] | None:
    """The ends of an axis that a few values far from all others do not set.

    A row that forgets too much on purpose lies tens of points below the rest: on an axis that holds
    it, nothing else can be told apart. What lies beyond the ends is drawn at them, and said.

    Args:
        values: What is to be seen; NaN is left out.
        always: What has to be seen wherever it lies, such as controls.
        least: The shortest axis that is worth drawing.

    Returns:
        Lowest and highest value, with a little room; without up to a quarter of the values at the
        ends, if the axis is shorter than ``SHARE`` of itself without them. None without any value.
    """
    known = sorted(value for value in values if math.isfinite(value))
    needed = [value for value in always if math.isfinite(value)]
    if not known and not needed:
        return None
    most = len(known) // 4
    for count in range(1, most + 1):
        if _span([*known[count:], *needed]) < SHARE * _span([*known, *needed]):
            known, most = known[count:], most - count
            break
    for count in range(1, most + 1):
        if _span([*known[:-count], *needed]) < SHARE * _span([*known, *needed]):
            known = known[:-count]
            break
    kept = [*known, *needed]
    room = max(PADDING * _span(kept), least)
    return min(kept) - room, max(kept) + room


def _span(values: Sequence[float]) -> float:
    return max(values) - min(values)
