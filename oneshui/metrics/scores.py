"""mAP and accuracy as fractions in [0, 1].

mAP is our own because libraries disagree on attributes without a positive: torchmetrics 1.3 left
them out of the mean, as the benchmark needs, and later versions count them as 0 (spec, 0.1).

Shapes: N images, C attributes or classes.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from oneshui.errors import InputError
from oneshui.spec import Task

ArrayLike: TypeAlias = Any
"""A numpy array, a torch tensor (on any device), or nested lists of numbers."""


def average_precisions(logits: ArrayLike, labels: ArrayLike) -> npt.NDArray[np.float64]:
    """Average precision of every attribute, float64 [C] in [0, 1].

    AP = sum over distinct scores of (R_n - R_(n-1)) P_n; images with equal scores enter
    together, so their order does not matter.

    Args:
        logits: [N, C]; any increasing function of the logits gives the same result.
        labels: 0/1 [N, C].

    Returns:
        NaN where no image has the attribute.

    Raises:
        InputError: Shapes differ or are not [N, C], the set is empty, a score is not finite, or
            a label is neither 0 nor 1.
    """
    scores, truth = _logits(logits), _numpy(labels)
    if scores.shape != truth.shape:
        raise InputError(
            f"logits have shape {scores.shape} and labels {truth.shape}, but average "
            "precision needs one 0/1 label for every logit"
        )
    if not np.isin(truth, (0, 1)).all():
        raise InputError("average precision needs labels of 0 and 1 only, but got other values")

    order = np.argsort(-scores, axis=0, kind="stable")
    scores = np.take_along_axis(scores, order, axis=0)
    hits = np.take_along_axis(truth, order, axis=0).astype(np.float64)
    rank = np.arange(1, len(scores) + 1)[:, None]

    # Every image gets the precision at the last rank of its group of equal scores.
    is_last = np.ones(scores.shape, dtype=bool)
    is_last[:-1] = scores[:-1] != scores[1:]
    last = np.where(is_last, rank - 1, len(scores))
    last = np.minimum.accumulate(last[::-1], axis=0)[::-1]
    precision = np.take_along_axis(np.cumsum(hits, axis=0) / rank, last, axis=0)

    positives = hits.sum(axis=0)
    total = (precision * hits).sum(axis=0)
    precisions = np.full(len(positives), np.nan)
    np.divide(total, positives, out=precisions, where=positives > 0)
    return precisions


def mean_average_precision(logits: ArrayLike, labels: ArrayLike) -> float:
    """The mAP in [0, 1]: the mean of ``average_precisions`` over attributes that some image has.

    Args:
        logits: [N, C].
        labels: 0/1 [N, C].

    Raises:
        InputError: As ``average_precisions``, or no image has any attribute.
    """
    precisions = average_precisions(logits, labels)
    present = ~np.isnan(precisions)
    if not present.any():
        raise InputError(
            f"mAP of {len(_numpy(labels))} images is undefined because none of them has any "
            "attribute; give a set with at least one positive label"
        )
    return float(precisions[present].mean())


def accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Share in [0, 1] of images whose largest logit is that of their class.

    Args:
        logits: [N, C]; the first of several largest logits counts.
        labels: Class index [N] in 0..C-1.

    Raises:
        InputError: Shapes do not fit, the set is empty, a logit is not finite, or a label is no
            class index.
    """
    scores, truth = _logits(logits), _numpy(labels)
    if truth.shape != scores.shape[:1]:
        raise InputError(
            f"logits have shape {scores.shape} and labels {truth.shape}, but accuracy "
            "needs one class index for every row of logits"
        )
    if not np.isin(truth, np.arange(scores.shape[1])).all():
        raise InputError(
            f"accuracy needs class indices 0 to {scores.shape[1] - 1}, but got other labels"
        )
    return float((scores.argmax(axis=1) == truth).mean())


def score(logits: ArrayLike, labels: ArrayLike, task: Task) -> float:
    """The task's own score in [0, 1]: mAP (multilabel) or accuracy (multiclass).

    Args:
        logits: [N, C].
        labels: 0/1 [N, C] (multilabel) or class index [N] (multiclass).
        task: Which of the two.

    Raises:
        InputError: As ``mean_average_precision`` or ``accuracy``.
    """
    measure = mean_average_precision if task == "multilabel" else accuracy
    return measure(logits, labels)


def _logits(values: ArrayLike) -> npt.NDArray[np.float64]:
    array = _numpy(values).astype(np.float64)
    if array.ndim != 2:
        raise InputError(f"logits have shape {array.shape}, but must be images by outputs")
    if array.size == 0:
        raise InputError(f"logits have shape {array.shape}: the score of an empty set is undefined")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).any(axis=1).sum())
        raise InputError(f"{bad} of {len(array)} images have logits that are not finite")
    return array


def _numpy(values: ArrayLike) -> npt.NDArray[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)
