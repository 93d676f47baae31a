"""Gradient ascent on the support set: the cheapest control.

Source: the NegGrad baseline (Golatkar et al., "Eternal sunshine of the spotless net",
arXiv 1911.04933), restricted to the only data that 1-SHUI leaves, the support set S:

    theta <- theta + lr grad_theta (1 / |S|) sum_{(x, y) in S} l(f_theta(x), y)   ``steps`` times.

The benchmark's code has no such method, so there is nothing to deviate from. With
``parameters="classifier"`` only the last linear layer moves.
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
class GradientAscent:
    """Makes the model worse on the support set by plain SGD.

    Attributes:
        learning_rate: Of every step.
        step: Length of the first step as a share of the norm of the weights that move, in place of
            ``learning_rate``; 0: not used.
        steps: Steps, each over the whole support set.
        parameters: "all", or "classifier" for the last linear layer alone.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
    """

    name: ClassVar[str] = "gradient_ascent"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=0.01, high=100.0, log=True)
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}
    nothing: ClassVar[Mapping[str, float | int]] = {"learning_rate": 0.0, "step": 0.0}

    learning_rate: float = number(0.3, at_least=0)
    step: float = number(0.0, at_least=0)
    steps: int = number(1, at_least=1)
    parameters: Literal["all", "classifier"] = "all"
    clip_norm: float = clipping()

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, after ``steps`` steps uphill."""
        from oneshui.methods._sgd import support_steps

        return support_steps(request, self, lambda: request.support.labels, uphill=True)
