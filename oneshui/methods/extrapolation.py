"""Extrapolation: learn S by heart, and go as far the other way. A control of what ascent adds.

Source: Huang et al., "Is gradient ascent really necessary? Memorize to forget for machine
unlearning" (arXiv 2602.06441), restricted to the only data that 1-SHUI leaves. Plain SGD downhill
from the pretrained weights theta_0 gives theta_mem, and the unlearned weights are beyond theta_0:

    theta <- theta - lr grad_theta (1 / |S|) sum_{(x, y) in S} l(f_theta(x), y)   ``steps`` times
    theta_u = (1 + alpha) theta_0 - alpha theta_mem = theta_0 - alpha (theta_mem - theta_0)

The way down ends where S is learned, so theta_u is bounded where ascent is not. With one step
it is gradient ascent at the rate alpha lr.

Ours (docs/benchmark.md, F7): steps over all of S by plain SGD, so that one compares with one of
gradient ascent; the defaults; and that nothing holds the predictions on retained data, which the
source has a divergence for and 1-SHUI no data. Its momentum variant is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods.base import STEP_RANGE, Range, register
from oneshui.methods.fields import clipping, number
from oneshui.spec import Access

if TYPE_CHECKING:
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """Goes from what has learned S through the pretrained weights and beyond.

    Attributes:
        learning_rate: Of every step towards S.
        step: Length of the first step as a share of the norm of the weights that move, in place of
            ``learning_rate``; 0: not used.
        steps: Steps, each over the whole support set.
        alpha: How far beyond, as a share of the way to what has learned S.
        parameters: "all", or "classifier" for the last linear layer alone.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
    """

    name: ClassVar[str] = "extrapolation"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=0.001, high=10.0, log=True),
        "alpha": Range(low=0.1, high=10.0, log=True),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}
    nothing: ClassVar[Mapping[str, float | int]] = {"learning_rate": 0.0, "step": 0.0}

    learning_rate: float = number(0.1, at_least=0)
    step: float = number(0.0, at_least=0)
    steps: int = number(10, at_least=1)
    alpha: float = number(1.0, at_least=0)
    parameters: Literal["all", "classifier"] = "all"
    clip_norm: float = clipping()

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, beyond the pretrained weights."""
        import torch

        from oneshui.methods._sgd import support_steps

        model = support_steps(request, self, lambda: request.support.labels)
        with torch.no_grad():
            pairs = zip(model.parameters(), request.model.parameters(), strict=True)
            for weight, original in pairs:
                start = original.to(weight)
                weight.copy_(start - self.alpha * (weight - start))
        return model
