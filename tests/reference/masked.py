"""Targets of masked distillation and how far from them a prediction is, number by number."""

from __future__ import annotations

import math

import torch


def target(logits: list[float], label: list[float] | int, prior: list[float]) -> list[float]:
    if isinstance(label, int):
        weights = [0.0 if c == label else math.exp(z) for c, z in enumerate(logits)]
        return [weight / sum(weights) for weight in weights]
    own = [1 / (1 + math.exp(-z)) for z in logits]
    return [
        common if (p > 0.5) == (y == 1) else p
        for p, y, common in zip(own, label, prior, strict=True)
    ]


def prior(labels: list[list[float]]) -> list[float]:
    return [(sum(column) + 1) / (len(labels) + 2) for column in zip(*labels, strict=True)]


def targets(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    shares = [] if labels.ndim == 1 else prior(labels.tolist())
    rows = zip(logits.double().tolist(), labels.tolist(), strict=True)
    return torch.tensor([target(z, y, shares) for z, y in rows])


def distance(logits: torch.Tensor, wanted: torch.Tensor, *, classes: bool) -> torch.Tensor:
    """Of one image."""
    total = torch.zeros(())
    for c, t in enumerate(wanted.tolist()):
        if classes:
            if t > 0:
                total = total + t * (math.log(t) - logits.log_softmax(0)[c])
        else:
            p = logits[c].sigmoid()
            total = total - (t * p.log() + (1 - t) * (1 - p).log()) / len(wanted)
    return total
