"""JiT's loss one image and one noisy copy at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def smoothing_loss(
    model: nn.Module, inputs: torch.Tensor, noisy: Sequence[torch.Tensor]
) -> torch.Tensor:
    total = torch.zeros(())
    for copies in noisy:
        for image, copy in zip(inputs, copies, strict=True):
            clean = model(image.unsqueeze(0))[0]
            disturbed = model(copy.unsqueeze(0))[0].detach()
            distance = ((image - copy) ** 2).sum().sqrt()
            total = total + ((clean - disturbed) ** 2).sum().sqrt() / distance
    return total / len(noisy)
