"""Tug of war: how close an unlearned model is to the retrained one, as one number.

Source: Zhao et al., "What makes unlearning hard and what to do about it" (arXiv 2406.01257), in
the form of arXiv 2407.12069 with the test set as third set.

Doing nothing already scores high, because a model differs from the retrained one on few images;
so ``normalised_tow`` puts the pretrained model at 0. An absolute gap cannot tell over-forgetting
from forgetting too little; ``signed_gaps`` can.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from oneshui.errors import InputError

TOW_SETS: tuple[str, ...] = ("retain", "forget", "test")

SMALLEST_DISTANCE = 1e-9
"""A pretrained model whose ToW is this near to 1 leaves nothing to be normalised."""


def tow(scores: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    """ToW in [0, 1]: the product over retain, forget and test of 1 - |score - retrained score|.

    Args:
        scores: mAP or accuracy in [0, 1] of the unlearned model, by set; further sets are ignored.
        retrained: The same of the retrained model.

    Returns:
        1 for a model that scores exactly as the retrained one on all three sets.

    Raises:
        InputError: A set is absent, or a score is not a number in [0, 1].
    """
    product = 1.0
    for name in TOW_SETS:
        product *= 1 - abs(_gap(scores, retrained, name))
    return product


def signed_gaps(
    scores: Mapping[str, float],
    retrained: Mapping[str, float],
    *,
    sets: Sequence[str] = TOW_SETS,
) -> dict[str, float]:
    """Score minus retrained score on every set, in [-1, 1].

    On the forget set, above 0 means that the model still knows more than a retrained one, below
    0 that it forgot more than deletion would have made it forget.

    Args:
        scores: mAP or accuracy in [0, 1] of the unlearned model, by set.
        retrained: The same of the retrained model.
        sets: Which sets to compare.

    Raises:
        InputError: A set is absent, or a score is not a number in [0, 1].
    """
    return {name: _gap(scores, retrained, name) for name in sets}


def normalised_tow(tow: float, tow_pretrain: float) -> float | None:
    """The share of the way from doing nothing to retraining: (ToW - ToW_p) / (1 - ToW_p).

    Args:
        tow: Of the model, in [0, 1].
        tow_pretrain: Of the pretrained model, ToW_p, in [0, 1].

    Returns:
        0 for a model as good as the pretrained one, 1 for one as good as the retrained, below 0
        for one that is worse than doing nothing. None if ToW_p is within 1e-9 of 1: then doing
        nothing is retraining, and there is no way to go.

    Raises:
        InputError: A ToW is not a number in [0, 1].
    """
    _fraction(tow, "the ToW of the model")
    distance = 1 - _fraction(tow_pretrain, "the ToW of the pretrained model")
    if distance <= SMALLEST_DISTANCE:
        return None
    return (tow - tow_pretrain) / distance


def tow_with_mia(
    scores: Mapping[str, float],
    retrained: Mapping[str, float],
    mia: float,
    mia_retrained: float,
) -> float:
    """ToW with a fourth factor, 1 - |MIA - retrained MIA|, in [0, 1].

    Source: ToW-MIA of arXiv 2406.01257, which replaces the forget factor; here it is added,
    because a model can match the retrained score on the forget set and still be found out.

    Args:
        scores: mAP or accuracy in [0, 1] of the unlearned model, by set.
        retrained: The same of the retrained model.
        mia: What an attack achieves on the unlearned model, in [0, 1]: its AUC or accuracy.
        mia_retrained: What the same attack achieves on the retrained model.

    Raises:
        InputError: As ``tow``, or a MIA figure is not a number in [0, 1].
    """
    gap = _fraction(mia, "the MIA of the model") - _fraction(mia_retrained, "the MIA of retraining")
    return tow(scores, retrained) * (1 - abs(gap))


def _gap(scores: Mapping[str, float], retrained: Mapping[str, float], name: str) -> float:
    return _score(scores, name, "the model") - _score(retrained, name, "retraining")


def _fraction(value: float, what: str) -> float:
    if math.isnan(value) or not 0 <= value <= 1:
        raise InputError(f"{what} is {value}, but it must be a fraction in [0, 1]")
    return float(value)


def _score(scores: Mapping[str, float], name: str, whose: str) -> float:
    if name not in scores:
        raise InputError(
            f"comparing with retraining needs the score of {whose} on every set, but {name} is "
            "absent"
        )
    return _fraction(float(scores[name]), f"the score of {whose} on {name}")
