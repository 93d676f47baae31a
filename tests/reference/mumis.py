"""MU-Mis one picture and one pixel's derivative at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def sensitivity(model: nn.Module, image: torch.Tensor, direction: Sequence[float]) -> float:
    """Squared norm of the derivative by central differences, in float64."""
    model, image = model.double(), image.double()
    total, width = 0.0, 1e-5
    with torch.no_grad():
        for place in range(image.numel()):
            values = []
            for sign in (1, -1):
                moved = image.flatten().clone()
                moved[place] += sign * width
                logits = model(moved.view_as(image).unsqueeze(0))[0].tolist()
                values.append(sum(d * z for d, z in zip(direction, logits, strict=True)))
            total += ((values[0] - values[1]) / (2 * width)) ** 2
    return total


def objective(
    model: nn.Module, images: torch.Tensor, own: torch.Tensor, other: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Means over pictures of the own and of the other sensitivity, picture by picture."""
    sums = [torch.zeros(()), torch.zeros(())]
    for image, *pair in zip(images, own, other, strict=True):
        for place, direction in enumerate(pair):
            picture = image.unsqueeze(0).clone().requires_grad_()
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                output = (model(picture)[0] * direction).sum()
                (slope,) = torch.autograd.grad(output, picture, create_graph=True)
            sums[place] = sums[place] + (slope**2).sum()
    return sums[0] / len(images), sums[1] / len(images)
