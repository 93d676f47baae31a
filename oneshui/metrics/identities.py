"""What the paper's discussion is made of: who was forgotten how well, and what made it hard.

``per_identity`` reads stored predictions; ``support_hardness`` (the paper's Figure 4) and
``retain_drop`` (Figure 5) read feature arrays, whichever space the caller takes them from (the
pretrained model's features by default of the sweeps), and know no model.

Source of the figures: arXiv 2407.12069. Shapes: N images, D features, K identities.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.errors import InputError, unknown_name
from oneshui.metrics.divergence import js_divergence
from oneshui.metrics.scores import ArrayLike, as_numpy, finite
from oneshui.metrics.trends import Names, Trend, trend
from oneshui.spec import Task

Array: TypeAlias = npt.NDArray[np.float64]
Distance = Literal["cosine", "euclidean"]
DISTANCES: tuple[Distance, ...] = ("cosine", "euclidean")


def per_identity(
    predictions: pd.DataFrame,
    retrained: pd.DataFrame,
    membership: ArrayLike | None = None,
    *,
    task: Task,
) -> pd.DataFrame:
    """How a model treats every identity, beside the retrained model.

    Give the rows of one set, usually the forget set; or of several, which stay apart.

    Args:
        predictions: Of the model, as ``oneshui.training.predict.predict`` gives them.
        retrained: Of the retrained model, for the same images in the same order.
        membership: A membership score of every row, [N], for example RMIA's.
        task: "multilabel" or "multiclass".

    Returns:
        One row per set and identity, in the order of their first images: ``set``, ``identity``,
        ``images`` (their number), ``score`` and ``retrained_score`` in [0, 1], ``gap`` (score -
        retrained score), ``loss`` and ``retrained_loss`` (means), ``membership`` (mean; null if
        none was given) and ``js`` (mean Jensen-Shannon divergence to the retrained model's
        predictions, in [0, 1]). The score is the accuracy; of a multilabel task the share of
        attributes that are predicted right at a logit above 0, because a person has so few images
        that most attributes have no positive or no negative among them, and mAP is undefined or
        constant.

    Raises:
        InputError: There is no row, the two tables are not about the same images, a number is not
            finite, or there is not one membership score per row.
    """
    if len(predictions) == 0:
        raise InputError("a table of identities needs predictions of at least one image")
    keys = ["set", "image", "identity"]
    if not _rows(predictions, keys).equals(_rows(retrained, keys)):
        raise InputError("predictions of the model and of the retrained model differ in images")
    scores = np.full(len(predictions), np.nan)
    if membership is not None:
        scores = finite(membership, (len(predictions),), "membership scores, one per prediction")
    labels = np.stack(predictions["label"].to_list())
    logits, theirs = (np.stack(part["logits"].to_list()) for part in (predictions, retrained))
    images = pd.DataFrame(
        {
            "set": predictions["set"].to_numpy(),
            "identity": predictions["identity"].to_numpy(),
            "images": 1,
            "score": _correct(logits, labels, task),
            "retrained_score": _correct(theirs, labels, task),
            "gap": 0.0,
            "loss": _losses(predictions, "the model"),
            "retrained_loss": _losses(retrained, "the retrained model"),
            "membership": scores,
            "js": js_divergence(logits, theirs, task),
        }
    )
    groups = images.groupby(["set", "identity"], sort=False)
    table = groups.mean().assign(images=groups.size()).reset_index()
    table["gap"] = table["score"] - table["retrained_score"]
    return table


def centroids(features: ArrayLike, identities: ArrayLike) -> tuple[npt.NDArray[np.int64], Array]:
    """Mean features of every identity.

    Args:
        features: [N, D].
        identities: Of every image, int [N].

    Returns:
        The identities [K], ascending, and their centroids, float64 [K, D].

    Raises:
        InputError: Shapes do not fit, there is no image, or a feature is not finite.
    """
    values = _checked(features, "features")
    names = as_numpy(identities)
    if names.shape != values.shape[:1]:
        raise InputError(
            f"features have shape {values.shape} and identities {names.shape}, but every image "
            "needs one identity"
        )
    order = np.argsort(names, kind="stable")
    found, starts, counts = np.unique(names[order], return_index=True, return_counts=True)
    # Summed in float64 without a copy in float64: CelebA's features fill hundreds of megabytes.
    sums = np.add.reduceat(values[order], starts, axis=0, dtype=np.float64)
    return found.astype(np.int64), sums / counts[:, None]


def support_hardness(
    support_features: ArrayLike,
    identity_centroids: ArrayLike,
    gaps: ArrayLike,
    *,
    identities: Names | None = None,
    distance: Distance = "cosine",
) -> Trend:
    """Is an identity harder to forget when its support image is unlike its training images?

    The paper's Figure 4: distance of the support image from the centroid of its identity's
    training images (the support image is none of them) against the gap to the retrained model.

    Args:
        support_features: Of the support image of every forget identity, [K, D].
        identity_centroids: Of the training images of the same identities, [K, D].
        gaps: Score of the identity minus the retrained model's, [K], as in ``per_identity``.
        identities: Their names, [K]; 0 to K - 1 by default.
        distance: "cosine" (1 - cosine, in [0, 2]) or "euclidean".

    Returns:
        Points with columns ``identity``, ``distance`` and ``gap``.

    Raises:
        InputError: Shapes do not fit, there is no identity, a number is not finite, or a vector
            has length 0 under the cosine distance.
    """
    distances = support_distances(support_features, identity_centroids, distance=distance)
    return trend(distances, gaps, "gap", identities)


def support_distances(
    support_features: ArrayLike, identity_centroids: ArrayLike, *, distance: Distance = "cosine"
) -> Array:
    """How far every support image is from the centroid of its own identity, [K].

    Arguments and errors as of ``support_hardness``.
    """
    support = _features(support_features, "support features")
    centres = _features(identity_centroids, "centroids")
    if support.shape != centres.shape:
        raise InputError(
            f"support features have shape {support.shape} and centroids {centres.shape}, but "
            "every support image is compared with the centroid of its own identity"
        )
    if _known(distance) == "cosine":
        distances: Array = (1 - (_unit(support) * _unit(centres)).sum(axis=1)).clip(0, 2)
    else:
        distances = np.linalg.norm(support - centres, axis=1)
    return distances


def retain_drop(
    retain_centroids: ArrayLike,
    forget_centroids: ArrayLike,
    drops: ArrayLike,
    *,
    to: Literal["nearest", "mean"] = "nearest",
    identities: Names | None = None,
    distance: Distance = "cosine",
) -> Trend:
    """Do those suffer more who look like the forgotten?

    The paper's Figure 5: drop of every retain identity's score against its distance to the
    forget set.

    Args:
        retain_centroids: Of the retain identities, [K, D].
        forget_centroids: Of the forget identities, [F, D].
        drops: Score before unlearning minus score after it, [K]; above 0 is damage.
        to: Distance to the nearest forget centroid, or the mean of the distances to all of them.
        identities: Names of the retain identities, [K]; 0 to K - 1 by default.
        distance: "cosine" (1 - cosine, in [0, 2]) or "euclidean".

    Returns:
        Points with columns ``identity``, ``distance`` and ``drop``.

    Raises:
        InputError: As ``support_hardness``.
    """
    distances = forget_distances(retain_centroids, forget_centroids, to=to, distance=distance)
    return trend(distances, drops, "drop", identities)


def forget_distances(
    retain_centroids: ArrayLike,
    forget_centroids: ArrayLike,
    *,
    to: Literal["nearest", "mean"] = "nearest",
    distance: Distance = "cosine",
) -> Array:
    """How far every retain identity is from the forget set, [K].

    Arguments and errors as of ``retain_drop``.
    """
    retain = _features(retain_centroids, "retain centroids")
    forget = _features(forget_centroids, "forget centroids")
    if retain.shape[1] != forget.shape[1]:
        raise InputError(
            f"retain centroids have {retain.shape[1]} features and forget centroids "
            f"{forget.shape[1]}, but distances need the same feature space"
        )
    if to not in ("nearest", "mean"):
        raise unknown_name("distance to the forget set", to, ("nearest", "mean"))
    if _known(distance) == "cosine":
        matrix = (1 - _unit(retain) @ _unit(forget).T).clip(0, 2)
    else:
        squares = (retain**2).sum(axis=1)[:, None] + (forget**2).sum(axis=1)
        matrix = np.sqrt((squares - 2 * retain @ forget.T).clip(0))
    distances: Array = matrix.min(axis=1) if to == "nearest" else matrix.mean(axis=1)
    return distances


def _correct(logits: npt.NDArray[Any], labels: npt.NDArray[Any], task: Task) -> Array:
    """Share of an image's outputs that are right, [N]."""
    wanted = logits.shape if task == "multilabel" else (len(logits), 1)
    if labels.shape != wanted:
        raise InputError(
            f"labels of a {task} task have shape {labels.shape}, but must have {wanted}"
        )
    if task == "multiclass":
        right = logits.argmax(axis=1)[:, None] == labels
    else:
        right = (logits > 0) == (labels > 0)
    shares: Array = right.mean(axis=1)
    return shares


def _losses(predictions: pd.DataFrame, whose: str) -> Array:
    return finite(predictions["loss"].to_numpy(), (len(predictions),), f"losses of {whose}")


def _rows(predictions: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return predictions[columns].reset_index(drop=True)


def _known(distance: Distance) -> Distance:
    if distance not in DISTANCES:
        raise unknown_name("distance", distance, DISTANCES)
    return distance


def _unit(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise InputError(
            f"{int((lengths == 0).sum())} of {len(vectors)} feature vectors have length 0 and so "
            "no cosine distance; use the euclidean one"
        )
    unit: Array = vectors / lengths
    return unit


def _features(values: ArrayLike, name: str) -> Array:
    return _checked(values, name).astype(np.float64)


def _checked(values: ArrayLike, name: str) -> npt.NDArray[Any]:
    array = as_numpy(values)
    if array.ndim != 2 or array.size == 0:
        raise InputError(
            f"{name} have shape {array.shape}, but must be rows by features, not empty"
        )
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).any(axis=1).sum())
        raise InputError(f"{bad} of {len(array)} rows of {name} are not finite")
    return array
