"""AUC by its definition: every positive against every negative."""

from __future__ import annotations

from collections.abc import Sequence


def auc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    wins = 0.0
    for positive in positives:
        for negative in negatives:
            if positive > negative:
                wins += 1
            elif positive == negative:
                wins += 0.5
    return wins / (len(positives) * len(negatives))
