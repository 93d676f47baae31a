"""SSD one image and one weight at a time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F


def sample_importances(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    total = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for image, label in zip(inputs, labels, strict=True):
        model.zero_grad()
        logits = model(image.unsqueeze(0))
        if label.ndim == 0:
            loss = F.cross_entropy(logits, label.unsqueeze(0))
        else:
            loss = F.binary_cross_entropy_with_logits(logits, label.unsqueeze(0))
        loss.backward()  # type: ignore[no-untyped-call]
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            total[name] += parameter.grad**2
    return {name: value / len(inputs) for name, value in total.items()}


def dampened(weight: float, forget: float, original: float, alpha: float, lam: float) -> float:
    if forget > alpha * original:
        return weight * min(lam * original / forget, 1)
    return weight


def dampened_weights(
    weights: Mapping[str, torch.Tensor],
    forget: Mapping[str, torch.Tensor],
    original: Mapping[str, torch.Tensor],
    *,
    alpha: float,
    lam: float,
) -> dict[str, torch.Tensor]:
    found = {}
    for name, value in weights.items():
        rows = zip(*(t[name].flatten().tolist() for t in (weights, forget, original)), strict=True)
        numbers = [dampened(weight, f, o, alpha, lam) for weight, f, o in rows]
        found[name] = torch.tensor(numbers).reshape(value.shape)
    return found
