"""MU-Mis: lower how much the output for a picture's own label reacts to the picture.

Source: Cheng et al., "Remaining-data-free machine unlearning by suppressing sample contribution"
(ICLR 2026, arXiv 2402.15109), which finds that training on a picture raises the sensitivity of
its own logit to it. For every x of S with class c, and another class c' drawn anew for every
picture and every step,

    s = mean_x |d f_c(x) / d x|_F^2,    s' = mean_x |d f_c'(x) / d x|_F^2
    theta <- theta - lr grad_theta (s - s')      at most ``steps`` times, each over all of S.

s' falls at first and then recovers: no further step is taken once s' is above its smallest value
so far and at least ``recovery`` times its value at the start. One step has a second derivative,
in float32, and takes as long as four to six of gradient ascent.

Deviations: S was never trained on, where the paper forgets training pictures. Attributes, which
the paper has not, take directions of all outputs in place of single ones,

    f_own = (1/C) sum_c (2 y_c - 1) f_c,    f_other = (1/C) sum_c r_c f_c,   r_c = -1 or 1 at random

(docs/benchmark.md, N1). Of the paper we could read loss and rule of stopping, but neither learning
rate nor the share of recovery, so all defaults are ours (docs/benchmark.md, N2).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from oneshui.methods.base import STEP_RANGE, Range, register
from oneshui.methods.fields import clipping, number
from oneshui.spec import Access

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class MUMis:
    """Descends on the difference of two input sensitivities of S.

    Attributes:
        learning_rate: Of every step.
        step: Length of the first step as a share of the norm of the weights that move, in place of
            ``learning_rate``; 0: not used.
        steps: Steps at most, each over the whole support set.
        recovery: Stops once the sensitivity of other outputs has come back to this share of its
            value at the start; what it never comes back to lets all steps be taken.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
    """

    name: ClassVar[str] = "mumis"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-5, high=1.0, log=True)
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}
    nothing: ClassVar[Mapping[str, float | int]] = {"learning_rate": 0.0, "step": 0.0}

    learning_rate: float = number(0.01, at_least=0)
    step: float = number(0.0, at_least=0)
    steps: int = number(10, at_least=1)
    recovery: float = number(1.0, above=0)
    clip_norm: float = clipping()

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, that reacts less to S."""
        import torch

        from oneshui.methods._sgd import CHUNK_SIZE, StepRate, clipped
        from oneshui.training.models import classifier_of

        model = copy.deepcopy(request.model).to(request.device).eval()
        num_outputs = classifier_of(model).out_features
        moved: list[torch.Tensor] = [p for p in model.parameters() if p.requires_grad]
        rate = StepRate(moved, learning_rate=self.learning_rate, step=self.step)
        generator = request.generator("mumis directions")
        inputs = torch.split(request.support.inputs().to(request.device), CHUNK_SIZE)
        stop = Recovery(self.recovery)
        for _ in range(self.steps):
            own, other = (
                torch.split(direction.to(request.device), CHUNK_SIZE)
                for direction in directions(request.support.labels, num_outputs, generator)
            )
            gradients = [torch.zeros_like(parameter) for parameter in moved]
            unrelated = 0.0
            for pictures, mine, theirs in zip(inputs, own, other, strict=True):
                lowered, raised = sensitivities(model, pictures, mine, theirs)
                loss = (lowered - raised).sum() / len(request.support)
                found = torch.autograd.grad(loss, moved, materialize_grads=True)
                torch._foreach_add_(gradients, found)
                unrelated += float(raised.detach().sum()) / len(request.support)
            if stop(unrelated):
                break
            with torch.no_grad():
                direction = clipped(gradients, self.clip_norm)
                torch._foreach_add_(moved, direction, alpha=-rate(direction))
        return model


class Recovery:
    """Whether a number that falls at first has come back.

    Args:
        share: Of the first number, that a later one must reach.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._first = math.nan
        self._smallest = math.inf

    def __call__(self, number: float) -> bool:
        """Whether this one, told after all before, is above the smallest and has come back."""
        if math.isnan(self._first):
            self._first = number
        has_risen = number > self._smallest
        self._smallest = min(self._smallest, number)
        return has_risen and number >= self._share * self._first


def directions(
    labels: torch.Tensor, num_outputs: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every picture's outputs, the direction of its own label and another one.

    Args:
        labels: float [N, C] of 0/1 or int64 [N], on the CPU.
        num_outputs: C.
        generator: A CPU generator.

    Returns:
        Two of float32 [N, C]: of classes a 1 for the own class and for one of the others; of
        attributes -1/C or 1/C, by label and at random.
    """
    from torch.nn import functional as F

    from oneshui.methods._sgd import random_labels

    if labels.ndim == 1:
        others = random_labels(labels, None, num_outputs, generator)
        return F.one_hot(labels, num_outputs).float(), F.one_hot(others, num_outputs).float()
    coins = random_labels(labels, labels.new_full((num_outputs,), 0.5), num_outputs, generator)
    return (2 * labels - 1) / num_outputs, (2 * coins - 1) / num_outputs


def sensitivities(
    model: nn.Module, inputs: torch.Tensor, own: torch.Tensor, other: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared norm of the derivative by a picture of its outputs in two directions, two of [N].

    They can be derived again, by the model's parameters.

    Args:
        model: In evaluation mode.
        inputs: [N, 3, S, S].
        own: [N, C], a direction of each picture's outputs.
        other: The same.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    pictures = inputs.detach().requires_grad_()
    # The fused attention kernels have no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        logits = model(pictures)
        slopes = [
            torch.autograd.grad((logits * direction).sum(), pictures, create_graph=True)[0]
            for direction in (own, other)
        ]
    first, second = (slope.flatten(1).square().sum(1) for slope in slopes)
    return first, second
