"""What an attack's scores are worth: ROC curve, AUC with an interval, TPR at a small FPR.

Members (the images under attack) are the positives; a larger score means "member". Everything is
a fraction in [0, 1]. A false-positive rate below 1/m cannot be observed on m non-members: nothing
here interpolates one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.errors import InputError
from oneshui.metrics.scores import as_numpy

Scores: TypeAlias = Sequence[float] | npt.NDArray[Any] | Any
"""One score per image, [n]: an array, a tensor, or numbers."""

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

FPRS: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""The false-positive rates at which attacks are compared, where the sample resolves them."""

_COUNTS_AT_ONCE = 4_000_000
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Roc:
    """A ROC curve, from (0, 0) to (1, 1), one point per distinct score.

    Attributes:
        thresholds: "Member" is said where the score is at least this; infinity at first, float64
            [k], falling.
        fpr: Share of non-members that are called members, [k], rising.
        tpr: Share of members that are called members, [k], rising.
    """

    thresholds: Array
    fpr: Array
    tpr: Array


def roc(member_scores: Scores, nonmember_scores: Scores) -> Roc:
    """The ROC curve of an attack.

    Args:
        member_scores: [n].
        nonmember_scores: [m].

    Raises:
        InputError: A set is empty or holds a score that is not finite.
    """
    members, nonmembers = _sorted_pair(member_scores, nonmember_scores)
    thresholds = np.unique(np.concatenate([members, nonmembers]))[::-1]
    return Roc(
        thresholds=np.concatenate([[np.inf], thresholds]),
        fpr=np.concatenate([[0.0], _share_at_least(nonmembers, thresholds)]),
        tpr=np.concatenate([[0.0], _share_at_least(members, thresholds)]),
    )


def auc(member_scores: Scores, nonmember_scores: Scores) -> float:
    """Area under the ROC curve: P(member's score > non-member's) + P(equal)/2.

    Args:
        member_scores: [n].
        nonmember_scores: [m].

    Raises:
        InputError: A set is empty or holds a score that is not finite.
    """
    members, nonmembers = _sorted_pair(member_scores, nonmember_scores)
    below = np.searchsorted(nonmembers, members, side="left")
    not_above = np.searchsorted(nonmembers, members, side="right")
    return float((below + not_above).mean() / (2 * len(nonmembers)))


