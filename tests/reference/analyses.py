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


def without_seeds(values: Sequence[float], seeds: Sequence[int]) -> list[float]:
    """Every value minus the mean of its seed."""
    found = []
    for value, seed in zip(values, seeds, strict=True):
        own = [v for v, other in zip(values, seeds, strict=True) if other == seed]
        found.append(value - sum(own) / len(own))
    return found


def slope_within(x: Sequence[float], y: Sequence[float], seeds: Sequence[int]) -> float:
    u, v = without_seeds(x, seeds), without_seeds(y, seeds)
    return sum(a * b for a, b in zip(u, v, strict=True)) / sum(a * a for a in u)


def clustered_error(
    x: Sequence[float], y: Sequence[float], people: Sequence[int], seeds: Sequence[int]
) -> float:
    """The sandwich's standard error of a slope with an intercept a seed, clustered by people."""
    u, v = without_seeds(x, seeds), without_seeds(y, seeds)
    spread, slope = sum(a * a for a in u), slope_within(x, y, seeds)
    pulls: dict[int, float] = {}
    for a, b, person in zip(u, v, people, strict=True):
        pulls[person] = pulls.get(person, 0.0) + a * (b - slope * a)
    return math.sqrt(sum(pull**2 for pull in pulls.values())) / spread
