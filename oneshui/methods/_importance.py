"""How much a set of images matters to every weight, and dampening by it.

Source: Foster et al., "Fast machine unlearning without retraining through selective synaptic
dampening" (arXiv 2308.07707). The importance of a weight is its mean squared gradient of a
loss: the task loss for SSD, the squared norm of the logits for its label-free sibling, which may
also take the gradient's size.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from oneshui.accelerator import free_bytes
from oneshui.errors import NumericalError
from oneshui.methods._sample_gradients import LayerwiseError, is_layerwise, squared_gradient_sums
from oneshui.requests import PrepareRequest, UnlearnRequest
from oneshui.spec import Task
from oneshui.training.losses import task_loss

Importances: TypeAlias = dict[str, torch.Tensor]
"""Importance of every entry of every parameter, by the parameter's name."""

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Mean over a batch of a number per image, from logits [B, C] and labels; a scalar."""

MAX_GRADIENT_NUMBERS = 2**28
"""Numbers that the per-image gradients of one chunk may hold (1 GiB in float32), at least."""


def loss_of(task: Task) -> Loss:
    """The task loss for this task."""
    return partial(task_loss, task=task)


def squared_norm(logits: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Mean over images of the squared L2 norm of the logits [B, C], a scalar; ignores labels."""
    return logits.square().sum(1).mean()


@dataclass(frozen=True, kw_only=True)
class ImportanceMeasure:
    """One way to measure importance.

    Attributes:
        loss: Whose gradient is squared.
        kind: "batch" squares the gradient of a batch's mean, "sample" that of each image.
        batch_size: Images per gradient ("batch"), or at most so many at a time ("sample").
        power: 2 squares, 1 takes the size in place of the square.
    """

    loss: Loss
    kind: Literal["batch", "sample"]
    batch_size: int
    power: int = 2

    def __call__(
        self, model: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
    ) -> Importances:
        """Importances of all images of the batches."""
        measure = batch_importances if self.kind == "batch" else sample_importances
        return measure(model, batches, self.loss, power=self.power)


def train_importances(
    request: PrepareRequest, measure: ImportanceMeasure, generator: torch.Generator
) -> Importances:
    """Importances of D_tr, float32 on the CPU, by parameter name.

    Args:
        request: Gives model and D_tr.
        measure: How to measure.
        generator: Draws the order of D_tr, on which the importance "batch" depends.
    """
    model = copy.deepcopy(request.model).to(request.device).eval()
    order = torch.randperm(len(request.train), generator=generator)
    batches = request.train.select(order).batches(measure.batch_size, request.device)
    return {name: value.cpu().contiguous() for name, value in measure(model, batches).items()}


def dampened_model(
    request: UnlearnRequest,
    measure: ImportanceMeasure,
    *,
    alpha: float,
    share: float,
    dampening: float,
) -> nn.Module:
    """A copy of the request's model, in evaluation mode, dampened by the importances of S.

    Args:
        request: Gives model, S and, as preparation, the importances of D_tr.
        measure: How D_tr was measured.
        alpha: Selection threshold, where ``share`` is 0.
        share: Share of the weights to select; 0 to go by ``alpha``.
        dampening: Lambda.
    """
    model, forget, original = measured(request, measure)
    dampen(model, forget, original, alpha=alpha, share=share, dampening=dampening)
    return model


def measured(
    request: UnlearnRequest, measure: ImportanceMeasure
) -> tuple[nn.Module, Importances, Importances]:
    """A copy of the request's model, in evaluation mode, and its importances of S and of D_tr.

    Args:
        request: Gives model, S and, as preparation, the importances of D_tr.
        measure: How D_tr was measured.
    """
    model = copy.deepcopy(request.model).to(request.device).eval()
    inputs = request.support.inputs().to(request.device)
    labels = request.support.labels.to(request.device)
    forget = measure(model, _smaller([(inputs, labels)], measure.batch_size))
    return model, forget, {name: request.prepared[name].to(request.device) for name in forget}


