"""What methods that train on after pretraining have in common: batches, SGD, and their request.

Models are trained on in evaluation mode, as all unlearning here: dropout would draw from the
global random state, and statistics of a normalisation layer are no weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import nn

from oneshui.accelerator import policy_of, transfer, widest
from oneshui.data.crops import Augmentation
from oneshui.data.images import LabelledImages
from oneshui.errors import DataAccessError, NumericalError
from oneshui.requests import FullAccessRequest, SupportSet, UnlearnRequest
from oneshui.spec import Task
from oneshui.training.losses import task_loss
from oneshui.training.models import classifier_of

CHUNK_SIZE = 64
"""Support images per backward pass; bounds memory and leaves the gradient of the mean as it is."""


def full_access(request: UnlearnRequest, method: str) -> FullAccessRequest:
    """The request itself, if it carries D_f and D_r.

    Args:
        request: What the method was handed.
        method: Its name, for the message.

    Raises:
        DataAccessError: The request carries the support set only.
    """
    if not isinstance(request, FullAccessRequest):
        raise DataAccessError(f"{method} needs forget and retain set, so a FullAccessRequest")
    return request


def support_images(support: SupportSet) -> LabelledImages:
    """The support set in the form of a selection of a dataset."""
    return LabelledImages(
        pixels=support.images.cpu().numpy(),
        rows=np.arange(len(support), dtype=np.int64),
        labels=support.labels,
        identities=support.identities,
    )


def shuffled_batches(
    data: LabelledImages,
    batch_size: int,
    *,
    device: torch.device,
    generator: torch.Generator,
    augmentation: Augmentation = "none",
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(inputs, labels) of one epoch in a new order; the last batch may be smaller.

    Args:
        data: The images.
        batch_size: Images per batch.
        device: Where the batches go.
        generator: Draws order and augmentation.
        augmentation: What to do to the images.
    """
    order = torch.randperm(len(data), generator=generator)
    yield from data.augmented_batches(
        order,
        batch_size,
        augmentation,
        device=device,
        policy=policy_of(device),
        seed=_picture_seed(augmentation, generator),
    )


