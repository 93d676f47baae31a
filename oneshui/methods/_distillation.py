"""Unlearning by teachers: SCRUB and Bad Teacher.

SCRUB moves away from its teacher on D_f, Bad Teacher follows a random one there. Sources:
Kurmanji et al., "Towards unbounded machine unlearning" (arXiv 2302.09880); Chundawat et al., "Can
bad teaching induce forgetting?" (arXiv 2205.08096); both as the 1-SHUI benchmark runs them
(docs/benchmark.md, "scrub" and "bad_teacher"). Both compare predictions by the Kullback-Leibler
divergence: of a softmax over all outputs ("softmax"), or summed over independent attributes
("bernoulli"; docs/benchmark.md, R1).

Shapes: B images, C outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

from oneshui.data.crops import Augmentation
from oneshui.data.images import LabelledImages
from oneshui.errors import InputError
from oneshui.methods._sgd import CosineSGD, mixed_batches
from oneshui.requests import UnlearnRequest
from oneshui.spec import Task
from oneshui.training.losses import task_loss

Divergence = Literal["softmax", "bernoulli"]

Batches: TypeAlias = Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]
"""Gives the (inputs [B, 3, S, S], labels) of an epoch."""

MixedBatches: TypeAlias = Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]
"""Gives the (inputs [B, 3, S, S], is_forget bool [B]) of an epoch."""


def require_divergence(divergence: Divergence, task: Task, method: str) -> None:
    """Refuse a divergence between independent attributes where there are classes.

    Raises:
        InputError: It is "bernoulli" and the task is "multiclass".
    """
    if divergence == "bernoulli" and task == "multiclass":
        raise InputError(
            f"{method}.divergence is 'bernoulli', which is for independent attributes, but this "
            "dataset has classes: use 'softmax'"
        )


def probabilities(logits: torch.Tensor, kind: Divergence) -> torch.Tensor:
    """Of classes or of attributes, [B, C], from logits [B, C]."""
    return logits.softmax(1) if kind == "softmax" else logits.sigmoid()


def divergence(target: torch.Tensor, logits: torch.Tensor, kind: Divergence) -> torch.Tensor:
    """KL(target || prediction), summed over outputs, mean over images, a scalar.

    Args:
        target: Probabilities [B, C].
        logits: Of the prediction, [B, C].
        kind: What the probabilities are of.
    """
    if kind == "softmax":
        return F.kl_div(logits.log_softmax(1), target, reduction="batchmean")
    present = F.kl_div(F.logsigmoid(logits), target, reduction="batchmean")
    return present + F.kl_div(F.logsigmoid(-logits), 1 - target, reduction="batchmean")


@dataclass(frozen=True, kw_only=True)
class ScrubOptions:
    """How SCRUB weighs and steps.

    Attributes:
        epochs: Passes over D_r.
        forget_epochs: The first so many epochs begin with a pass over D_f.
        learning_rate: Of the first epoch; a cosine over epochs follows.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        temperature: Divides logits in the divergence, which is multiplied by its square.
        alpha: Weight of the divergence on D_r.
        gamma: Weight of the task loss on D_r.
        clip_norm: Largest norm of a forget step's gradient.
        divergence: "softmax" or "bernoulli".
    """

    epochs: int
    forget_epochs: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    temperature: float = 4.0
    alpha: float = 0.001
    gamma: float = 0.99
    clip_norm: float = 1.0
    divergence: Divergence = "softmax"


def scrub(
    model: nn.Module,
    forget: Batches,
    retain: Batches | None,
    options: ScrubOptions,
    *,
    task: Task,
) -> list[torch.Tensor]:
    """Move the model away from itself on D_f and, where there is D_r, keep it there; in place.

    Args:
        model: In evaluation mode; as it is handed in, it is also the teacher.
        forget: Batches of D_f.
        retain: Batches of D_r; None for no retain steps.
        options: Weights and steps.
        task: Which loss.

    Returns:
        The norm of every forget step's gradient before clipping, scalars.
    """
    teacher = copy.deepcopy(model)
    sgd = CosineSGD(
        model,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
    )

    def distance(inputs: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = probabilities(teacher(inputs) / options.temperature, options.divergence)
        scale = options.temperature**2
        return scale * divergence(target, logits / options.temperature, options.divergence)

    norms = []
    for epoch in range(options.epochs):
        sgd.start_epoch(epoch)
        if epoch < options.forget_epochs:
            for inputs, _ in forget():
                norms.append(sgd.step(-distance(inputs, model(inputs)), options.clip_norm))
        for inputs, labels in retain() if retain is not None else ():
            logits = model(inputs)
            sgd.step(
                options.alpha * distance(inputs, logits)
                + options.gamma * task_loss(logits, labels, task)
            )
    return norms


@dataclass(frozen=True, kw_only=True)
class BadTeacherOptions:
    """How Bad Teacher steps.

    Attributes:
        epochs: Passes.
        learning_rate: Of the first epoch; a cosine over epochs follows.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        divergence: "softmax" or "bernoulli".
    """

    epochs: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    divergence: Divergence = "softmax"


def follow_teachers(
    model: nn.Module, dumb: nn.Module, batches: MixedBatches, options: BadTeacherOptions
) -> None:
    """Make the model predict like ``dumb`` on D_f and like itself on D_r, in place.

    Args:
        model: In evaluation mode; as it is handed in, it is also the good teacher.
        dumb: The other teacher, in evaluation mode.
        batches: Images of D_f and D_r with what they are.
        options: Steps.
    """
    original = copy.deepcopy(model)
    sgd = CosineSGD(
        model,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
    )
    for epoch in range(options.epochs):
        sgd.start_epoch(epoch)
        for inputs, is_forget in batches():
            with torch.no_grad():
                target = torch.where(
                    is_forget.unsqueeze(1),
                    probabilities(dumb(inputs), options.divergence),
                    probabilities(original(inputs), options.divergence),
                )
            sgd.step(divergence(target, model(inputs), options.divergence))


def bad_teaching(
    request: UnlearnRequest,
    forget: LabelledImages,
    retain: LabelledImages | None,
    options: BadTeacherOptions,
    *,
    batch_size: int,
    augmentation: Augmentation = "none",
) -> nn.Module:
    """A copy of the request's model, in evaluation mode, that has followed both teachers.

    Args:
        request: Gives model, device and random numbers.
        forget: D_f, where the random teacher is followed.
        retain: D_r, where the original model is; None for no such images.
        options: Steps.
        batch_size: Images per step.
        augmentation: Of retain images.
    """
    model = copy.deepcopy(request.model).to(request.device).eval()
    dumb = random_teacher(model, request.generator("bad teacher weights")).to(request.device)
    draws = request.generator("bad teacher batches")

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for inputs, _, is_forget in mixed_batches(
            forget,
            retain,
            batch_size,
            device=request.device,
            generator=draws,
            augmentation=augmentation,
        ):
            yield inputs, is_forget

    follow_teachers(model, dumb, batches, options)
    return model


@torch.no_grad()
def random_teacher(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """A network like the model that was never trained, on the CPU in evaluation mode.

    Linear and convolutional layers and normalisations start as PyTorch's do; parameters that other
    modules hold, such as a class token, are drawn from N(0, 0.02^2). Pretraining's own starting
    weights would not do, because they may be ImageNet's.

    Args:
        model: Gives the architecture, none of its weights.
        generator: A CPU generator.
    """
    teacher = copy.deepcopy(model).cpu().requires_grad_(False).eval()
    for module in teacher.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)):
            module.reset_parameters()
        elif isinstance(module, (nn.Linear, nn.Conv2d)):
            bound = module.weight[0].numel() ** -0.5
            for parameter in own:
                parameter.uniform_(-bound, bound, generator=generator)
        else:
            for parameter in own:
                parameter.normal_(std=0.02, generator=generator)
    return teacher