def batch_importances(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    loss: Loss,
    *,
    power: int = 2,
) -> Importances:
    """Mean over batches of the squared gradient of the batch's mean.

    Args:
        model: In evaluation mode; only its parameters that require a gradient are measured.
        batches: (inputs [B, 3, S, S], labels) on the model's device, at least one.
        loss: Whose gradient is squared.
        power: 1 for its size in place of its square.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = [torch.zeros_like(parameter) for parameter in parameters.values()]
    count = 0
    for inputs, labels in batches:
        value = loss(model(inputs), labels)
        gradients = torch.autograd.grad(value, list(parameters.values()))
        if power == 1:
            torch._foreach_add_(total, torch._foreach_abs(gradients))
        else:
            torch._foreach_addcmul_(total, gradients, gradients)
        count += 1
    torch._foreach_div_(total, count)
    return dict(zip(parameters, total, strict=True))


def sample_importances(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    loss: Loss,
    *,
    power: int = 2,
) -> Importances:
    """Mean over images of the squared gradient of the image's number.

    Equals ``batch_importances`` with batches of one image. Gradients of several images are
    computed at once, of as many as MAX_GRADIENT_NUMBERS or a GPU's free memory allows, layer by
    layer where ``oneshui.methods._sample_gradients``, which only squares, has rules for all of
    them.

    Args:
        model: In evaluation mode; only its parameters that require a gradient are measured.
        batches: (inputs [B, 3, S, S], labels) on the model's device, at least one.
        loss: Whose gradient is squared.
        power: 1 for its size in place of its square.
    """
    parameters = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    num_numbers = sum(parameter.numel() for parameter in parameters.values())
    device = next(iter(parameters.values())).device
    chunk_size = max(1, _gradient_numbers(device) // num_numbers)
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    layerwise = power == 2 and is_layerwise(model)
    count = 0
    for inputs, labels in _smaller(batches, chunk_size):
        if layerwise:
            try:
                sums = squared_gradient_sums(model, inputs, labels, loss)
            except LayerwiseError:
                layerwise = False
        if not layerwise:
            sums = _vectorised_sums(model, parameters, inputs, labels, loss, power)
        for name, value in sums.items():
            total[name] += value
        count += len(inputs)
    return {name: value / count for name, value in total.items()}


def _vectorised_sums(
    model: nn.Module,
    parameters: Importances,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    loss: Loss,
    power: int,
) -> Importances:
    """Sum over images of powers of the gradients of any model, all of them held at once."""

    def value(
        parameters: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor
    ) -> torch.Tensor:
        logits = torch.func.functional_call(model, parameters, image[None])
        return loss(logits, label[None])

    gradients_of = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0, 0))
    # The fused attention kernels have no rule for a batch of gradients.
    with sdpa_kernel(SDPBackend.MATH):
        gradients = gradients_of(parameters, inputs, labels)
    return {
        name: (gradient.abs() if power == 1 else gradient.square()).sum(dim=0)
        for name, gradient in gradients.items()
    }


def _gradient_numbers(device: torch.device) -> int:
    # A quarter of the free memory for the gradients and another one for their squares: with the
    # processor's bound a ViT-B would go three images at a time.
    return max(MAX_GRADIENT_NUMBERS, free_bytes(device) // 16)


def _smaller(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]], size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for inputs, labels in batches:
        yield from zip(torch.split(inputs, size), torch.split(labels, size), strict=True)


def dampen(
    model: nn.Module,
    forget: Mapping[str, torch.Tensor],
    original: Mapping[str, torch.Tensor],
    *,
    alpha: float,
    share: float = 0.0,
    dampening: float,
) -> None:
    """Dampen the model's weights in place.

    Args:
        model: The model.
        forget: Importances of S.
        original: Importances of D_tr, with the same names and shapes.
        alpha: Selection threshold, where ``share`` is 0.
        share: Share of the weights to select; 0 to go by ``alpha``.
        dampening: Lambda.
    """
    parameters = dict(model.named_parameters())
    chosen = _most_important(forget, original, share) if share else {}
    with torch.no_grad():
        for name, importance in forget.items():
            # A selected weight has a positive importance to S, so nothing is divided by 0.
            selected = chosen[name] if share else importance > alpha * original[name]
            factor = (dampening * original[name] / importance).clamp(max=1.0)
            parameters[name].mul_(torch.where(selected, factor, 1.0))


def percentile_alpha(
    forget: Mapping[str, torch.Tensor], original: Mapping[str, torch.Tensor], percentile: float
) -> float:
    """The percentile of how much more important each weight is to S than to D_tr.

    Args:
        forget: Importances of S.
        original: Importances of D_tr, with the same names and shapes.
        percentile: 0 to 100, interpolated linearly between two weights.

    Returns:
        An alpha for ``dampen``; weights of no importance to D_tr have no ratio and do not count,
        and where no weight has one alpha is not a number, so that nothing is selected.
    """
    ratios = torch.cat([(f / original[name]).flatten() for name, f in forget.items()])
    ratios = ratios[ratios.isfinite()]
    if not len(ratios):
        return math.nan
    place = (len(ratios) - 1) * percentile / 100
    low, high = (
        float(ratios.kthvalue(1 + rank).values) for rank in (math.floor(place), math.ceil(place))
    )
    return low + (high - low) * (place - math.floor(place))


def _most_important(
    forget: Mapping[str, torch.Tensor], original: Mapping[str, torch.Tensor], share: float
) -> Mapping[str, torch.Tensor]:
    """True for so large a share of the weights, those most important to S relative to D_tr.

    Args:
        forget: Importances of S.
        original: Importances of D_tr, with the same names and shapes.
        share: In [0, 1]; less is selected where fewer weights matter to S at all.

    Returns:
        bool, in the importances' shapes. Of equal ratios the first ones, in the order of names.
    """
    if not all(torch.isfinite(f).all() for f in (*forget.values(), *original.values())):
        raise NumericalError(
            "importances are not finite, so no share of the weights is the most important: give "
            "an alpha in place of share"
        )
    # No ratio is negative, and 0 / 0 would be none.
    ratios = torch.cat(
        [torch.where(f > 0, f / original[name], -1.0).flatten() for name, f in forget.items()]
    )
    count = min(round(share * len(ratios)), int((ratios >= 0).sum()))
    if count == 0:
        selected = torch.zeros_like(ratios, dtype=torch.bool)
    else:
        smallest = ratios.kthvalue(len(ratios) - count + 1).values
        selected = ratios > smallest
        equal = (ratios == smallest).nonzero().flatten()
        selected[equal[: count - int(selected.sum())]] = True
    parts = torch.split(selected, [f.numel() for f in forget.values()])
    return {name: part.view_as(forget[name]) for name, part in zip(forget, parts, strict=True)}
