"""The task loss of the benchmark: mean over images of one number per image."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from oneshui.spec import Task


def sample_losses(logits: torch.Tensor, labels: torch.Tensor, task: Task) -> torch.Tensor:
    """Loss of every image, [B].

    Multilabel: mean over attributes of binary cross-entropy; multiclass: cross-entropy
    (docs/benchmark.md, "The question").

    Args:
        logits: [B, C].
        labels: float [B, C] of 0/1 (multilabel) or int64 [B] (multiclass).
        task: Which of the two.
    """
    if task == "multilabel":
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=1)
    return F.cross_entropy(logits, labels, reduction="none")


def task_loss(logits: torch.Tensor, labels: torch.Tensor, task: Task) -> torch.Tensor:
    """Mean over the batch of ``sample_losses``, a scalar."""
    return sample_losses(logits, labels, task).mean()
