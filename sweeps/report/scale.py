"""What axis shows a column's numbers: all but what lies far off, and nothing else.

Pure. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

FENCE = 1.5
"""Interquartile ranges beyond the quartiles: Tukey's fence."""
PADDING = 0.08


def shown_range(
    values: Iterable[float], always: Iterable[float] = (), least: float = 1e-9
) -> tuple[float, float] | None:
    """The ends of an axis that single values far from all others do not set.

    A row that forgets too much on purpose lies tens of points below the rest: on an axis that holds
    it, nothing else can be told apart. What lies beyond the ends is drawn at them, and said.

    Args:
        values: What is to be seen; NaN is left out.
        always: What has to be seen wherever it lies, such as controls.
        least: The shortest axis that is worth drawing.

    Returns:
        Ends of the values within Tukey's fences and of what has to be seen, with a little room;
        None without any.
    """
    known, needed = (np.array([x for x in some if np.isfinite(x)]) for some in (values, always))
    if not len(known) + len(needed):
        return None
    if len(known):
        first, third = np.quantile(known, [0.25, 0.75])
        reach = FENCE * max(third - first, least)
        known = known[(known >= first - reach) & (known <= third + reach)]
    kept = np.concatenate([known, needed])
    room = max(PADDING * (kept.max() - kept.min()), least)
    return float(kept.min() - room), float(kept.max() + room)
