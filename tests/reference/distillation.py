"""SCRUB's and Bad Teacher's losses one number at a time, and SCRUB with PyTorch's own SGD."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

Batch = tuple[torch.Tensor, torch.Tensor]


def divergence(target: torch.Tensor, logits: torch.Tensor, kind: str) -> float:
    total = 0.0
    for q_row, z_row in zip(target.double(), logits.double(), strict=True):
        predicted = z_row.softmax(0) if kind == "softmax" else z_row.sigmoid()
        for q, p in zip(q_row.tolist(), predicted.tolist(), strict=True):
            total += q * math.log(q / p) if q > 0 else 0.0
            if kind == "bernoulli":
                total += (1 - q) * math.log((1 - q) / (1 - p)) if q < 1 else 0.0
    return total / len(target)


def scrub(
    model: nn.Module,
    forget: Sequence[Batch],
    retain: Sequence[Batch],
    *,
    epochs: int,
    forget_epochs: int,
    learning_rate: float,
) -> nn.Module:
    """Attributes, softmax, and the paper's constants."""
    teacher, student = copy.deepcopy(model), copy.deepcopy(model)
    optimizer = torch.optim.SGD(
        student.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    def distance(inputs: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        p = (teacher(inputs).detach() / 4).softmax(1)
        terms: torch.Tensor = p * (p.log() - (logits / 4).log_softmax(1))
        return 16 * terms.sum() / len(inputs)

    for epoch in range(epochs):
        for inputs, _ in forget if epoch < forget_epochs else ():
            optimizer.zero_grad()
            (-distance(inputs, student(inputs))).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
        for inputs, labels in retain:
            optimizer.zero_grad()
            logits = student(inputs)
            loss = F.binary_cross_entropy_with_logits(logits, labels)
            (0.001 * distance(inputs, logits) + 0.99 * loss).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return student
