r"""How a model fares that serves one request after the other.

N people ask in an order, n at a time. theta_0 is the pretrained model, theta_t the one after t
people have been forgotten, R_t a model retrained without those t people (and without anybody's
support picture). D_f(t) holds the pictures of the t people; those of whoever asks later belong to
D_r(t). s_X(M) is the score of a model M on a set X, mAP or accuracy, as a fraction in [0, 1].

The measures follow *SAFER* (arXiv 2604.19108: ToW per phase, knowledge erosion, forgetting
reversal); the retrained models at several times, and how many requests are survived, are ours.
Frames are predictions as ``oneshui.training.predict.predict`` gives them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from oneshui.errors import InputError
from oneshui.metrics.divergence import weight_distance
from oneshui.metrics.scores import ArrayLike

LEAST_TO_FORGET = 0.01
"""Of a score: what a pretrained model must know of people beyond a retrained one, before it can be
said which share of it came back."""
MOST_LOST = 0.01
"""Of the score on D_r(t): more must not have been lost where requests count as survived."""


def at_time(predictions: pd.DataFrame, forgotten: Collection[int]) -> pd.DataFrame:
    """The predictions with the sets that they belong to when some of the people are forgotten.

    Args:
        predictions: On the sets of the whole cell, whose forget set is D_f(N).
        forgotten: Identities of the t people; the pictures of the others become retained ones.
    """
    later = predictions["set"].eq("forget") & ~predictions["identity"].isin(list(forgotten))
    return predictions.assign(set=predictions["set"].astype(str).mask(later, "retain"))


def of_people(predictions: pd.DataFrame, people: Collection[int]) -> pd.DataFrame:
    """The predictions with some of the people alone in the forget set, the other sets whole."""
    others = predictions["set"].eq("forget") & ~predictions["identity"].isin(list(people))
    return predictions[~others]


def erosion(scores: Mapping[str, float], retrained: Mapping[str, float], name: str) -> float:
    """What the requests cost those who stay, beyond what forgetting costs by itself.

    (s_X(theta_0) - s_X(theta_t)) - (s_X(theta_0) - s_X(R_t)), in which the pretrained model drops
    out: s_X(R_t) - s_X(theta_t). In [-1, 1]; above 0, the model knows less than a retrained one.

    Args:
        scores: Of theta_t, by set.
        retrained: Of R_t.
        name: X: "retain" for D_r(t), "test" or "val".
    """
    return retrained[name] - scores[name]


def lost(
    scores: Mapping[str, float],
    pretrained: Mapping[str, float],
    retrained: Mapping[str, float],
    name: str,
) -> float:
    """What those who stay have lost, by the kinder of two yardsticks.

    min(s_X(R_t), s_X(theta_0)) - s_X(theta_t): where retraining happens to score higher than the
    pretrained model did, doing nothing would have an erosion too, and that is nobody's fault.

    Args:
        scores: Of theta_t, by set.
        pretrained: Of theta_0.
        retrained: Of R_t.
        name: X.
    """
    return min(retrained[name], pretrained[name]) - scores[name]


def reversal(later: float, just_after: float, pretrained: float, retrained: float) -> float | None:
    """Which share of what was forgotten of a group j of people has come back at a later time t.

    (s_j(theta_t) - s_j(theta_j)) / (s_j(theta_0) - s_j(R_t)), theta_j being the model just after
    they were forgotten. Above 0 it comes back, at 1 as well known as ever; below 0 later requests
    went on forgetting them.

    Args:
        later: Score of theta_t on the group's pictures.
        just_after: Of theta_j.
        pretrained: Of theta_0.
        retrained: Of R_t.

    Returns:
        None where there was less to forget than ``LEAST_TO_FORGET``.
    """
    known = pretrained - retrained
    return (later - just_after) / known if known >= LEAST_TO_FORGET else None


def drift(
    weights: Mapping[str, ArrayLike],
    pretrained: Mapping[str, ArrayLike],
    retrained: Mapping[str, ArrayLike],
) -> float | None:
    """How far the weights went, in lengths of the way to retraining; 0 where they are as before.

    |theta_t - theta_0| / |R_t - theta_0|, over all floating-point weights.

    Returns:
        None where the retrained model is the pretrained one.
    """
    way = weight_distance(retrained, pretrained)
    return weight_distance(weights, pretrained) / way if way else None


def cumulative(tow: Sequence[float]) -> list[float]:
    """The mean ToW of all times so far, at each of them."""
    found: list[float] = (np.cumsum(tow) / np.arange(1, len(tow) + 1)).tolist()
    return found


def survived(
    times: Sequence[int],
    tow: Sequence[float],
    nothing: Sequence[float],
    lost: Sequence[float],
    noise_floor: float,
) -> int:
    """The last time at which requests still were served better than by doing nothing.

    The largest t with ToW_t >= ToW_t(theta_0) + noise floor and lost_t <= ``MOST_LOST``, of the
    times at which there is a retrained model to compare with; 0 if there is none.

    Args:
        times: Ascending, in people.
        tow: Of theta_t against R_t.
        nothing: Of theta_0 against R_t.
        lost: As the function of that name gives it, on D_r(t).
        noise_floor: How far the ToW of two models is apart that were retrained alike.

    Raises:
        InputError: The sequences differ in length.
    """
    if not len(times) == len(tow) == len(nothing) == len(lost):
        raise InputError("requests survived need a ToW, that of doing nothing and a loss a time")
    good = [
        time
        for time, own, idle, less in zip(times, tow, nothing, lost, strict=True)
        if own >= idle + noise_floor and less <= MOST_LOST
    ]
    return max(good, default=0)
