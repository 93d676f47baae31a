"""Fits, correlations and distances one number at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence


def cosine_distance(u: Sequence[float], v: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(u, v, strict=True))
    return 1 - product / math.hypot(*u) / math.hypot(*v)


def ranks(values: Sequence[float]) -> list[float]:
    """1 for the smallest; equals share the mean of their places."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def share_of_right_attributes(logits: Sequence[float], labels: Sequence[float]) -> float:
    right = [(logit > 0) == (label == 1) for logit, label in zip(logits, labels, strict=True)]
    return sum(right) / len(right)
