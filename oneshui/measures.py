"""All measures of one model, as pure functions of stored predictions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.attacks.loss_mia import LossMIA, loss_mia, threshold_auc
from oneshui.data.splits import SET_NAMES
from oneshui.errors import InputError
from oneshui.metrics.pooled import OF_A_REQUEST, averaged, forget_images, joined, of_request
from oneshui.metrics.registry import Predicted, measured
from oneshui.metrics.scores import average_precisions, score
from oneshui.metrics.tow import normalised_tow, signed_gaps, tow, tow_with_mia
from oneshui.spec import Task

ATTACK_SEED = 0
"""One forest for all models, so that two models' attacks differ by the models alone."""


def measure(
    predictions: pd.DataFrame,
    retrained: pd.DataFrame,
    pretrained: pd.DataFrame | None = None,
    *,
    task: Task,
    attack: LossMIA | None = None,
    further: Collection[str] = (),
) -> dict[str, Any]:
    """What one model's predictions say beside the retrained model's.

    Args:
        predictions: Of the model, as ``oneshui.training.predict.predict`` gives them.
        retrained: Of the retrained model of the same cell, on the same images.
        pretrained: Of the pretrained model, for the normalised ToW.
        task: "multilabel" or "multiclass".
        attack: What ``loss_attack`` gives of the model, where that is there already.
        further: Keys of measures that plugins have registered, to be computed too.

    Returns:
        Fractions in [0, 1] but for losses: ``<set>_score`` (mAP or accuracy) and ``<set>_loss``
        (sample mean) for every set; ``<set>_gap`` (score minus the retrained model's, in [-1, 1])
        for retain, forget and test; ``tow``, ``tow_normalised`` (0 as pretrained, 1 as retrained;
        None where undefined) and ``tow_with_mia`` (with the loss MIA's AUC as fourth factor);
        ``mia_auc``, ``mia_acc`` (share of forget images that the attack takes for non-members),
        ``mia_threshold_auc``, and the authors' ``mia_reference_auc`` and ``mia_reference_acc``;
        and whatever ships with ``oneshui.metrics.registry``: ``js_forget``, ``js_test``,
        ``num_attributes``, ``nomus``, ``forget_margin``, ``forget_margin_gap``,
        ``forget_loss_gap``.

    Raises:
        InputError: The tables are not about the same images.
        NumericalError: A plugin's measure is not finite.
    """
    others = [retrained] if pretrained is None else [retrained, pretrained]
    for other in others:
        if not predictions[["set", "image"]].equals(other[["set", "image"]]):
            raise InputError("predictions of the model and of the retrained model differ in images")
    return {
        **_compared(
            scores=set_scores(predictions, task),
            losses=_losses(predictions),
            attacks=_attacks(predictions, attack),
            retrained=retrained,
            pretrained=pretrained,
            task=task,
        ),
        **measured(Predicted(predictions=predictions, retrained=retrained, task=task), further),
    }


def measure_requests(
    requests: Sequence[pd.DataFrame],
    retrained: pd.DataFrame,
    pretrained: pd.DataFrame,
    *,
    task: Task,
    attacks: Sequence[LossMIA] | None = None,
    further: Collection[str] = (),
) -> dict[str, Any]:
    """The same of several requests, each with a model that forgot its people.

    Scores and losses on forget and support images are over those of all requests, each predicted
    by its own request's model, and so are measures of ``oneshui.metrics.registry``; those on other
    sets are means over the models. An attack is run against every model, because its scores say
    nothing beside those of another model, and what it achieves is the mean over forget images.

    Args:
        requests: Predictions of each request's model on the request's sets.
        retrained: Of the model that was retrained without the people of all requests, on the
            images of all of them.
        pretrained: Of the pretrained model, likewise.
        task: "multilabel" or "multiclass".
        attacks: What ``loss_attack`` gives of each request's model, where that is there already.
        further: As for ``measure``.

    Returns:
        As ``measure``.

    Raises:
        InputError, NumericalError: As ``measure``.
    """
    theirs = [of_request(retrained, request) for request in requests]
    for request in requests:
        of_request(pretrained, request)
    predictions = joined(retrained, requests)
    return {
        **_compared(
            scores=_request_scores(requests, predictions, task),
            losses=_losses(predictions),
            attacks=averaged(
                list(map(_attacks, requests, attacks or map(loss_attack, requests))),
                forget_images(requests),
            ),
            retrained=retrained,
            pretrained=pretrained,
            task=task,
        ),
        **measured(
            Predicted(predictions=predictions, retrained=joined(retrained, theirs), task=task),
            further,
        ),
    }


