"""mAP and accuracy as fractions in [0, 1].

mAP is our own because libraries disagree on attributes without a positive: torchmetrics 1.3 left
them out of the mean, as the benchmark needs, and later versions count them as 0
(docs/benchmark.md, T6).

Shapes: N images, C attributes or classes.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from oneshui.errors import InputError
from oneshui.metrics.registry import Predicted, measure
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
    scores, truth = as_logits(logits), as_numpy(labels)
    if scores.shape != truth.shape:
        raise InputError(
            f"logits have shape {scores.shape} and labels {truth.shape}, but average "
            "precision needs one 0/1 label for every logit"
        )
    _require_binary(truth)

    # Attribute by attribute: one column fits the cache, and that is worth more than one call.
    return np.array([_average_precision(*pair) for pair in zip(scores.T, truth.T, strict=True)])


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
            f"mAP of {len(as_numpy(labels))} images is undefined because none of them has any "
            "attribute; give a set with at least one positive label"
        )
    return float(precisions[present].mean())


def num_attributes_counted(labels: ArrayLike) -> int:
    """How many attributes enter the mAP of these images: those that at least one image has.

    Args:
        labels: 0/1 [N, C].

    Raises:
        InputError: The labels are not [N, C], empty, or neither 0 nor 1.
    """
    truth = as_numpy(labels)
    if truth.ndim != 2 or truth.size == 0:
        raise InputError(
            f"labels have shape {truth.shape}, but attributes are counted over at least one image "
            "by at least one attribute"
        )
    _require_binary(truth)
    return int(truth.any(axis=0).sum())


@measure("num_attributes")
def num_attributes(outcome: Predicted) -> float | None:
    """Attributes that count on the forget set; None where labels are classes."""
    if outcome.task == "multiclass":
        return None
    return num_attributes_counted(outcome.labels("forget"))


def accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Share in [0, 1] of images whose largest logit is that of their class.

    Args:
        logits: [N, C]; the first of several largest logits counts.
        labels: Class index [N] in 0..C-1.

    Raises:
        InputError: Shapes do not fit, the set is empty, a logit is not finite, or a label is no
            class index.
    """
    scores, truth = as_logits(logits), as_numpy(labels)
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


def as_logits(values: ArrayLike) -> npt.NDArray[np.float64]:
    """Logits as float64 [N, C], checked.

    Args:
        values: [N, C].

    Raises:
        InputError: They are not [N, C], there are none, or one is not finite.
    """
    array = as_numpy(values).astype(np.float64)
    if array.ndim != 2:
        raise InputError(f"logits have shape {array.shape}, but must be images by outputs")
    if array.size == 0:
        raise InputError(f"logits have shape {array.shape}: the score of an empty set is undefined")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).any(axis=1).sum())
        raise InputError(f"{bad} of {len(array)} images have logits that are not finite")
    return array


def as_numpy(values: ArrayLike) -> npt.NDArray[Any]:
    """The values as a numpy array, whatever holds them; torch is not imported for it.

    Args:
        values: An array, a tensor on any device (with a gradient or in bfloat16 as well), or
            nested lists.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # numpy has no bfloat16; float32 holds its values exactly.
        narrow = values.is_floating_point() and values.itemsize < 4
        values = (values.float() if narrow else values).numpy()
    return np.asarray(values)


def finite(values: ArrayLike, shape: tuple[int, ...], what: str) -> npt.NDArray[np.float64]:
    """The values as float64, if they are finite and as many as there must be.

    Args:
        values: As ``as_numpy`` takes them.
        shape: That they must have.
        what: They are, in the plural, for the error.

    Raises:
        InputError: Another shape, or a value is not finite.
    """
    array = as_numpy(values).astype(np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError(
            f"expected {shape[0]} finite {what}, but got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} that are not finite"
        )
    return array


def _average_precision(scores: npt.NDArray[np.float64], truth: npt.NDArray[Any]) -> float:
    order = np.argsort(-scores)
    ordered = scores[order]
    last_of_equals = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    found = np.cumsum(truth[order], dtype=np.float64)[last_of_equals]
    if found[-1] == 0:
        return math.nan
    precision = found / (last_of_equals + 1)
    return float((np.diff(found, prepend=0) * precision).sum() / found[-1])


def _require_binary(truth: npt.NDArray[Any]) -> None:
    if not np.isin(truth, (0, 1)).all():
        raise InputError("average precision needs labels of 0 and 1 only, but got other values")
