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
from dataclasses import replace
from typing import TypeAlias, cast

import torch
from torch import nn
from torch.nn import functional as F

from oneshui.data.images import LabelledImages
from oneshui.methods._sgd import CosineSGD
from oneshui.methods._teachers import Divergence, TeacherSteps
from oneshui.spec import Task
from oneshui.training.losses import task_loss

Batches: TypeAlias = Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]
"""Gives the (inputs [B, 3, S, S], labels) of an epoch."""

MixedBatches: TypeAlias = Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]
"""Gives the (inputs [B, 3, S, S], labels, is_forget bool [B]) of an epoch."""

CLIP_NORM = 1.0
"""Largest norm of the gradient of SCRUB's forget steps."""


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


def scrub(
    model: nn.Module,
    method: TeacherSteps,
    forget: Batches,
    retain: Batches | None = None,
    *,
    temperature: float,
    forget_epochs: int,
    task: Task,
    alpha: float = 0.0,
    gamma: float = 0.0,
) -> list[torch.Tensor]:
    """Move the model away from itself on D_f and, where there is D_r, keep it there; in place.

    Args:
        model: In evaluation mode; as it is handed in, it is also the teacher.
        method: Gives the steps and the divergence.
        forget: Batches of D_f.
        retain: Batches of D_r; None for no retain steps.
        temperature: Divides logits in the divergence, which is multiplied by its square.
        forget_epochs: The first so many epochs begin with a pass over D_f.
        task: Which loss.
        alpha: Weight of the divergence on D_r.
        gamma: Weight of the task loss on D_r.

    Returns:
        The norm of every forget step's gradient before clipping, scalars.
    """
    teacher = copy.deepcopy(model)
    forget_norm = min(CLIP_NORM, method.clip_norm or CLIP_NORM)
    # The first step's gradient is rounding alone, so its length says nothing.
    sgd = CosineSGD(model, method, first_length=forget_norm)

    def distance(inputs: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = probabilities(teacher(inputs) / temperature, method.divergence)
        return temperature**2 * divergence(target, logits / temperature, method.divergence)

    norms = []
    for epoch in range(method.epochs):
        sgd.start_epoch(epoch)
        if epoch < forget_epochs:
            for inputs, _ in forget():
                norms.append(sgd.step(-distance(inputs, model(inputs)), forget_norm))
        for inputs, labels in retain() if retain is not None else ():
            logits = model(inputs)
            sgd.step(alpha * distance(inputs, logits) + gamma * task_loss(logits, labels, task))
    return norms


def follow_teachers(
    model: nn.Module, method: TeacherSteps, dumb: nn.Module, batches: MixedBatches
) -> None:
    """Make the model predict like ``dumb`` on D_f and like itself on D_r, in place.

    Args:
        model: In evaluation mode; as it is handed in, it is also the good teacher.
        method: Gives the steps and the divergence.
        dumb: The other teacher, in evaluation mode.
        batches: Images of D_f and D_r with what they are.
    """
    original = copy.deepcopy(model)

    def asked() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for inputs, _, is_forget in batches():
            yield inputs, _answers_of_both(original, dumb, inputs, is_forget)

    follow(model, method, asked)


def follow(model: nn.Module, method: TeacherSteps, batches: Batches) -> None:
    """Make the model predict as it is told, in place.

    Args:
        model: In evaluation mode.
        method: Gives the steps and the divergence.
        batches: Images, and in place of labels a teacher's logits [B, C] for them.
    """
    sgd = CosineSGD(model, method)
    for epoch in range(method.epochs):
        sgd.start_epoch(epoch)
        for inputs, answers in batches():
            target = probabilities(answers, method.divergence)
            sgd.step(divergence(target, model(inputs), method.divergence))


@torch.no_grad()
def _answers_of_both(
    good: nn.Module, dumb: nn.Module, inputs: torch.Tensor, is_forget: torch.Tensor
) -> torch.Tensor:
    """Logits [B, C] of ``dumb`` for images of D_f and of ``good`` for the others."""
    if is_forget.all():
        return cast(torch.Tensor, dumb(inputs))
    found: torch.Tensor = good(inputs[~is_forget])
    answers = found.new_empty(len(inputs), *found.shape[1:])
    answers[~is_forget] = found
    if is_forget.any():
        answers[is_forget] = dumb(inputs[is_forget])
    return answers


@torch.no_grad()
def taught_by(
    teacher: nn.Module, data: LabelledImages, batch_size: int, device: torch.device
) -> LabelledImages:
    """The images with the teacher's logits for them, float32 [n, C], in place of labels.

    A teacher that never changes says the same of the same picture in every epoch.

    Args:
        teacher: In evaluation mode, on the device.
        data: Images, which are not augmented.
        batch_size: Images per pass.
        device: Where to compute.
    """
    answers = [teacher(inputs) for inputs, _ in data.batches(batch_size, device)]
    return replace(data, labels=torch.cat(answers).cpu())


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
