"""Gradient steps on one image at a time, within a ball around it."""

from __future__ import annotations

import math
from typing import Any

import torch
from reference.training import loss_of
from torch import nn


def attack(
    model: nn.Module,
    image: torch.Tensor,
    label: torch.Tensor,
    *,
    norm: str,
    radius: float,
    step: float,
    steps: int,
    towards: bool,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Lengths in the units of the input, from -1 to 1."""
    moved = (image if start is None else start).clone()
    for _ in range(steps):
        moved = moved.clone().requires_grad_(True)
        loss_of(model(moved[None]), label[None]).backward()  # type: ignore[no-untyped-call]
        gradient: Any = moved.grad
        way = gradient.sign() if norm == "linf" else gradient / math.sqrt((gradient**2).sum())
        moved = inside(moved.detach() + (-step if towards else step) * way, image, norm, radius)
    return moved


def inside(candidate: torch.Tensor, image: torch.Tensor, norm: str, radius: float) -> torch.Tensor:
    candidate = torch.minimum(torch.maximum(candidate, torch.tensor(-1.0)), torch.tensor(1.0))
    change = candidate - image
    if norm == "linf":
        limit = torch.tensor(radius)
        return image + torch.minimum(torch.maximum(change, -limit), limit)
    length = math.sqrt((change**2).sum())
    return image + change * (radius / length if length > radius else 1.0)
