"""Loss-free importances one image at a time."""

from __future__ import annotations

import torch
from torch import nn


def sample_importances(
    model: nn.Module, inputs: torch.Tensor, power: int = 2
) -> dict[str, torch.Tensor]:
    total = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for image in inputs:
        model.zero_grad()
        (model(image.unsqueeze(0))[0] ** 2).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            total[name] += parameter.grad.abs() ** power
    return {name: value / len(inputs) for name, value in total.items()}
