"""How the learning rate runs over a training. Imports no torch: who shows it needs none."""

from __future__ import annotations

import math

from oneshui.spec import TrainingSpec


def learning_rate(spec: TrainingSpec, step: int, steps_per_epoch: int) -> float:
    """Learning rate of one step, counted from 0 over the whole run.

    "cosine_by_epoch" is the reference's schedule, in which the first step runs at 0 and the last
    epoch above 0 (docs/benchmark.md, T1); "cosine_by_step" ends at 0.
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
    return peak * 0.5 * (1 + math.cos(math.pi * epoch / spec.epochs))
