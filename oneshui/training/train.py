"""Pretraining and retraining: one loop, one recipe, deterministic on the CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from oneshui.accelerator import (
    Policy,
    compiled,
    forked_random,
    place,
    policy_for,
    precision,
    widest,
)
from oneshui.data.images import LabelledImages
from oneshui.errors import InputError, NumericalError
from oneshui.metrics.scores import score
from oneshui.seeding import derive_seed, torch_generator
from oneshui.spec import Task, TrainingSpec
from oneshui.training.losses import task_loss
from oneshui.training.optimizer_state import optimizer_tensors, restore_optimizer
from oneshui.training.predict import predict_logits
from oneshui.training.schedule import learning_rate


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of a training run.

    Attributes:
        number: From 1.
        loss: Mean training loss over the images of the epoch.
        val_score: mAP or accuracy on the validation set, in [0, 1].
    """

    number: int
    loss: float
    val_score: float


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """How far a training run has come: all that its next epoch depends on.

    Attributes:
        epoch: Finished epochs.
        history: Their records, as plain values.
        tensors: On the CPU: "model." weights and buffers, "optimizer.<parameter>." its state,
            "best." the weights of the best epoch so far if they are kept.
    """

    epoch: int
    history: tuple[Mapping[str, Any], ...]
    tensors: Mapping[str, torch.Tensor]


def _take_down(
    history: list[Epoch],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, torch.Tensor] | None,
) -> TrainingState:
    named = {f"model.{name}": value for name, value in model.state_dict().items()}
    named |= {f"best.{name}": value for name, value in (best or {}).items()}
    named |= {f"optimizer.{name}": value for name, value in optimizer_tensors(optimizer).items()}
    # Clones, because tied weights share memory, which safetensors refuses.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in named.items()}
    records = tuple(asdict(epoch) for epoch in history)
    return TrainingState(epoch=len(history), history=records, tensors=tensors)


def _restore(
    progress: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[list[Epoch], dict[str, torch.Tensor] | None]:
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    for name, value in progress.tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    model.load_state_dict(parts["model"])
    restore_optimizer(optimizer, parts["optimizer"])
    history = [Epoch(**record) for record in progress.history]
    device = next(model.parameters()).device
    best = {name: value.to(device) for name, value in parts["best"].items()}
    return history, best or None


def make_optimizer(
    model: nn.Module, spec: TrainingSpec, *, fused: bool = False
) -> torch.optim.Optimizer:
    """The optimiser of the recipe over all parameters; ``fused`` computes it in one kernel."""
    if spec.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=spec.learning_rate,
            momentum=spec.momentum,
            weight_decay=spec.weight_decay,
            fused=fused or None,
        )
    adam = torch.optim.Adam if spec.optimizer == "adam" else torch.optim.AdamW
    return adam(
        model.parameters(),
        lr=spec.learning_rate,
        weight_decay=spec.weight_decay,
        amsgrad=spec.amsgrad,
        fused=fused or None,
    )


def _score(
    model: nn.Module, val: LabelledImages, task: Task, device: torch.device, policy: Policy
) -> float:
    logits = predict_logits(model, val, device=device, policy=policy)
    if not torch.isfinite(logits).all():
        raise NumericalError("training left the finite numbers: lower training.learning_rate")
    return score(logits, val.labels, task)


def _images_of_an_epoch(count: int, spec: TrainingSpec) -> int:
    """How many of so many images an epoch shows."""
    seen = count - count % spec.batch_size if spec.drop_last else count
    if seen == 0:
        raise InputError(
            f"training.drop_last leaves out all of {count} images, which do not fill a batch of "
            f"training.batch_size={spec.batch_size}: lower that, or set drop_last to false"
        )
    return seen


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: LabelledImages,
    spec: TrainingSpec,
    task: Task,
    seed: int,
    epoch: int,
    device: torch.device,
    shuffle: bool,
    policy: Policy,
) -> float:
    """One pass over the images; the mean loss."""
    seen = _images_of_an_epoch(len(data), spec)
    steps_per_epoch = math.ceil(seen / spec.batch_size)
    generator = torch_generator(seed, "training", epoch)
    order = torch.randperm(len(data), generator=generator) if shuffle else torch.arange(len(data))
    model.train()
    total = torch.zeros((), dtype=widest(device), device=device)
    with forked_random(device):
        # Layers that drop activations draw from the global generator; a training that resumes at
        # this epoch must find it as one that ran through.
        torch.manual_seed(derive_seed(seed, "layers", epoch))
        forward = compiled(model, policy, spec.epochs * steps_per_epoch)
        batches = data.augmented_batches(
            order[:seen],
            spec.batch_size,
            spec.augmentation,
            device=device,
            policy=policy,
            seed=derive_seed(seed, "pictures", epoch),
        )
        for index, (images, labels) in enumerate(batches):
            with precision(model, device, policy):
                logits = forward(images)
            loss = task_loss(logits, labels, task)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(spec, epoch * steps_per_epoch + index, steps_per_epoch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if spec.clip_norm:
                nn.utils.clip_grad_norm_(model.parameters(), spec.clip_norm)
            optimizer.step()
            total += loss.detach() * len(images)
    mean_loss = (total / seen).item()
    if not math.isfinite(mean_loss):
        raise NumericalError(
            f"training loss is {mean_loss} in epoch {epoch + 1}: lower training.learning_rate "
            f"(now {spec.learning_rate})"
        )
    return mean_loss


def train(
    model: nn.Module,
    data: LabelledImages,
    val: LabelledImages,
    spec: TrainingSpec,
    *,
    task: Task,
    seed: int,
    device: torch.device,
    shuffle: bool = True,
    resume: TrainingState | None = None,
    on_epoch: Callable[[Epoch, Callable[[], TrainingState]], None] | None = None,
    policy: Policy | None = None,
) -> list[Epoch]:
    """Train the model in place and leave it in evaluation mode.

    Args:
        model: Starting point; moved to ``device``.
        data: Training images.
        val: Validation images; they choose the epoch when ``spec.keep`` is "best".
        spec: The recipe.
        task: "multilabel" or "multiclass".
        seed: Of shuffling and augmentation.
        device: Where to compute.
        shuffle: Whether to draw a new order every epoch.
        resume: What an earlier call of the same training had reached; the result is the same
            to the bit as without the interruption.
        on_epoch: Called after every epoch with its record and a function that takes down what the
            training has reached.
        policy: How to compute; None for ``oneshui.accelerator.policy_for``.

    Returns:
        One record per epoch.

    Raises:
        InputError: ``spec.drop_last`` leaves no image.
        NumericalError: The loss is not finite.
    """
    policy = policy or policy_for(model, device)
    place(model, device, policy)
    optimizer = make_optimizer(model, spec, fused=policy.fused)
    history: list[Epoch] = []
    best: dict[str, torch.Tensor] | None = None
    if resume is not None:
        history, best = _restore(resume, model, optimizer)
    for epoch in range(len(history), spec.epochs):
        mean_loss = _train_epoch(
            model, optimizer, data, spec, task, seed, epoch, device, shuffle, policy
        )
        val_score = _score(model, val, task, device, policy)
        history.append(Epoch(number=epoch + 1, loss=mean_loss, val_score=val_score))
        if spec.keep == "best" and val_score > max((e.val_score for e in history[:-1]), default=-1):
            best = {name: value.detach().clone() for name, value in model.state_dict().items()}
        if on_epoch is not None:
            on_epoch(history[-1], functools.partial(_take_down, history, model, optimizer, best))
    if best is not None:
        model.load_state_dict(best)
    return history
