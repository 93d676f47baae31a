"""A study whose numbers are drawn, and their arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from oneshui.tuning.score import Run, Scores, TrialScores

VAL = 0.6


def made_up(
    points: int, requests: int, seed: int
) -> tuple[TrialScores, dict[str, np.ndarray[Any, Any]]]:
    """A study in which more movement costs more, with noise, and its arrays."""
    random = np.random.default_rng(seed)
    shape = (points, requests)
    movement = np.exp(random.uniform(-9, 2, shape))
    sims = {
        name + "0": np.broadcast_to(random.uniform(0.6, 0.9, requests), shape)
        for name in ("forget", "retain", "val", "support")
    }
    harm = 0.5 / (1 + np.exp(-np.log(movement)))
    for name in ("forget", "retain", "val", "support"):
        noise = random.normal(0, 0.05, shape)
        sims[name] = np.clip(sims[name + "0"] - harm * random.uniform(0.3, 1) + noise, 0, 1)
    sims["movement"] = movement
    names = ("forget", "retain", "val", "support")
    runs = tuple(
        tuple(
            Run(
                before=Scores(**{n: float(sims[n + "0"][p, k]) for n in names}),
                after=Scores(**{n: float(sims[n][p, k]) for n in names}),
                movement=float(movement[p, k]),
            )
            for k in range(requests)
        )
        for p in range(points)
    )
    return TrialScores(runs=runs, val_score=VAL), sims
