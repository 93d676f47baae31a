"""How the learning rate runs over a training. Imports no torch: who shows it needs none."""

from __future__ import annotations

import math

from oneshui.spec import TrainingSpec

LINEAR_END = 0.1
"""Share of the peak that "linear" falls to."""


def learning_rate(spec: TrainingSpec, step: int, steps_per_epoch: int) -> float:
    """Learning rate of one step, counted from 0 over the whole run.

    All schedules by epoch are the reference's, in which the first step of a warm-up runs at 0, and
    the epochs of the schedule are counted from the warm-up's end (docs/benchmark.md, T1), so that
    a cosine ends above 0; "cosine_by_step" ends at 0.
    """
    warmup = spec.warmup_epochs * steps_per_epoch
    if spec.schedule == "cosine_by_step":
        if step < warmup:
            return spec.learning_rate * (step + 1) / (warmup + 1)
        total = spec.epochs * steps_per_epoch
        return (
            spec.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        )
    if step < warmup:
        return spec.learning_rate * step / (warmup + 1e-8)
    epoch = step // steps_per_epoch - int(spec.warmup_epochs)
    peak = spec.learning_rate * (warmup / (warmup + 1e-8) if warmup else 1.0)
    return peak * _share(spec, epoch)


def _share(spec: TrainingSpec, epoch: int) -> float:
    """Share of the peak in an epoch, counted from the end of the warm-up."""
    match spec.schedule:
        case "constant":
            return 1.0
        case "step":
            return float(spec.decay ** (epoch // spec.decay_epochs))
        case "multistep":
            return float(spec.decay ** sum(epoch >= one for one in spec.milestones))
        case "exponential":
            return float(spec.decay**epoch)
        case "linear":
            return 1 - (1 - LINEAR_END) * epoch / spec.epochs
    return 0.5 * (1 + math.cos(math.pi * epoch / (spec.cosine_epochs or spec.epochs)))