def mixed_batches(
    forget: LabelledImages,
    retain: LabelledImages | None,
    batch_size: int,
    *,
    device: torch.device,
    generator: torch.Generator,
    augmentation: Augmentation = "none",
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(inputs, labels, is_forget) of one epoch over both sets together in a new order.

    Args:
        forget: D_f.
        retain: D_r; None for batches of D_f alone.
        batch_size: Images per batch, forget images first; the last batch may be smaller.
        device: Where the batches go.
        generator: Draws order and augmentation.
        augmentation: What to do to the images.

    Yields:
        inputs [B, 3, S, S], labels as the sets have them, and bool [B].
    """
    num_forget = len(forget)
    total = num_forget + (0 if retain is None else len(retain))
    order = torch.randperm(total, generator=generator)
    seed = _picture_seed(augmentation, generator)
    for rows in torch.split(order, batch_size):
        inner, outer = rows[rows < num_forget], rows[rows >= num_forget] - num_forget
        images = [forget.augmented(inner, augmentation, device=device, seed=seed)]
        labels = [forget.labels[inner]]
        if retain is not None and len(outer):
            images.append(retain.augmented(outer, augmentation, device=device, seed=seed))
            labels.append(retain.labels[outer])
        is_forget = torch.arange(len(rows)) < len(inner)
        yield (
            torch.cat(images),
            transfer(torch.cat(labels), device),
            transfer(is_forget, device),
        )


def _picture_seed(augmentation: Augmentation, generator: torch.Generator) -> int:
    return 0 if augmentation == "none" else int(torch.randint(2**62, (), generator=generator))


def label_prior(labels: torch.Tensor) -> torch.Tensor | None:
    """Probability of each attribute, [C], by the rule of succession; None where there are classes.

    (k + 1) / (n + 2) for k of n images with the attribute is never 0 or 1, however few they are.

    Args:
        labels: float [n, C] of 0/1 or int64 [n].
    """
    return (labels.sum(0) + 1) / (len(labels) + 2) if labels.ndim == 2 else None


def random_labels(
    labels: torch.Tensor,
    prior: torch.Tensor | None,
    num_outputs: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Labels that say nothing about the images, in the form of those given.

    Attributes are drawn independently with the prior's probabilities, so that they stay as common
    as they are; a class is drawn uniformly from the other classes.

    Args:
        labels: The true ones, float [B, C] of 0/1 or int64 [B].
        prior: As ``label_prior`` gives it.
        num_outputs: C.
        generator: A CPU generator.
    """
    if prior is not None:
        draw = torch.rand(labels.shape, generator=generator)
        return (draw < prior.cpu()).to(labels)
    shift = torch.randint(1, num_outputs, labels.shape, generator=generator)
    return (labels + shift.to(labels)) % num_outputs


def mean_gradient(
    model: nn.Module,
    parameters: Sequence[torch.Tensor],
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    task: Task,
) -> list[torch.Tensor]:
    """Gradient of the mean loss over all images of the batches, whatever their sizes.

    Args:
        model: In evaluation mode.
        parameters: Of the model; the gradient's shapes.
        batches: (inputs [B, 3, S, S], labels) on the model's device, at least one.
        task: Which loss.
    """
    total = [torch.zeros_like(parameter) for parameter in parameters]
    count = 0
    for inputs, labels in batches:
        loss = len(inputs) * task_loss(model(inputs), labels, task)
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        torch._foreach_add_(total, gradients)
        count += len(inputs)
    torch._foreach_div_(total, count)
    return total


class StepRate:
    """The learning rate of all steps, given or found by how long the first one is to be.

    With ``step`` above 0 it is step |theta| / |u|: theta are all weights that move, together, as
    they are at the start; u is what the first step that moves any of them subtracts at rate 1, with
    momentum, weight decay, clipping, masks or projection where the method has them. So it does not
    depend on the scale of loss or weights. Norms are L2, summed in float64 where the device has it.

    Args:
        weights: All weights that move.
        learning_rate: The rate where ``step`` is 0.
        step: Length of the first step as a share of the weights' norm; 0 for ``learning_rate``.
        length: |u|, where the first step's own says nothing; 0 to measure it.
    """

    def __init__(
        self,
        weights: Iterable[torch.Tensor],
        *,
        learning_rate: float,
        step: float,
        length: float = 0.0,
    ) -> None:
        self._way = step * _norm(weights) if step else 0.0
        self._rate = None if step else learning_rate
        self._length = length

    def __call__(self, direction: Iterable[torch.Tensor]) -> float:
        """The rate for a step along u; 0 as long as no u was above 0.

        Raises:
            NumericalError: The rate is looked for, and u is not finite.
        """
        if self._rate is None:
            length = self._length or _norm(direction)
            if not math.isfinite(length):
                raise NumericalError(
                    "the gradient of the first step is not finite, so no learning rate makes the "
                    "step as long as `step` says: set step to 0 and give a learning_rate"
                )
            if length == 0:
                return 0.0
            self._rate = self._way / length
        return self._rate


def _norm(tensors: Iterable[torch.Tensor]) -> float:
    found = [tensor.detach() for tensor in tensors]
    wide = widest(found[0].device)
    norms = [torch.linalg.vector_norm(tensor, dtype=wide) for tensor in found]
    return float(torch.linalg.vector_norm(torch.stack(norms)))


def clipped(gradients: Sequence[torch.Tensor], clip_norm: float) -> list[torch.Tensor]:
    """The gradients, all of them shorter by one factor if their norm is above ``clip_norm``.

    Args:
        gradients: Of all weights that move, together.
        clip_norm: Largest norm; 0 leaves them alone.
    """
    own = list(gradients)
    if not clip_norm:
        return own
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(own)))
    # Not in place: autograd may hand out one tensor as the gradient of two parameters.
    found: list[torch.Tensor] = list(
        torch._foreach_mul(own, (clip_norm / (norm + 1e-6)).clamp(max=1))
    )
    return found


class SupportSteps(Protocol):
    """The hyperparameters of a method that takes steps of plain SGD over all of S.

    Attributes:
        learning_rate: Of every step, where ``step`` is 0.
        step: See ``StepRate``.
        steps: How many.
        parameters: Which of the model's move, all or the last linear layer's.
        clip_norm: Largest norm of a step's gradient; 0 leaves it alone.
    """

    @property
    def learning_rate(self) -> float: ...
    @property
    def step(self) -> float: ...
    @property
    def steps(self) -> int: ...
    @property
    def parameters(self) -> Literal["all", "classifier"]: ...
    @property
    def clip_norm(self) -> float: ...


