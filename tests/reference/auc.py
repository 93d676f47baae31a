"""AUC by its definition: every positive against every negative."""

from __future__ import annotations

import math
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


def auc_error(positives: int, negatives: int) -> float:
    """Standard deviation of the AUC of scores that tell nothing (Mann and Whitney, 1947)."""
    return math.sqrt((positives + negatives + 1) / (12 * positives * negatives))
