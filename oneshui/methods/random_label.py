"""Random labels on the support set: unlearn S by learning something untrue of it.

Source: the random-labels baseline of Golatkar et al., "Eternal sunshine of the spotless net"
(arXiv 1911.04933), restricted to the only data that 1-SHUI leaves, the support set S:

    theta <- theta - lr grad_theta (1 / |S|) sum_{x in S} l(f_theta(x), y')   ``steps`` times,

with y' drawn anew at every step: a class uniformly from the other classes, each attribute with its
share in S by the rule of succession, (k + 1) / (|S| + 2), because nothing else is left to know how
common it is. Plain SGD, so that one step compares with one of gradient ascent. The benchmark's
code has no such method, so there is nothing to deviate from.
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
class RandomLabel:
    """Fits random labels on the support set.

    Attributes:
        learning_rate: Of every step.
        step: Length of the first step as a share of the norm of the weights that move, in place of
            ``learning_rate``; 0: not used.
        steps: Steps, each over the whole support set.
        parameters: "all", or "classifier" for the last linear layer alone.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
    """

    name: ClassVar[str] = "random_label"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=0.001, high=10.0, log=True),
        "steps": Range(low=1, high=20),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}
    nothing: ClassVar[Mapping[str, float | int]] = {"learning_rate": 0.0, "step": 0.0}

    learning_rate: float = number(0.1, at_least=0)
    step: float = number(0.0, at_least=0)
    steps: int = number(5, at_least=1)
    parameters: Literal["all", "classifier"] = "all"
    clip_norm: float = clipping()

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, after ``steps`` steps."""
        from oneshui.methods._sgd import label_prior, random_labels, support_steps
        from oneshui.training.models import classifier_of

        labels = request.support.labels
        prior, num_outputs = label_prior(labels), classifier_of(request.model).out_features
        draws = request.generator("random_label labels")
        return support_steps(
            request, self, lambda: random_labels(labels, prior, num_outputs, draws)
        )
