"""Pretraining and retraining."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from sweeps.graph.artifacts import WEIGHTS
from sweeps.stages.context import (
    JobContext,
    device,
    images,
    load_split,
    new_model,
)
from sweeps.store.checkpoints import PacedCheckpoint

if TYPE_CHECKING:
    from oneshui.data.splits import SetName
    from oneshui.training.train import Epoch, TrainingState


def _train(context: JobContext, set_name: SetName | Literal["train"]) -> dict[str, Any]:
    from oneshui.seeding import derive_seed
    from oneshui.spec import TrainingSpec
    from oneshui.training.models import save_weights
    from oneshui.training.train import train

    spec = context.job.spec
    split = load_split(context)
    seed = derive_seed(spec["training_seed"], spec["reseed"])
    model = new_model(context, seed)
    data, val = images(context, split, set_name), images(context, split, "val")
    checkpoint = context.env.store.checkpoint(context.job, context.reached_with)
    resume = checkpoint.load()
    paced = PacedCheckpoint(checkpoint, context.env.checkpoint_seconds)

    def on_epoch(epoch: Epoch, take_down: Callable[[], TrainingState]) -> None:
        if epoch.number < spec["training"]["epochs"]:
            paced.offer(take_down)

    history = context.timed(
        "method_seconds",
        lambda: train(
            model,
            data,
            val,
            TrainingSpec(**spec["training"]),
            task=context.entries["split"].value["task"],
            seed=seed,
            device=device(context),
            resume=resume,
            on_epoch=on_epoch,
        ),
    )
    if resume is not None:
        context.cost["resumed_epochs"] = resume.epoch
    save_weights(model, context.folder / WEIGHTS)
    return {"epochs": [dataclasses.asdict(epoch) for epoch in history]}


def pretrain(context: JobContext) -> dict[str, Any]:
    """The pretrained model: trained on D_tr."""
    return _train(context, "train")


def retrain(context: JobContext) -> dict[str, Any]:
    """The retrained model: the same recipe on D_r alone."""
    return _train(context, "retain")
