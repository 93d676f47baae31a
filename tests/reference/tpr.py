"""TPR at an FPR by trying every threshold."""

from __future__ import annotations

from collections.abc import Sequence


def tpr_at_fpr(members: Sequence[float], nonmembers: Sequence[float], fpr: float) -> float:
    best = 0.0
    for threshold in [*members, *nonmembers, float("inf")]:
        false = sum(score >= threshold for score in nonmembers) / len(nonmembers)
        true = sum(score >= threshold for score in members) / len(members)
        if false <= fpr:
            best = max(best, true)
    return best
