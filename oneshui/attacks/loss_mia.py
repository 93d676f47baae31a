"""Membership inference from the loss alone.

Source: the random-forest attack of the 1-SHUI benchmark (arXiv 2407.12069). A forest learns to
tell losses of the retain set (members) from those of the validation set (never trained on), and
is then asked about the forget set (members before unlearning) and the test set.

Deviation from the reference (docs/benchmark.md, A1): it fits six forests, reports the AUC of the
one that calls the fewest forget images members, which is the attack most favourable to the
defender, and reports AUC 0 if no forest calls any forget image a non-member. Here one fixed forest
is used and its AUC always reported; ``variant="reference"`` gives the authors' number. The
imbalance of retain and validation set stays untreated, as there (A2): the prior favours "member".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from oneshui.attacks.forest import forest_votes
from oneshui.attacks.roc import auc
from oneshui.errors import InputError

Losses: TypeAlias = Sequence[float] | npt.NDArray[Any] | Any
"""One loss per image, [n]: an array, a tensor on the CPU, or numbers."""

REFERENCE_TREES: tuple[int, ...] = (20, 50, 100)
"""Sizes of the authors' forests; on a single feature gini and entropy give the same forest."""


Votes: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class LossMIA:
    """What the attack achieves, as fractions in [0, 1].

    Attributes:
        auc: Area under the ROC curve of the forest's vote for "member", forget images as
            positives and test images as negatives. 0.5 is what retraining should give.
        accuracy: The reference's "acc": the share of forget images that the attack calls
            non-members. Larger is better for the defender.
        votes: The forest's for "member" on forget [n] and test images [m], float64; None where
            the authors' variant reports no forest.
    """

    auc: float
    accuracy: float
    votes: Votes | None = field(default=None, compare=False, repr=False)


def loss_mia(
    *,
    retain: Losses,
    val: Losses,
    forget: Losses,
    test: Losses,
    seed: int,
    variant: Literal["corrected", "reference"] = "corrected",
) -> LossMIA:
    """Attack one model through the losses of its images.

    Args:
        retain: Losses of members, the forest's positives when it is fitted.
        val: Losses of non-members, its negatives.
        forget: Losses of the images under attack.
        test: Losses of non-members that the forest has not seen.
        seed: Of the forest; the authors' is 0.
        variant: "corrected" fits one forest (100 trees); "reference" takes the authors'
            choice among six, with AUC and accuracy 0 if all their accuracies are 0.

    Raises:
        InputError: A set is empty or holds a loss that is not finite.
    """
    sets = {
        name: _losses(values, name)
        for name, values in (("retain", retain), ("val", val), ("forget", forget), ("test", test))
    }
    if variant == "corrected":
        return forest_attack(sets, trees=100, seed=seed)
    results = (forest_attack(sets, trees=trees, seed=seed) for trees in REFERENCE_TREES)
    best = max(results, key=lambda result: result.accuracy)
    return best if best.accuracy > 0 else LossMIA(auc=0.0, accuracy=0.0)


def forest_attack(sets: dict[str, npt.NDArray[Any]], *, trees: int, seed: int) -> LossMIA:
    """One forest of the attack.

    Args:
        sets: Losses [n] of "retain", "val", "forget" and "test".
        trees: Trees of the forest.
        seed: Of the forest.
    """
    known = np.concatenate([sets["retain"], sets["val"]])
    is_member = np.repeat([1, 0], [len(sets["retain"]), len(sets["val"])])
    asked = np.concatenate([sets["forget"], sets["test"]])
    votes = forest_votes(known, is_member, asked, trees=trees, seed=seed % 2**32)
    forget, test = np.split(votes, [len(sets["forget"])])
    accuracy = float((forget <= 0.5).mean())
    return LossMIA(auc=auc(forget, test), accuracy=accuracy, votes=(forget, test))


def threshold_auc(forget_losses: Losses, test_losses: Losses) -> float:
    """AUC in [0, 1] of the attack that calls the images with the smallest losses members.

    It is the probability that a forget image has a smaller loss than a test image, ties counted
    half. Nothing is trained.

    Args:
        forget_losses: [n].
        test_losses: [m].

    Raises:
        InputError: A set is empty or holds a loss that is not finite.
    """
    return auc(-_losses(forget_losses, "forget"), -_losses(test_losses, "test"))


def _losses(values: Losses, name: str) -> npt.NDArray[Any]:
    losses = np.asarray(values)
    if losses.ndim != 1 or len(losses) == 0:
        raise InputError(
            f"the losses of the {name} set have shape {losses.shape}, but the attack needs one "
            "loss for each of at least one image"
        )
    if not np.isfinite(losses).all():
        raise InputError(
            f"{int((~np.isfinite(losses)).sum())} of {len(losses)} losses of the {name} set are "
            "not finite, so the attack cannot be run"
        )
    return losses
