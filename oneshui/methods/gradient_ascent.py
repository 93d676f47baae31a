"""Gradient ascent on the support set: the cheapest control.

Source: the NegGrad baseline (Golatkar et al., "Eternal sunshine of the spotless net",
arXiv 1911.04933), restricted to the only data that 1-SHUI leaves, the support set S:

    theta <- theta + lr grad_theta (1 / |S|) sum_{(x, y) in S} l(f_theta(x), y)   ``steps`` times.

The benchmark's code has no such method, so there is nothing to deviate from. With
``parameters="classifier"`` only the last linear layer moves.
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
class GradientAscent:
    """Makes the model worse on the support set by plain SGD.

    Attributes:
        learning_rate: Of every step.
        steps: Steps, each over the whole support set.
        parameters: "all", or "classifier" for the last linear layer alone.
    """

    name: ClassVar[str] = "gradient_ascent"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=0.01, high=100.0, log=True)
    }

    learning_rate: float = 0.3
    steps: int = 1
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
        """A copy of the model, in evaluation mode, after ``steps`` steps uphill."""
        import torch

        from oneshui.training.losses import task_loss
        from oneshui.training.models import classifier_of

        model = copy.deepcopy(request.model).to(request.device).eval()
        module = model if self.parameters == "all" else classifier_of(model)
        moved: list[torch.Tensor] = [p for p in module.parameters() if p.requires_grad]
        inputs = request.support.inputs().to(request.device)
        labels = request.support.labels.to(request.device)
        for _ in range(self.steps):
            total = [torch.zeros_like(parameter) for parameter in moved]
            for part_inputs, part_labels in zip(
                torch.split(inputs, CHUNK_SIZE), torch.split(labels, CHUNK_SIZE), strict=True
            ):
                share = len(part_inputs) / len(inputs)
                loss = share * task_loss(model(part_inputs), part_labels, request.task)
                torch._foreach_add_(total, torch.autograd.grad(loss, moved))
            with torch.no_grad():
                torch._foreach_add_(moved, total, alpha=self.learning_rate)
        return model