def auc_interval(
    member_scores: Scores,
    nonmember_scores: Scores,
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = 1000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the AUC; members and non-members are drawn apart.

    Images of one identity are drawn as if they were independent, so the interval is somewhat too
    narrow where identities have many images.

    Args:
        member_scores: [n].
        nonmember_scores: [m].
        seed: Of the drawing.
        level: Share of the resamples inside the interval.
        resamples: How many samples are drawn.

    Raises:
        InputError: As ``auc``, or ``level`` or ``resamples`` is out of range.
    """
    if not 0 < level < 1 or resamples < 1:
        raise InputError(
            f"a bootstrap needs a level between 0 and 1 and at least one resample, but got level "
            f"{level} and {resamples} resamples"
        )
    of_members, of_others = _runs(*_sorted_pair(member_scores, nonmember_scores))
    num_members, num_others = of_members.sum(), of_others.sum()
    generator = np.random.default_rng(seed)
    step = max(1, _COUNTS_AT_ONCE // len(of_members))
    parts = []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        members = generator.multinomial(num_members, of_members / num_members, size=size)
        others = generator.multinomial(num_others, of_others / num_others, size=size)
        twice_below = 2 * np.cumsum(others, axis=1) - others
        parts.append((members * twice_below).sum(axis=1) / (2 * num_members * num_others))
    low, high = np.quantile(np.concatenate(parts), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resolvable_fprs(num_nonmembers: int, fprs: Sequence[float] = FPRS) -> tuple[float, ...]:
    """Those false-positive rates that this many non-members can resolve, at least 1/m.

    Args:
        num_nonmembers: m.
        fprs: Candidates.

    Raises:
        InputError: There is no non-member.
    """
    if num_nonmembers < 1:
        raise InputError("no false-positive rate can be observed without a non-member")
    return tuple(fpr for fpr in fprs if fpr * num_nonmembers >= 1 - _ROUNDING)


def tpr_at_fpr(member_scores: Scores, nonmember_scores: Scores, *, fpr: float) -> float:
    """The largest true-positive rate of a threshold whose false-positive rate is at most ``fpr``.

    It moves in steps of 1/n of the n members.

    Args:
        member_scores: [n].
        nonmember_scores: [m].
        fpr: At least 1/m.

    Raises:
        InputError: As ``auc``, or m non-members cannot resolve ``fpr``.
    """
    members, nonmembers = _sorted_pair(member_scores, nonmember_scores)
    if not fpr <= 1 or fpr not in resolvable_fprs(len(nonmembers), (fpr,)):
        raise InputError(
            f"TPR at FPR {fpr:g} cannot be measured with {len(nonmembers)} non-members: the "
            f"smallest FPR that they resolve is {1 / len(nonmembers):g} (and the largest is 1)"
        )
    allowed = math.floor(fpr * len(nonmembers) + _ROUNDING)
    return float(_tpr(members, nonmembers, np.array([allowed]))[0])


def log_log_points(
    member_scores: Scores, nonmember_scores: Scores, *, num_points: int = 200
) -> pd.DataFrame:
    """The ROC curve for axes with logarithmic scales, thinned.

    Args:
        member_scores: [n].
        nonmember_scores: [m].
        num_points: At most so many, evenly spread over the logarithm of the FPR.

    Returns:
        Columns ``fpr`` (rising from 1/m to 1, all of them observable) and ``tpr`` (the largest
        at that FPR). Points of TPR 0, which have no logarithm, are left out.

    Raises:
        InputError: As ``auc``, or fewer than two points are asked for.
    """
    if num_points < 2:
        raise InputError(f"a curve of {num_points} points cannot be drawn; ask for at least 2")
    members, nonmembers = _sorted_pair(member_scores, nonmember_scores)
    counts = np.unique(np.geomspace(1, len(nonmembers), num_points).round().astype(np.int64))
    points = pd.DataFrame(
        {"fpr": counts / len(nonmembers), "tpr": _tpr(members, nonmembers, counts)}
    )
    return points[points["tpr"] > 0].reset_index(drop=True)


def _tpr(members: Array, nonmembers: Array, false_positives: npt.NDArray[np.int64]) -> Array:
    """Largest share of members above a threshold with at most so many non-members above it."""
    # The first non-member that must stay outside is the threshold, and its equals stay outside.
    outside = len(nonmembers) - 1 - false_positives
    thresholds = np.where(outside >= 0, nonmembers[np.maximum(outside, 0)], -np.inf)
    return (len(members) - np.searchsorted(members, thresholds, side="right")) / len(members)


def _share_at_least(ordered: Array, thresholds: Array) -> Array:
    return (len(ordered) - np.searchsorted(ordered, thresholds, side="left")) / len(ordered)


def _runs(members: Array, nonmembers: Array) -> tuple[Counts, Counts]:
    """How many members and non-members each run of the joint order holds, [runs] twice.

    A run is one score that both have, or as many neighbouring scores as only one of them has: the
    AUC depends on nothing else, and there are few runs where there are few members.
    """
    scores, place = np.unique(np.concatenate([members, nonmembers]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(scores)) for part in np.split(place, [len(members)])]
    has_member, has_other = (part > 0 for part in counts)
    is_first = has_member & has_other
    is_first[0] = True
    is_first[1:] |= (has_member[1:] != has_member[:-1]) | (has_other[1:] != has_other[:-1])
    starts = np.flatnonzero(is_first)
    of_members, of_others = (np.add.reduceat(part, starts) for part in counts)
    return of_members, of_others


def _sorted_pair(member_scores: Scores, nonmember_scores: Scores) -> tuple[Array, Array]:
    return _sorted(member_scores, "members"), _sorted(nonmember_scores, "non-members")


def _sorted(values: Scores, whose: str) -> Array:
    scores = as_numpy(values).astype(np.float64)
    if scores.ndim != 1 or len(scores) == 0:
        raise InputError(
            f"the scores of the {whose} have shape {scores.shape}, but an attack is judged by one "
            "score for each of at least one image"
        )
    if not np.isfinite(scores).all():
        raise InputError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores of the {whose} are not "
            "finite, so the attack cannot be judged"
        )
    return np.sort(scores)
