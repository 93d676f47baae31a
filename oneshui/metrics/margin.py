"""How sure a model is of the truth about the forgotten: the logit margin, and the loss.

The mAP of few people is mostly a matter of which attributes they happen to have: an attribute
that none of their images has, or all of them, says nothing. Margin and loss take every image and
every attribute into account.

Shapes: N images, C attributes or classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oneshui.errors import InputError
from oneshui.metrics.registry import Predicted, measure
from oneshui.metrics.scores import ArrayLike, as_logits, as_numpy
from oneshui.spec import Task


def logit_margins(logits: ArrayLike, labels: ArrayLike, task: Task) -> npt.NDArray[np.float64]:
    """log(p / (1 - p)) of the truth for every image, float64 [N]; above 0 where it is likelier.

    Multilabel: z where the attribute is there and -z where it is not, the mean over attributes.
    Multiclass: z_y - logsumexp of the other logits. It is the statistic that is about normally
    distributed over models (Carlini et al., "Membership inference attacks from first principles",
    arXiv 2112.03570, Section IV-C).

    Args:
        logits: [N, C].
        labels: 0/1 [N, C], or class index [N] or [N, 1].
        task: What the logits mean.

    Raises:
        InputError: Shapes do not fit, there is no image, a logit is not finite, a label is
            neither 0 nor 1 or no class index, or there is a single class.
    """
    scores, truth = as_logits(logits), as_numpy(labels)
    if task == "multilabel":
        if scores.shape != truth.shape or not np.isin(truth, (0, 1)).all():
            raise InputError(
                f"logits have shape {scores.shape} and labels {truth.shape}, but margins of "
                "attributes need one label of 0 or 1 for every logit"
            )
        signed: npt.NDArray[np.float64] = np.where(truth > 0, scores, -scores).mean(axis=1)
        return signed
    truth = truth.reshape(-1)
    fits = truth.shape == scores.shape[:1] and np.isin(truth, np.arange(scores.shape[1])).all()
    if not fits or scores.shape[1] < 2:
        raise InputError(
            f"logits have shape {scores.shape} and labels {truth.shape}, but margins of classes "
            "need one class index for every image, and at least two classes"
        )
    right = np.arange(scores.shape[1]) == truth[:, None]
    others = np.logaddexp.reduce(np.where(right, -np.inf, scores), axis=1)
    margins: npt.NDArray[np.float64] = scores[right] - others
    return margins


@measure("forget_margin")
def forget_margin(outcome: Predicted) -> float:
    """Mean margin over the forget images."""
    return _margin(outcome)


@measure("forget_margin_gap")
def forget_margin_gap(outcome: Predicted) -> float:
    """The same minus the retrained model's; above 0 the model is surer than retraining."""
    return _margin(outcome) - _margin(outcome, retrained=True)


@measure("forget_loss_gap")
def forget_loss_gap(outcome: Predicted) -> float:
    """Mean loss on the forget images minus the retrained model's; below 0 the model knows more."""
    own, theirs = outcome.losses("forget"), outcome.losses("forget", retrained=True)
    return float(own.mean(dtype=np.float64) - theirs.mean(dtype=np.float64))


def _margin(outcome: Predicted, *, retrained: bool = False) -> float:
    logits = outcome.logits("forget", retrained=retrained)
    return float(logit_margins(logits, outcome.labels("forget"), outcome.task).mean())
