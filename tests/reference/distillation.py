"""SCRUB's and Bad Teacher's losses one number at a time, and SCRUB with PyTorch's own SGD."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

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


def follow_teachers(
    model: nn.Module,
    dumb: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    *,
    epochs: int,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    kind: str = "softmax",
) -> nn.Module:
    """Each image's divergence to the teacher that it is for, softmax or of every attribute."""
    student = copy.deepcopy(model)
    optimizer = torch.optim.SGD(
        student.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for inputs, _, is_forget in batches:
            optimizer.zero_grad()
            loss = torch.zeros(())
            for image, forgotten in zip(inputs, is_forget.tolist(), strict=True):
                z = student(image[None])[0]
                teacher = (dumb if forgotten else model)(image[None])[0].detach()
                if kind == "softmax":
                    q = teacher.softmax(0)
                    terms = q * (q.log() - z.log_softmax(0))
                else:
                    q, p = teacher.sigmoid(), z.sigmoid()
                    terms = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
                loss = loss + terms.sum() / len(inputs)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return student


def scrub(
    model: nn.Module,
    forget: Iterable[Batch],
    retain: Iterable[Batch],
    *,
    epochs: int,
    forget_epochs: int,
    learning_rate: float,
    kind: str = "softmax",
    is_multiclass: bool = False,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    temperature: float = 4.0,
    alpha: float = 0.001,
    gamma: float = 0.99,
    clip_norm: float = 1.0,
) -> nn.Module:
    """In the precision of model and batches; the defaults are the paper's constants."""
    teacher, student = copy.deepcopy(model), copy.deepcopy(model)
    optimizer = torch.optim.SGD(
        student.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    def distance(inputs: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        theirs, own = teacher(inputs).detach() / temperature, logits / temperature
        if kind == "softmax":
            p = theirs.softmax(1)
            terms = p * (p.log() - own.log_softmax(1))
        else:
            p, q = theirs.sigmoid(), own.sigmoid()
            terms = p * (p.log() - q.log()) + (1 - p) * ((1 - p).log() - (1 - q).log())
        loss: torch.Tensor = temperature**2 * terms.sum() / len(inputs)
        return loss

    task = F.cross_entropy if is_multiclass else F.binary_cross_entropy_with_logits
    for epoch in range(epochs):
        for inputs, _ in forget if epoch < forget_epochs else ():
            optimizer.zero_grad()
            (-distance(inputs, student(inputs))).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(student.parameters(), clip_norm)
            optimizer.step()
        for inputs, labels in retain:
            optimizer.zero_grad()
            logits = student(inputs)
            loss = alpha * distance(inputs, logits) + gamma * task(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return student
