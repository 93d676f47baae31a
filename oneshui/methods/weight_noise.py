"""Noise on the weights: the control that moves as far as a method does, in no direction.

A model that got worse everywhere by a random step of the same length shows what of a method's
effect is due to its direction. With n drawn from N(0, 1),

    theta <- theta + scale |theta| n / |n|,

where the norms are each tensor's own, or those of all weights together, which puts the same noise
on every entry. So the scale means the same in every network. It sees no picture at all. There is
no source to deviate from.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods.base import Range, register
from oneshui.methods.fields import number
from oneshui.spec import Access

if TYPE_CHECKING:
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class WeightNoise:
    """Adds Gaussian noise of a given relative norm to the weights.

    Attributes:
        scale: Norm of the noise over the norm of the weights.
        relative_to: "tensor" for the norm of each weight tensor, "model" for that of all.
    """

    name: ClassVar[str] = "weight_noise"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {"scale": Range(low=1e-3, high=1.0, log=True)}

    relative_space: ClassVar[Mapping[str, Range]] = search_space
    nothing: ClassVar[Mapping[str, float | int]] = {"scale": 0.0}

    scale: float = number(0.05, at_least=0)
    relative_to: Literal["tensor", "model"] = "tensor"

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A noisy copy of the model, in evaluation mode."""
        import torch

        from oneshui.accelerator import widest

        model = copy.deepcopy(request.model).to(request.device).eval()
        generator = request.generator("weight_noise")
        moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
        noise = [torch.randn(p.shape, generator=generator).to(p) for p in moved]
        # Summed in float64, where the norm of many million numbers is exact enough.
        wide = widest(request.device)
        weight_norms = torch.stack([p.detach().to(wide).norm() for p in moved])
        noise_norms = torch.stack([n.to(wide).norm() for n in noise])
        if self.relative_to == "model":
            ratios = (weight_norms.norm() / noise_norms.norm()).expand(len(moved))
        else:
            ratios = weight_norms / noise_norms
        with torch.no_grad():
            for parameter, direction, ratio in zip(moved, noise, ratios.tolist(), strict=True):
                parameter.add_(direction, alpha=self.scale * ratio)
        return model
