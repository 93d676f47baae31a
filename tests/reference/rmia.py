"""RMIA one pair of images and one view at a time, as published and as the authors coded it.

Losses are indexed ``losses[view][image]``, those of reference models ``[model][view][image]``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Losses = Sequence[Sequence[float]] | Any


def ratio(target: float, references: Sequence[float], a: float) -> float:
    out = sum(math.exp(-loss) for loss in references) / len(references)
    return math.exp(-target) / (((1 + a) * out + (1 - a)) / 2)


def published_scores(
    x: Losses, x_references: Any, z: Losses, z_references: Any, a: float, gamma: float
) -> list[float]:
    scores = []
    for i in range(len(x[0])):
        wins = 0
        for view in range(len(x)):
            of_x = ratio(x[view][i], [model[view][i] for model in x_references], a)
            for j in range(len(z[0])):
                of_z = ratio(z[view][j], [model[view][j] for model in z_references], a)
                wins += of_x / of_z > gamma
        scores.append(wins / (len(x) * len(z[0])))
    return scores


def reference_scores(
    x: Losses, x_reference: Losses, z: Losses, z_reference: Losses, a: float, gamma: float
) -> list[float]:
    def mix(loss: float) -> float:
        return ((1 + a) * loss + 1 - a) / 2

    scores = []
    for i in range(len(x[0])):
        called = 0
        for j in range(len(z[0])):
            votes = 0
            for view in range(len(x)):
                of_x = x[view][i] / x_reference[view][i] / mix(x_reference[view][i])
                of_z = z_reference[view][j] / z[view][j] / mix(z_reference[view][j])
                votes += of_x * of_z > gamma
            called += votes > 4
        scores.append(-called / len(z[0]))
    return scores