def support_steps(
    request: UnlearnRequest,
    method: SupportSteps,
    targets: Callable[[], torch.Tensor],
    *,
    uphill: bool = False,
) -> nn.Module:
    """A copy of the request's model, in evaluation mode, after steps of plain SGD over all of S.

    Args:
        request: Gives model and S.
        method: Gives the steps.
        targets: Labels of S to go towards, asked for at every step; float [N, C] or int64 [N].
        uphill: Whether to go away from them.
    """
    model = copy.deepcopy(request.model).to(request.device).eval()
    module = model if method.parameters == "all" else classifier_of(model)
    moved: list[torch.Tensor] = [p for p in module.parameters() if p.requires_grad]
    rate = StepRate(moved, learning_rate=method.learning_rate, step=method.step)
    inputs = torch.split(request.support.inputs().to(request.device), CHUNK_SIZE)
    for _ in range(method.steps):
        labels = torch.split(targets().to(request.device), CHUNK_SIZE)
        chunks = zip(inputs, labels, strict=True)
        mean = mean_gradient(model, moved, chunks, request.task)
        gradients = clipped(mean, method.clip_norm)
        with torch.no_grad():
            alpha = rate(gradients)
            torch._foreach_add_(moved, gradients, alpha=alpha if uphill else -alpha)
    return model


def cosine(epoch: int, epochs: int) -> float:
    """Share of the learning rate in an epoch, counted from 0: (1 + cos(pi e / E)) / 2."""
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


class Steps(Protocol):
    """The hyperparameters of a method that trains on by ``CosineSGD``.

    Attributes:
        learning_rate: Of the first epoch, where ``step`` is 0.
        step: See ``StepRate``.
        epochs: How many.
        momentum: In [0, 1).
        weight_decay: L2 penalty.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
    """

    @property
    def learning_rate(self) -> float: ...
    @property
    def step(self) -> float: ...
    @property
    def clip_norm(self) -> float: ...
    @property
    def epochs(self) -> int: ...
    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


class CosineSGD:
    """SGD with momentum on those parameters of a model that require a gradient.

    The learning rate follows a cosine over epochs. The same as ``torch.optim.SGD``, but it leaves
    no gradients on the model, and moves nothing outside a mask, by weight decay neither.

    Args:
        model: In evaluation mode.
        method: Gives the steps.
        masks: 1 for entries that move, else 0, by parameter name; None for all.
        first_length: What ``StepRate`` takes the first step for; 0 to measure it.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Steps,
        masks: Mapping[str, torch.Tensor] | None = None,
        *,
        first_length: float = 0.0,
    ) -> None:
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._parameters: list[torch.Tensor] = list(named.values())
        self._masks = None if masks is None else [masks[name] for name in named]
        self._velocity = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._method = method
        self._share = 1.0
        weights = self._parameters
        if self._masks is not None:
            weights = [p.detach() * m for p, m in zip(weights, self._masks, strict=True)]
        self._rate = StepRate(
            weights,
            learning_rate=method.learning_rate,
            step=method.step,
            length=first_length,
        )

    def start_epoch(self, epoch: int) -> None:
        """Set the learning rate of an epoch, counted from 0."""
        self._share = cosine(epoch, self._method.epochs)

    def step(self, loss: torch.Tensor, clip_norm: float | None = None) -> torch.Tensor:
        """One step downhill.

        Args:
            loss: A scalar that depends on the model.
            clip_norm: Largest norm of the gradient, 0 leaves it alone; None for the method's.

        Returns:
            The norm of the gradient before clipping, a scalar.
        """
        gradients = torch.autograd.grad(loss, self._parameters, materialize_grads=True)
        norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        with torch.no_grad():
            largest = self._method.clip_norm if clip_norm is None else clip_norm
            gradients = torch._foreach_add(
                clipped(gradients, largest), self._parameters, alpha=self._method.weight_decay
            )
            if self._masks is not None:
                torch._foreach_mul_(gradients, self._masks)
            torch._foreach_mul_(self._velocity, self._method.momentum)
            torch._foreach_add_(self._velocity, gradients)
            rate = self._rate(self._velocity) * self._share
            torch._foreach_add_(self._parameters, self._velocity, alpha=-rate)
        return norm
