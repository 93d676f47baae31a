"""What an attack's scores are worth: ROC curve, AUC, TPR at a small FPR.

Members (the images under attack) are the positives; a larger score means "member". Everything is
a fraction in [0, 1]. A false-positive rate below 1/m cannot be observed on m non-members: nothing
here interpolates one. One of 1/m is a single image; rates are reported from 10/m on.
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

ScoreArray: TypeAlias = Sequence[float] | npt.NDArray[Any] | Any
"""One score per image, [n]: an array, a tensor, or numbers."""

Array = npt.NDArray[np.float64]

FPRS: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""The false-positive rates at which attacks are compared, where the sample resolves them."""

FEWEST_FALSE_POSITIVES = 10
"""Of a rate that is reported: what hangs on fewer images says more of them than of the attack."""

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


def roc(member_scores: ScoreArray, nonmember_scores: ScoreArray) -> Roc:
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


def auc(member_scores: ScoreArray, nonmember_scores: ScoreArray) -> float:
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


def reportable_fprs(num_nonmembers: int, fprs: Sequence[float] = FPRS) -> tuple[float, ...]:
    """Those false-positive rates that are ten or more of this many non-members, at least 10/m.

    Args:
        num_nonmembers: m.
        fprs: Candidates.

    Raises:
        InputError: There is no non-member.
    """
    if num_nonmembers < 1:
        raise InputError("no false-positive rate can be observed without a non-member")
    fewest = FEWEST_FALSE_POSITIVES - _ROUNDING
    return tuple(fpr for fpr in fprs if fpr * num_nonmembers >= fewest)


def tpr_at_fpr(member_scores: ScoreArray, nonmember_scores: ScoreArray, *, fpr: float) -> float:
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
    if not fpr <= 1 or fpr * len(nonmembers) < 1 - _ROUNDING:
        raise InputError(
            f"TPR at FPR {fpr:g} cannot be measured with {len(nonmembers)} non-members: the "
            f"smallest FPR that they resolve is {1 / len(nonmembers):g} (and the largest is 1)"
        )
    allowed = math.floor(fpr * len(nonmembers) + _ROUNDING)
    return float(_tpr(members, nonmembers, np.array([allowed]))[0])


def log_log_points(
    member_scores: ScoreArray, nonmember_scores: ScoreArray, *, num_points: int = 200
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


def _sorted_pair(member_scores: ScoreArray, nonmember_scores: ScoreArray) -> tuple[Array, Array]:
    return _sorted(member_scores, "members"), _sorted(nonmember_scores, "non-members")


def _sorted(values: ScoreArray, whose: str) -> Array:
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
