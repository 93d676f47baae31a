"""How alike two models answer, by the measures that other benchmarks of unlearning print.

They are cheap, and here so that a published table can be set beside ours; no row is ranked by
them. Where attributes are predicted independently, each is a distribution of its own over two
values, and what papers define of a softmax is taken of each and averaged.

Shapes: N images, C attributes or classes.
"""

from __future__ import annotations

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
    if task == "multiclass":
        distances: Array = np.linalg.norm(_softmax(own) - _softmax(other), axis=1)
        return distances
    # Of two coins both sides differ by the same.
    return np.sqrt(2) * np.abs(_sigmoid(own) - _sigmoid(other)).mean(axis=1)


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
        return (own.argmax(axis=1) == other.argmax(axis=1)).astype(np.float64)
    shares: Array = ((own > 0) == (other > 0)).mean(axis=1)
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
    truths = as_numpy(labels), as_numpy(unseen_labels)
    found = []
    if task == "multiclass":
        classes = [truth.reshape(-1) for truth in truths]
        for label in np.intersect1d(*classes):
            means = [
                _softmax(scores)[truth == label].mean(axis=0)
                for scores, truth in zip((own, other), classes, strict=True)
            ]
            found.append(_divergence(*means, task))
    else:
        odds = _sigmoid(own), _sigmoid(other)
        for attribute in range(own.shape[1]):
            for value in (0, 1):
                parts = [
                    share[truth[:, attribute] == value, attribute]
                    for share, truth in zip(odds, truths, strict=True)
                ]
                if all(map(len, parts)):
                    means = [part.mean(keepdims=True) for part in parts]
                    found.append(_divergence(*means, task))
    return float(np.mean(found)) if found else None


def _divergence(first: Array, second: Array, task: Task) -> float:
    """Of two probability vectors [C], or of two coins [1]."""
    tiny = np.finfo(np.float64).tiny
    if task == "multiclass":
        logits = [np.log(np.maximum(mean, tiny))[None] for mean in (first, second)]
    else:
        sides = [(np.maximum(mean, tiny), np.maximum(1 - mean, tiny)) for mean in (first, second)]
        logits = [np.log(heads / tails)[None] for heads, tails in sides]
    return float(js_divergence(*logits, task)[0])


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
