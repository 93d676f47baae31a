"""Tug of war: how close an unlearned model is to the retrained one, as one number.

Source: Zhao et al., "What makes unlearning hard and what to do about it" (arXiv 2406.01257), in
the form of arXiv 2407.12069 with the test set as third set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from oneshui.errors import InputError

TOW_SETS: tuple[str, ...] = ("retain", "forget", "test")


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
        product *= 1 - abs(
            _score(scores, name, "the model") - _score(retrained, name, "retraining")
        )
    return product


def _score(scores: Mapping[str, float], name: str, whose: str) -> float:
    if name not in scores:
        raise InputError(
            f"ToW needs the scores of {whose} on {', '.join(TOW_SETS)}, but {name} is absent"
        )
    value = float(scores[name])
    if math.isnan(value) or not 0 <= value <= 1:
        raise InputError(
            f"ToW got {value} as the score of {whose} on {name}, but scores are fractions in [0, 1]"
        )
    return value
