"""DELETE: keep what the model knows of the other values, without the evidence for the true one.

Source: Zhou et al., "Decoupled distillation to erase: a general unlearning method for any
class-centric tasks" (CVPR 2025, arXiv 2503.23751) and its authors' code (shaaaaron/DELETE). With
f0 the pretrained model's logits and y the class of x,

    t(x)  = softmax of f0(x) without y, which gets 0
    loss  = mean over S of KL( t(x) || softmax f(x) )

by SGD with momentum at one rate. Defaults are those of its configurations for faces.

Ours, for attributes (docs/benchmark.md, F2): taking the true value of a binary attribute away
would leave the false one, which says as much. So with pi_c the share of S that has attribute c,
by the rule of succession (k + 1) / (|S| + 2),

    t_c(x) = pi_c                  where f0 is right, on the side of y_c
             sigma(f0_c(x))        where it is wrong: that is nothing it knows of x
    loss   = mean over S and attributes of the cross-entropy with t_c

Deviations for both: S in place of the forgotten class's training images (F1); the model is in
evaluation mode (F3); images are not augmented (F4). The targets are of the pretrained model and S
alone, so they are computed once.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from oneshui.methods._passes import SupportPasses
from oneshui.methods.base import Range, register

if TYPE_CHECKING:
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class Delete(SupportPasses):
    """Follows the pretrained model's own prediction on S, the true value taken out."""

    name: ClassVar[str] = "delete"
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-5, high=0.1, log=True),
        "epochs": Range(low=1, high=40),
    }

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, after all passes."""
        import torch

        from oneshui.methods._masked import distance, masked
        from oneshui.methods._sgd import label_prior

        model = copy.deepcopy(request.model).to(request.device).eval()
        inputs = request.support.inputs().to(request.device)
        labels = request.support.labels.to(request.device)
        with torch.no_grad():
            targets = masked(model(inputs), labels, label_prior(labels))
        self._descend(
            model,
            request,
            lambda at: distance(model(inputs[at]), targets[at], request.task),
        )
        return model
