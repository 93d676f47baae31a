"""All measures of one model, as pure functions of stored predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from oneshui.attacks.loss_mia import loss_mia, threshold_auc
from oneshui.errors import InputError
from oneshui.metrics.scores import score
from oneshui.metrics.tow import tow
from oneshui.spec import Task
from oneshui.splits import SET_NAMES

ATTACK_SEED = 0
"""One forest for all models, so that two models' attacks differ by the models alone."""


def measure(predictions: pd.DataFrame, retrained: pd.DataFrame, *, task: Task) -> dict[str, Any]:
    """Scores, ToW and loss MIA of one model.

    Args:
        predictions: Of the model, as ``oneshui.evaluation.predict`` gives them.
        retrained: Of the retrained model of the same cell, on the same images.
        task: "multilabel" or "multiclass".

    Returns:
        ``<set>_score`` (mAP or accuracy, in [0, 1]) and ``<set>_loss`` (sample mean) for every
        set, ``tow``, ``mia_auc``, ``mia_acc`` (share of forget images that the attack takes for
        non-members) and ``mia_threshold_auc``, all in [0, 1].

    Raises:
        InputError: The two tables are not about the same images.
    """
    if not predictions[["set", "image"]].equals(retrained[["set", "image"]]):
        raise InputError("predictions of the model and of the retrained model differ in images")
    own = _scores(predictions, task)
    reference = _scores(retrained, task)
    losses = {name: part["loss"].to_numpy() for name, part in predictions.groupby("set")}
    attack = loss_mia(
        retain=losses["retain"],
        val=losses["val"],
        forget=losses["forget"],
        test=losses["test"],
        seed=ATTACK_SEED,
    )
    return {
        **{f"{name}_score": own[name] for name in SET_NAMES},
        **{f"{name}_loss": float(losses[name].mean(dtype=np.float64)) for name in SET_NAMES},
        "tow": tow(own, reference),
        "mia_auc": attack.auc,
        "mia_acc": attack.accuracy,
        "mia_threshold_auc": threshold_auc(losses["forget"], losses["test"]),
    }


def _scores(predictions: pd.DataFrame, task: Task) -> dict[str, float]:
    scores = {}
    for name, part in predictions.groupby("set"):
        labels = np.stack(part["label"].to_list())
        if task == "multiclass":
            labels = labels[:, 0].astype(np.int64)
        scores[str(name)] = score(np.stack(part["logits"].to_list()), labels, task)
    return scores
