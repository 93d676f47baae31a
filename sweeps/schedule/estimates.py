"""How long jobs take: from measured times of equal kinds of jobs, and from guesses where none are.

Pure. Orders the work, feeds the ETA and the plan; no result depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from oneshui.data import registry
from sweeps.graph.job import TRAINING, Job, canonical_json

JobKind = tuple[Any, ...]
"""What makes the times of two jobs comparable; the first element is the stage."""

_FORWARD_GFLOP: Mapping[str, float] = {"vit_base_patch16_224": 17.6}
_SMALL_GFLOP_PER_PIXEL = 0.009 / 48**2
_GFLOP_PER_SECOND = {"cpu": 30.0, "gpu": 40_000.0}
_DECODE_SECONDS = 0.005
_TRAIN_SHARE = 0.8
_GUESSED_PASSES: Mapping[str, float] = {
    "prepare": 6.0,
    "simulate": 1.0,
    "trial": 0.5,
    "choose": 0.1,
    "unlearn": 0.05,
    "evaluate": 1.5,
    "true_tow": 1.0,
}
"""Forward passes over the dataset that a job of the stage costs, about."""


def dataset_of(job: Job, jobs: Mapping[str, Job]) -> Job | None:
    """The index job of the dataset that a job is about."""
    while job.stage != "index":
        of_cells = {role: keys[0] for role, keys in job.series.items() if keys}
        inputs = {**of_cells, **job.inputs}
        for role in ("index", "split", "simulated", "predictions", "cache"):
            if role in inputs:
                found = jobs.get(inputs[role])
                break
        else:
            return None
        if found is None:
            return None
        job = found
    return job


def kinds_of(job: Job, jobs: Mapping[str, Job]) -> tuple[JobKind, ...]:
    """The kinds that a job belongs to, the most particular first."""
    dataset = dataset_of(job, jobs)
    split = jobs.get(job.inputs.get("split") or next(iter(job.series.get("split", ())), ""))
    model = canonical_json(job.spec.get("model", ""))
    method = job.spec.get("method", "")
    where = dataset.key if dataset else ""
    size = split.spec["num_forget"] if split else len(job.series.get("predictions", ()))
    return (
        (job.stage, model, method, where, size),
        (job.stage, model, method, where),
        (job.stage, model, method),
        (job.stage, model),
    )


def guess(job: Job, jobs: Mapping[str, Job], *, gpu: bool) -> float:
    """Seconds of a job of which no kind was ever measured; right within a factor of ten or so."""
    dataset = dataset_of(job, jobs)
    images = 10_000.0
    if dataset is not None:
        drawn = dataset.spec.get("generate")
        images = float(
            drawn["identities"] * drawn["pictures"]
            if drawn
            else registry.get(dataset.spec["layout"]).num_images
        )
    if job.stage in ("index", "cache", "split", "score"):
        each = {"index": 1e-5, "cache": _DECODE_SECONDS, "split": 2e-6, "score": 2e-5}[job.stage]
        return (0.2 + images * each) * max(1, len(job.series.get("predictions", ())))
    model = job.spec.get("model", {})
    small = _SMALL_GFLOP_PER_PIXEL * float(model.get("image_size", 48)) ** 2
    forward = _FORWARD_GFLOP.get(model.get("name", ""), small)
    passes = _GUESSED_PASSES.get(job.stage, 0.0)
    if "training" in job.spec:
        recipe = job.spec["training" if job.stage in TRAINING else "hyperparameters"]
        passes += _TRAIN_SHARE * 3.0 * float(recipe.get("epochs", 1))
    return 0.5 + passes * images * forward / _GFLOP_PER_SECOND["gpu" if gpu else "cpu"]


@dataclass
class _Mean:
    total: float = 0.0
    count: int = 0


class Estimates:
    """Seconds of every job of a graph, better with every job that finishes."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        measured: Iterable[tuple[Job, float]] = (),
        *,
        gpu: bool = False,
    ) -> None:
        """Learn from earlier runs.

        Args:
            jobs: The graph.
            measured: Jobs of it that are done, with the seconds they took.
            gpu: Whether guesses are for a GPU.
        """
        self._kinds = {key: kinds_of(job, jobs) for key, job in jobs.items()}
        self._guesses = {key: guess(job, jobs, gpu=gpu) for key, job in jobs.items()}
        self._means: dict[JobKind, _Mean] = {}
        for job, seconds in measured:
            self.learn(job, seconds)

    def learn(self, job: Job, seconds: float) -> None:
        """Take the measured time of a job of the graph into account."""
        for kind in self._kinds[job.key]:
            mean = self._means.setdefault(kind, _Mean())
            mean.total += seconds
            mean.count += 1

    def seconds(self, job: Job) -> float:
        """Expected seconds: the mean of the most particular kind that was measured, or a guess."""
        for kind in self._kinds[job.key]:
            mean = self._means.get(kind)
            if mean is not None:
                return mean.total / mean.count
        return self._guesses[job.key]

    def is_guess(self, job: Job) -> bool:
        """Whether no job of any of its kinds was measured yet."""
        return not any(kind in self._means for kind in self._kinds[job.key])
