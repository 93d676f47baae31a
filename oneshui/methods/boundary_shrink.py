"""Boundary shrink: give every image of S the wrong value that is nearest to it.

Source: Chen et al., "Boundary unlearning: rapid forgetting of deep networks via shifting the
decision boundary" (CVPR 2023, arXiv 2303.11570) and its authors' code
(TY-LEE-KR/Boundary-Unlearning-Code). With f0 the pretrained model,

    x'    = x + epsilon sign grad_x l(f0(x), y)          within the range of images
    y'    = the largest of f0(x')
    loss  = l(f(x), y')

by SGD with momentum at one rate. Where the image does not cross a boundary, y' is what f0 said.
Defaults are the authors'. Of their two methods the other, boundary expanding, adds a class and
takes it away again, which attributes have no counterpart of.

Ours, for attributes (docs/benchmark.md, F5): y'_c = 1 where f0_c(x') > 0, so that those flip whose
boundary is near.

Deviations for both: S in place of the forgotten class's training images (F1); the model is in
evaluation mode (F3); x' is not rounded to bytes, so it stays in its ball (F6). y' is of the
pretrained model and S alone, so it is computed once.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from oneshui.methods._passes import SupportPasses
from oneshui.methods.base import Range, register
from oneshui.methods.fields import number

if TYPE_CHECKING:
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class BoundaryShrink(SupportPasses):
    """Fits on S what the pretrained model says just across the boundary.

    Attributes:
        epsilon: How far every value of an image moves; 1 is the way from black to white.
    """

    name: ClassVar[str] = "boundary_shrink"
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-5, high=0.1, log=True),
        "epochs": Range(low=1, high=40),
    }

    learning_rate: float = number(1e-5, at_least=0)
    epochs: int = number(10, at_least=1)
    epsilon: float = number(0.1, at_least=0)

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, after all passes."""
        import torch

        from oneshui.methods._adversarial import Attack
        from oneshui.training.losses import task_loss

        model = copy.deepcopy(request.model).to(request.device).eval()
        inputs = request.support.inputs().to(request.device)
        labels = request.support.labels.to(request.device)
        attack = Attack(norm="linf", epsilon=self.epsilon, step=self.epsilon)
        across = attack(model, inputs, labels, request.task, towards=False)
        with torch.no_grad():
            logits = model(across)
        is_multiclass = request.task == "multiclass"
        nearest = logits.argmax(1) if is_multiclass else (logits > 0).to(labels)
        self._descend(
            model, request, lambda at: task_loss(model(inputs[at]), nearest[at], request.task)
        )
        return model
