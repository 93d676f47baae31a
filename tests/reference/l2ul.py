"""L2UL one image at a time, with PyTorch's own SGD."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from reference.masked import prior
from reference.training import loss_of
from torch import nn


def importances(model: nn.Module, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a single batch, from 0 to 1 within every tensor."""
    model = copy.deepcopy(model)
    total = torch.zeros(())
    for image in inputs:
        total = total + (model(image[None])[0] ** 2).sum().sqrt() / len(inputs)
    total.backward()  # type: ignore[no-untyped-call]
    found = {}
    for name, parameter in model.named_parameters():
        gradient: Any = parameter.grad
        size = gradient.abs()
        low, high = size.min().item(), size.max().item()
        found[name] = (size - low) / (high - low) if high > low else torch.zeros_like(size)
    return found


def guess(labels: torch.Tensor) -> float:
    """Loss of who knows how common the attributes are."""
    shares, total = prior(labels.tolist()), 0.0
    for row in labels.tolist():
        total -= sum(
            math.log(p if y == 1 else 1 - p) for p, y in zip(shares, row, strict=True)
        ) / len(row)
    return total / len(labels)


def unlearn(
    model: nn.Module,
    images: list[tuple[torch.Tensor, torch.Tensor]],
    others: list[tuple[torch.Tensor, torch.Tensor]],
    *,
    rounds: int,
    batch_size: int,
    learning_rate: float,
    hold: float,
) -> tuple[nn.Module, int]:
    """The model and how many steps it took; momentum 0.9, weight decay 1e-4."""
    student = copy.deepcopy(model)
    inputs, labels = (torch.stack(column) for column in zip(*images, strict=True))
    held = importances(model, inputs)
    start = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(
        student.parameters(), lr=learning_rate, momentum=0.9, weight_decay=1e-4
    )
    parts = [images[at : at + batch_size] for at in range(0, len(images), batch_size)]
    steps = 0
    for _ in range(rounds):
        for at in range(0, len(others), batch_size):
            near, own = others[at : at + batch_size], parts[steps % len(parts)]
            both = len(near) + len(own)
            optimizer.zero_grad()
            loss = torch.zeros(())
            for image, label in near:
                loss = loss + loss_of(student(image[None]), label[None]) / both
            for image, label in own:
                loss = loss - loss_of(student(image[None]), label[None]) / both
            for name, value in student.named_parameters():
                way = (1 - held[name]) * (value - start[name].detach()) ** 2
                loss = loss + hold / 2 * way.sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
            with torch.no_grad():
                logits = student(inputs)
                if labels.ndim == 1:
                    lost = all(z.argmax() != y for z, y in zip(logits, labels, strict=True))
                else:
                    lost = loss_of(logits, labels).item() >= guess(labels)
            if lost:
                return student, steps
    return student, steps
