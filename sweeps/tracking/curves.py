"""How a pretrained or retrained model got there: loss, validation score and learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping

from oneshui.training.schedule import learning_rate
from sweeps.graph.plan import Plan, ResultRow
from sweeps.store import Entry


def training_curves(
    plan: Plan, row: ResultRow, entries: Mapping[str, Entry]
) -> dict[str, list[float]]:
    """Curves by epoch, from epoch 1; none of a row that unlearns, which trains in its own way.

    Args:
        plan: The sweep's graph.
        row: One row of the results table.
        entries: At least the finished jobs that its numbers come from.

    Returns:
        "train/loss" (mean over the epoch's images), "train/val_score" (mAP or accuracy, a fraction
        in [0, 1]) and, where the split is among the entries, "train/learning_rate" (of the epoch's
        last step).
    """
    entry = entries.get(row.model_key)
    if entry is None or not entry.value.get("epochs"):
        return {}
    epochs = entry.value["epochs"]
    curves = {f"train/{name}": [float(e[name]) for e in epochs] for name in ("loss", "val_score")}
    split = entries.get(row.split_key)
    if split is None:
        return curves
    images = split.value["num_images"]
    sets = ("retain", "forget") if entry.stage == "pretrain" else ("retain",)
    seen = sum(images[name] for name in sets)
    recipe = plan.sweep.training[row.cell.dataset]
    batches = seen / recipe.batch_size
    steps = int(batches) if recipe.drop_last else math.ceil(batches)
    rates = [learning_rate(recipe, epoch["number"] * steps - 1, steps) for epoch in epochs]
    return {**curves, "train/learning_rate": rates}