def _request_scores(
    requests: Sequence[pd.DataFrame], predictions: pd.DataFrame, task: Task
) -> dict[str, float]:
    """The score of every set: of all requests' forget and support images, else the models' mean."""
    own = predictions["set"].isin(OF_A_REQUEST)
    each = [set_scores(request[~request["set"].isin(OF_A_REQUEST)], task) for request in requests]
    means = {name: sum(one[name] for one in each) / len(each) for name in each[0]}
    return means | set_scores(predictions[own], task)


def _compared(
    *,
    scores: dict[str, float],
    losses: dict[str, npt.NDArray[Any]],
    attacks: Mapping[str, Any],
    retrained: pd.DataFrame,
    pretrained: pd.DataFrame | None,
    task: Task,
) -> dict[str, Any]:
    """What follows from scores, losses and attacks, beside the retrained model's."""
    theirs = set_scores(retrained, task)
    value = tow(scores, theirs)
    normalised = None
    if pretrained is not None:
        normalised = normalised_tow(value, tow(set_scores(pretrained, task), theirs))
    on_retrained = _attack(_losses(retrained)).auc
    return {
        **{f"{name}_score": scores[name] for name in SET_NAMES},
        **{f"{name}_loss": float(losses[name].mean(dtype=np.float64)) for name in SET_NAMES},
        **{f"{name}_gap": gap for name, gap in signed_gaps(scores, theirs).items()},
        "tow": value,
        "tow_normalised": normalised,
        "tow_with_mia": tow_with_mia(scores, theirs, attacks["mia_auc"], on_retrained),
        **attacks,
    }


def average_precision_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """AP of every attribute on every set.

    Args:
        predictions: Of a multilabel model, as ``oneshui.training.predict.predict`` gives them.

    Returns:
        Columns ``set``, ``attribute`` (index), ``positives`` (images that have it) and
        ``average_precision``, null where there is none.
    """
    frames = []
    for name, part in predictions.groupby("set", sort=False):
        labels = np.stack(part["label"].to_list())
        precisions = average_precisions(np.stack(part["logits"].to_list()), labels)
        frames.append(
            pd.DataFrame(
                {
                    "set": str(name),
                    "attribute": np.arange(len(precisions)),
                    "positives": labels.sum(axis=0).astype(np.int64),
                    "average_precision": precisions,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def loss_attack(predictions: pd.DataFrame, seed: int = ATTACK_SEED) -> LossMIA:
    """The loss attack on one model, with the votes of its forest.

    Args:
        predictions: Of the model, as ``oneshui.training.predict.predict`` gives them.
        seed: Of the forest; models that are compared need the same.
    """
    return _attack(_losses(predictions), seed=seed)


def _losses(predictions: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    return {str(name): part["loss"].to_numpy() for name, part in predictions.groupby("set")}


def _attacks(predictions: pd.DataFrame, attack: LossMIA | None) -> dict[str, float]:
    losses = _losses(predictions)
    attack, reference = attack or _attack(losses), _attack(losses, "reference")
    return {
        "mia_auc": attack.auc,
        "mia_acc": attack.accuracy,
        "mia_threshold_auc": threshold_auc(losses["forget"], losses["test"]),
        "mia_reference_auc": reference.auc,
        "mia_reference_acc": reference.accuracy,
    }


def _attack(
    losses: dict[str, npt.NDArray[Any]],
    variant: Literal["corrected", "reference"] = "corrected",
    seed: int = ATTACK_SEED,
) -> LossMIA:
    sets: dict[str, Any] = {name: losses[name] for name in ("retain", "val", "forget", "test")}
    return loss_mia(**sets, seed=seed, variant=variant)


def set_scores(predictions: pd.DataFrame, task: Task) -> dict[str, float]:
    """The mAP or accuracy in [0, 1] of every set of stored predictions."""
    scores = {}
    for name, part in predictions.groupby("set"):
        labels = np.stack(part["label"].to_list())
        if task == "multiclass":
            labels = labels[:, 0].astype(np.int64)
        scores[str(name)] = score(np.stack(part["logits"].to_list()), labels, task)
    return scores
