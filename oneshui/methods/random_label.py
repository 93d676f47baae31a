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

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods.base import Range, register
from oneshui.spec import Access, require

if TYPE_CHECKING:
    from torch import nn

    from oneshui.requests import UnlearnRequest

CHUNK_SIZE = 64
"""Images per backward pass; bounds memory and leaves the gradient of the mean as it is."""


@register
@dataclass(frozen=True, kw_only=True)
class RandomLabel:
    """Fits random labels on the support set.

    Attributes:
        learning_rate: Of every step.
        steps: Steps, each over the whole support set.
        parameters: "all", or "classifier" for the last linear layer alone.
    """

    name: ClassVar[str] = "random_label"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=0.001, high=10.0, log=True),
        "steps": Range(low=1, high=20),
    }

    learning_rate: float = 0.1
    steps: int = 5
    parameters: Literal["all", "classifier"] = "all"

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        require(
            self.parameters in ("all", "classifier"),
            "parameters",
            self.parameters,
            "'all' or 'classifier'",
        )

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, after ``steps`` steps."""
        import torch

        from oneshui.methods._sgd import label_prior, mean_gradient, random_labels
        from oneshui.training.models import classifier_of

        model = copy.deepcopy(request.model).to(request.device).eval()
        module = model if self.parameters == "all" else classifier_of(model)
        moved: list[torch.Tensor] = [p for p in module.parameters() if p.requires_grad]
        num_outputs = classifier_of(model).out_features
        inputs = request.support.inputs().to(request.device)
        labels = request.support.labels.to(request.device)
        prior = label_prior(labels)
        draws = request.generator("random_label labels")
        for _ in range(self.steps):
            targets = random_labels(labels, prior, num_outputs, draws)
            chunks = zip(
                torch.split(inputs, CHUNK_SIZE), torch.split(targets, CHUNK_SIZE), strict=True
            )
            gradients = mean_gradient(model, moved, chunks, request.task)
            with torch.no_grad():
                torch._foreach_add_(moved, gradients, alpha=-self.learning_rate)
        return model
