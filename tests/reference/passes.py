"""Passes over a few images with PyTorch's own SGD at one rate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def descend(
    model: nn.Module,
    count: int,
    loss: Callable[[list[int]], torch.Tensor],
    draws: torch.Generator,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """In place; the loss of a batch is asked for by the positions of its images."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay
    )
    for _ in range(epochs):
        order = torch.randperm(count, generator=draws).tolist()
        while order:
            batch, order = order[:batch_size], order[batch_size:]
            optimizer.zero_grad()
            loss(batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
