"""All measures of one model, as pure functions of stored predictions."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.attacks.loss_mia import LossMIA, loss_mia, threshold_auc
from oneshui.data.splits import SET_NAMES
from oneshui.errors import InputError
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
) -> dict[str, Any]:
    """What one model's predictions say beside the retrained model's.

    Args:
        predictions: Of the model, as ``oneshui.training.predict.predict`` gives them.
        retrained: Of the retrained model of the same cell, on the same images.
        pretrained: Of the pretrained model, for the normalised ToW.
        task: "multilabel" or "multiclass".
        attack: What ``loss_attack`` gives of the model, where that is there already.

    Returns:
        Fractions in [0, 1] but for losses: ``<set>_score`` (mAP or accuracy) and ``<set>_loss``
        (sample mean) for every set; ``<set>_gap`` (score minus the retrained model's, in [-1, 1])
        for retain, forget and test; ``tow``, ``tow_normalised`` (0 as pretrained, 1 as retrained;
        None where undefined) and ``tow_with_mia`` (with the loss MIA's AUC as fourth factor);
        ``mia_auc``, ``mia_acc`` (share of forget images that the attack takes for non-members),
        ``mia_threshold_auc``, and the authors' ``mia_reference_auc`` and ``mia_reference_acc``;
        and whatever is registered with ``oneshui.metrics.registry``: ``js_forget``, ``js_test``,
        ``num_attributes``, ``nomus``.

    Raises:
        InputError: The tables are not about the same images.
    """
    others = [retrained] if pretrained is None else [retrained, pretrained]
    for other in others:
        if not predictions[["set", "image"]].equals(other[["set", "image"]]):
            raise InputError("predictions of the model and of the retrained model differ in images")
    own, theirs = set_scores(predictions, task), set_scores(retrained, task)
    losses, retrained_losses = _losses(predictions), _losses(retrained)
    attack, on_retrained = attack or _attack(losses), _attack(retrained_losses)
    reference = _attack(losses, "reference")
    value = tow(own, theirs)
    normalised = None
    if pretrained is not None:
        normalised = normalised_tow(value, tow(set_scores(pretrained, task), theirs))
    return {
        **{f"{name}_score": own[name] for name in SET_NAMES},
        **{f"{name}_loss": float(losses[name].mean(dtype=np.float64)) for name in SET_NAMES},
        **{f"{name}_gap": gap for name, gap in signed_gaps(own, theirs).items()},
        "tow": value,
        "tow_normalised": normalised,
        "tow_with_mia": tow_with_mia(own, theirs, attack.auc, on_retrained.auc),
        "mia_auc": attack.auc,
        "mia_acc": attack.accuracy,
        "mia_threshold_auc": threshold_auc(losses["forget"], losses["test"]),
        "mia_reference_auc": reference.auc,
        "mia_reference_acc": reference.accuracy,
        **measured(Predicted(predictions=predictions, retrained=retrained, task=task)),
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


def loss_attack(predictions: pd.DataFrame) -> LossMIA:
    """The loss attack on one model, with the votes of its forest.

    Args:
        predictions: Of the model, as ``oneshui.training.predict.predict`` gives them.
    """
    return _attack(_losses(predictions))


def _losses(predictions: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    return {str(name): part["loss"].to_numpy() for name, part in predictions.groupby("set")}


def _attack(
    losses: dict[str, npt.NDArray[Any]],
    variant: Literal["corrected", "reference"] = "corrected",
) -> LossMIA:
    sets: dict[str, Any] = {name: losses[name] for name in ("retain", "val", "forget", "test")}
    return loss_mia(**sets, seed=ATTACK_SEED, variant=variant)


def set_scores(predictions: pd.DataFrame, task: Task) -> dict[str, float]:
    """The mAP or accuracy in [0, 1] of every set of stored predictions."""
    scores = {}
    for name, part in predictions.groupby("set"):
        labels = np.stack(part["label"].to_list())
        if task == "multiclass":
            labels = labels[:, 0].astype(np.int64)
        scores[str(name)] = score(np.stack(part["logits"].to_list()), labels, task)
    return scores
