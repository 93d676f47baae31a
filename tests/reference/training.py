"""Training on with PyTorch's own optimiser, schedule and clipping."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F


def loss_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels)


def sgd(
    model: nn.Module,
    losses: Sequence[Callable[[], torch.Tensor]],
    *,
    epochs: int,
    learning_rate: float,
    clip_norm: float = 0.0,
) -> None:
    """Every epoch one step on each of the losses, momentum 0.9, weight decay 5e-4, in place."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for loss in losses:
            optimizer.zero_grad()
            loss().backward()  # type: ignore[no-untyped-call]
            if clip_norm:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()
        schedule.step()
