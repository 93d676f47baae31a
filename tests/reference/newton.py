"""Newton's step one picture, one output and one pair of features at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Rows = Sequence[Sequence[float]]


def _softmax(logits: Sequence[float]) -> list[float]:
    weights = [math.exp(z - max(logits)) for z in logits]
    return [weight / sum(weights) for weight in weights]


def _logits(features: Sequence[float], weights: Rows) -> list[float]:
    return [sum(w * z for w, z in zip(row, features, strict=True)) for row in weights]


def hessian(features: Rows, weights: Rows, task: str) -> np.ndarray:
    """[C D, C D], also for attributes, whose outputs do not meet each other."""
    count, size = len(weights), len(weights[0])
    total = np.zeros((count * size, count * size))
    for z in features:
        logits = _logits(z, weights)
        for c in range(count):
            for d in range(count):
                if task == "multilabel":
                    one = 1 / (1 + math.exp(-logits[c]))
                    factor = one * (1 - one) if c == d else 0.0
                else:
                    p = _softmax(logits)
                    factor = p[c] * ((c == d) - p[d])
                for i in range(size):
                    for j in range(size):
                        total[c * size + i, d * size + j] += factor * z[i] * z[j]
    return total


def gradient(features: Rows, labels: Rows, weights: Rows, task: str) -> np.ndarray:
    """[C D]; labels 0 or 1 for every output, of classes too."""
    count, size = len(weights), len(weights[0])
    total = np.zeros(count * size)
    for z, y in zip(features, labels, strict=True):
        logits = _logits(z, weights)
        for c in range(count):
            p = 1 / (1 + math.exp(-logits[c])) if task == "multilabel" else _softmax(logits)[c]
            for i in range(size):
                total[c * size + i] += (p - y[c]) * z[i]
    return total
