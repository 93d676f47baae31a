"""How far a model is from the retrained one without asking what is right: outputs and weights.

Imports no torch: state dicts of tensors and of arrays are read alike.

Shapes: N images, C attributes or classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from oneshui.errors import InputError
from oneshui.metrics.registry import Predicted, measure
from oneshui.metrics.scores import ArrayLike, as_logits, as_numpy
from oneshui.spec import Task

Array = npt.NDArray[np.float64]


def js_divergence(logits: ArrayLike, retrained_logits: ArrayLike, task: Task) -> Array:
    """Jensen-Shannon divergence of two models' predictions per image, float64 [N] in [0, 1].

    JS(p, q) = H((p + q)/2) - (H(p) + H(q))/2 with entropies in bits (Lin, "Divergence measures
    based on the Shannon entropy", 1991). Multiclass: of the softmax distributions. Multilabel:
    the mean over attributes of the divergence of two coins, because attributes are predicted
    independently.

    Args:
        logits: [N, C] of one model.
        retrained_logits: [N, C] of the other, for the same images; the divergence is symmetric.
        task: What the logits mean.

    Returns:
        0 where both models predict the same, 1 where they are sure of different answers.

    Raises:
        InputError: Shapes differ or are not [N, C], there is no image, or a logit is not finite.
    """
    own, other = as_logits(logits), as_logits(retrained_logits)
    if own.shape != other.shape:
        raise InputError(
            f"logits of the two models have shapes {own.shape} and {other.shape}, but their "
            "divergence needs predictions for the same images and outputs"
        )
    divergence: Array
    if task == "multiclass":
        divergence = _js(_softmax(own), _softmax(other)).sum(axis=1)
    else:
        p, q = _sigmoid(own), _sigmoid(other)
        divergence = (_js(p, q) + _js(1 - p, 1 - q)).mean(axis=1)
    # Rounding may leave the interval by some 1e-16.
    return divergence.clip(0.0, 1.0)


@measure("js_forget")
def js_forget(outcome: Predicted) -> float:
    """Mean divergence from the retrained model on D_f, in [0, 1]."""
    return _mean_divergence(outcome, "forget")


@measure("js_test")
def js_test(outcome: Predicted) -> float:
    """The same on the test set."""
    return _mean_divergence(outcome, "test")


def _mean_divergence(outcome: Predicted, name: str) -> float:
    own, theirs = outcome.logits(name), outcome.logits(name, retrained=True)
    return float(js_divergence(own, theirs, outcome.task).mean())


def weight_distance(state: Mapping[str, ArrayLike], other: Mapping[str, ArrayLike]) -> float:
    """Relative L2 distance of two models' weights: |w - w'| / |w'|, 0 for the same weights.

    Args:
        state: Weights by name, of tensors or arrays; entries that are no floating-point numbers
            (counters) are left out.
        other: The same of the model to compare with, for example the retrained one.

    Raises:
        InputError: Names or shapes differ, there is no weight, one is not finite, or all weights
            of ``other`` are 0.
    """
    if state.keys() != other.keys():
        differing = sorted(state.keys() ^ other.keys())
        raise InputError(
            f"the two models have different weights ({len(differing)} names are in one of them "
            f"only, first {differing[0]!r}), so there is no distance between them"
        )
    difference = norm = 0.0
    for name in state:
        own, theirs = as_numpy(state[name]), as_numpy(other[name])
        if own.shape != theirs.shape:
            raise InputError(f"weight {name!r} has shapes {own.shape} and {theirs.shape}")
        if np.issubdtype(own.dtype, np.floating):
            difference += float(np.square(own - theirs, dtype=np.float64).sum())
            norm += float(np.square(theirs, dtype=np.float64).sum())
    if not (math.isfinite(difference) and math.isfinite(norm)):
        raise InputError("a weight is not finite, so the distance of the models is undefined")
    if norm == 0:
        raise InputError("the model to compare with has no weight that is not 0")
    return math.sqrt(difference / norm)


def _js(p: Array, q: Array) -> Array:
    """The terms of the divergence, one for each outcome."""
    return (_minus_entropy(p) + _minus_entropy(q)) / 2 - _minus_entropy((p + q) / 2)


def _minus_entropy(p: Array) -> Array:
    # 0 log 0 = 0; the smallest positive number in place of 0 gives it without a warning.
    return p * np.log2(np.maximum(p, np.finfo(np.float64).tiny))


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _sigmoid(logits: Array) -> Array:
    # tanh saturates where exp would overflow.
    return 0.5 * (1 + np.tanh(0.5 * logits))
