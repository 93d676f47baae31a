"""How alike two models answer, by the measures that other benchmarks of unlearning print.

They are cheap, and here so that a published table can be set beside ours; no row is ranked by
them. Where attributes are predicted independently, each is a distribution of its own over two
values, and what papers define of a softmax is taken of each and averaged.

Shapes: N images, C attributes or classes.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from oneshui.errors import InputError
from oneshui.metrics.divergence import js_divergence
from oneshui.metrics.scores import ArrayLike, as_logits, as_numpy
from oneshui.spec import Task

Array = npt.NDArray[np.float64]


def activation_distance(logits: ArrayLike, other_logits: ArrayLike, task: Task) -> Array:
    """Euclidean distance of two models' probabilities per image, float64 [N] in [0, sqrt(2)].

    Source: Chundawat et al., "Can bad teaching induce forgetting?" (arXiv 2205.08096), whose
    benchmark prints the mean over the forget images against the retrained model.

    Args:
        logits: [N, C] of one model.
        other_logits: [N, C] of the other, for the same images.
        task: What the logits mean.

    Raises:
        InputError: Shapes differ, there is no image, or a logit is not finite.
    """
    own, other = _pair(logits, other_logits)
    distances: Array
    if task == "multiclass":
        distances = np.linalg.norm(_softmax(own) - _softmax(other), axis=1)
    else:
        # Of two coins both sides differ by the same.
        distances = np.sqrt(2) * np.abs(_sigmoid(own) - _sigmoid(other)).mean(axis=1)
    return distances


def same_answers(logits: ArrayLike, other_logits: ArrayLike, task: Task) -> Array:
    """Share of an image's answers that two models give alike, float64 [N] in [0, 1].

    Of classes 0 or 1. Its mean is what SUPREME (arXiv 2606.00380) prints as completeness, after
    Cao and Yang, "Towards making systems forget with machine unlearning" (2015).

    Args:
        logits: [N, C] of one model.
        other_logits: [N, C] of the other, for the same images.
        task: What the logits mean.

    Raises:
        InputError: As ``activation_distance``.
    """
    own, other = _pair(logits, other_logits)
    if task == "multiclass":
        agree = (own.argmax(axis=1) == other.argmax(axis=1))[:, None]
    else:
        agree = (own > 0) == (other > 0)
    shares: Array = agree.mean(axis=1)
    return shares


def zrf(logits: ArrayLike, untrained_logits: ArrayLike, task: Task) -> float:
    """Zero-retrain forgetting, in [0, 1]: 1 - mean divergence from a network that knows nothing.

    Source: as ``activation_distance``; the divergence is Jensen and Shannon's in bits. 1 is as
    ignorant as at random, which is more than a retrained model should be: read it beside that.

    Args:
        logits: [N, C] of the model on the forget images.
        untrained_logits: [N, C] of a network like it with random weights, for the same images.
        task: What the logits mean.

    Raises:
        InputError: As ``activation_distance``.
    """
    return 1 - float(js_divergence(logits, untrained_logits, task).mean())


def class_divergence(
    logits: ArrayLike,
    labels: ArrayLike,
    unseen_logits: ArrayLike,
    unseen_labels: ArrayLike,
    task: Task,
) -> float | None:
    """LoTUS's divergence without a retrained model, in [0, 1], in bits.

    Of every class, the mean probabilities of the unlearned model on its forget images against
    those of the pretrained model on its images of people it never saw; the mean divergence over
    classes that both have. Of attributes, each value of each is a class. Source: Spartalis et al.,
    "LoTUS: large-scale machine unlearning with a taste of uncertainty" (CVPR 2025, RF-JSD). 0 is
    answering about the forgotten as one used to about strangers.

    Args:
        logits: [N, C] of the unlearned model on the forget images.
        labels: 0/1 [N, C], or class index [N] or [N, 1].
        unseen_logits: [M, C] of the pretrained model on the test images.
        unseen_labels: Of these.
        task: What the logits mean.

    Returns:
        None where no class has images of both kinds.

    Raises:
        InputError: There is no image, or a logit is not finite.
    """
    own, other = as_logits(logits), as_logits(unseen_logits)
    of_own, of_other = as_numpy(labels), as_numpy(unseen_labels)
    found = []
    if task == "multiclass":
        own, other = _softmax(own), _softmax(other)
        of_own, of_other = of_own.reshape(-1), of_other.reshape(-1)
        for label in np.intersect1d(of_own, of_other):
            means = own[of_own == label].mean(axis=0), other[of_other == label].mean(axis=0)
            found.append(_divergence(*means, task))
    else:
        own, other = _sigmoid(own), _sigmoid(other)
        for attribute, value in itertools.product(range(own.shape[1]), (0, 1)):
            first = own[of_own[:, attribute] == value, attribute]
            second = other[of_other[:, attribute] == value, attribute]
            if len(first) and len(second):
                means = first.mean(keepdims=True), second.mean(keepdims=True)
                found.append(_divergence(*means, task))
    return float(np.mean(found)) if found else None


def _divergence(first: Array, second: Array, task: Task) -> float:
    """Of two probability vectors [C], or of two coins [1]."""
    own, other = _logits(first, task), _logits(second, task)
    return float(js_divergence(own, other, task)[0])


def _logits(probabilities: Array, task: Task) -> Array:
    tiny = np.finfo(np.float64).tiny
    found: Array = np.log(np.maximum(probabilities, tiny))
    if task == "multilabel":
        found = found - np.log(np.maximum(1 - probabilities, tiny))
    return found[None]


def _pair(logits: ArrayLike, other_logits: ArrayLike) -> tuple[Array, Array]:
    own, other = as_logits(logits), as_logits(other_logits)
    if own.shape != other.shape:
        raise InputError(
            f"logits of the two models have shapes {own.shape} and {other.shape}, but they are "
            "compared on the same images and outputs"
        )
    return own, other


def _softmax(logits: Array) -> Array:
    from scipy.special import softmax

    probabilities: Array = softmax(logits, axis=1)
    return probabilities


def _sigmoid(logits: Array) -> Array:
    from scipy.special import expit

    probabilities: Array = expit(logits)
    return probabilities
