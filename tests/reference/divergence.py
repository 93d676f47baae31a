"""Jensen-Shannon divergence of two distributions, one outcome at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence


def js(p: Sequence[float], q: Sequence[float]) -> float:
    total = 0.0
    for a, b in zip(p, q, strict=True):
        middle = (a + b) / 2
        for value in (a, b):
            if value > 0:
                total += value * math.log2(value / middle) / 2
    return total


def softmax(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def coin(logit: float) -> list[float]:
    p = 1 / (1 + math.exp(-logit))
    return [p, 1 - p]
