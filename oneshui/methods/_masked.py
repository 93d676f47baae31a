"""Masked distillation: predict as the pretrained model does, but for what is to be forgotten.

Source of the targets for classes: Zhou et al., "Decoupled distillation to erase" (DELETE, arXiv
2503.23751); that for attributes is ours (docs/benchmark.md, F2).

Shapes: B images, C outputs.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from oneshui.spec import Task


def masked(logits: torch.Tensor, labels: torch.Tensor, prior: torch.Tensor | None) -> torch.Tensor:
    """What is left of a prediction without the evidence for the true value, [B, C].

    Of classes: the softmax over all but the true one, which has 0. Of attributes: the probability
    that is predicted where it is on the wrong side, and the prior where it is on the right one.

    Args:
        logits: Of the pretrained model, [B, C].
        labels: float [B, C] of 0/1 or int64 [B].
        prior: Probability of each attribute, [C]; None where there are classes.
    """
    if prior is None:
        own = F.one_hot(labels, logits.shape[1]).bool()
        return logits.masked_fill(own, -torch.inf).softmax(1)
    is_right = (logits > 0) == (labels > 0.5)
    return torch.where(is_right, prior, logits.sigmoid())


def distance(logits: torch.Tensor, target: torch.Tensor, task: Task) -> torch.Tensor:
    """How far a prediction is from the target, mean over images, a scalar.

    KL(target || softmax) for classes; for attributes the mean cross-entropy, which is their mean
    KL but for what depends on the target alone.

    Args:
        logits: Of the model that moves, [B, C].
        target: Probabilities [B, C].
        task: Which of the two.
    """
    if task == "multiclass":
        return F.kl_div(logits.log_softmax(1), target, reduction="batchmean")
    return F.binary_cross_entropy_with_logits(logits, target)
