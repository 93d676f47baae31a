"""SalUn's mask one weight at a time."""

from __future__ import annotations

import torch
from reference.training import loss_of
from torch import nn


def salient(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, sparsity: float
) -> set[tuple[str, int]]:
    """(parameter, flat position) of the weights with the largest gradients."""
    model.zero_grad()
    loss_of(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
    sizes = []
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        sizes += [(abs(g), name, i) for i, g in enumerate(parameter.grad.flatten().tolist())]
    sizes.sort()
    return {(name, i) for _, name, i in sizes[int(sparsity * len(sizes)) :]}
