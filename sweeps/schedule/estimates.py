"""How long jobs take: from measured times of equal kinds of jobs, and from guesses where none are.

Pure. Orders the work, feeds the ETA and the plan; no result depends on it. A guess is scaled by
what was measured over what was guessed: of the same method, else of the stage's other methods with
the same access, else of the stage's family; the less is known, the nearer to 1.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from oneshui.data import registry
from sweeps.graph.job import TRAINING, Job, canonical_json

JobKind = tuple[Any, ...]
"""What makes the times of two jobs comparable; the first element is the stage."""

_FORWARD_GFLOP: Mapping[str, float] = {"vit_base_patch16_224": 17.6}
_SMALL_GFLOP_PER_PIXEL = 0.009 / 48**2
_GFLOP_PER_SECOND = {"cpu": 30.0, "gpu": 40_000.0}
_DECODE_SECONDS = 0.005
_DECODE_DRAWN_SECONDS = 0.0004
_TRAIN_SHARE = 0.8
_GUESSED_PASSES: Mapping[str, float] = {
    "prepare": 6.0,
    "simulate": 1.6,
    "trial": 2.0,
    "choose": 0.7,
    "unlearn": 0.05,
    "evaluate": 1.5,
    "true_tow": 0.5,
    "examine": 0.05,
    "untrained": 0.05,
    "probe": 1.5,
}
"""Forward passes over the dataset that a job of the stage costs, about: a simulation for each
request, a trial for each cell, a choice for each cell and trial that is carried; of a probe, over
what its lessons show."""

_MEASURING = (
    *("evaluate", "score", "sequence", "probe", "examine", "lira", "memorisation"),
    *("untrained", "completeness"),
)
_FAMILY: Mapping[str, str] = {
    **dict.fromkeys(("index", "cache", "split", "weights"), "data"),
    **dict.fromkeys(TRAINING, "training"),
    **dict.fromkeys(("prepare", "unlearn"), "methods"),
    **dict.fromkeys(("simulate", "trial", "choose", "true_tow"), "tuning"),
    **dict.fromkeys(_MEASURING, "measuring"),
}
_OF_BYTES = (
    *("index", "cache", "split", "score", "sequence", "lira", "memorisation", "completeness"),
)
"""Stages that look at pictures or tables and compute with no network."""

_PROBE_STEPS = 3 * 30
"""Of three lessons; a step costs three forward passes of a batch."""
_DOUBT = (3.0, 2.0, 1.0)
"""So many measured kinds the broader one counts for, when a kind's ratio is made from its own: for
all networks, for a family, for a stage and access."""

_OVERDUE = 0.25
"""A job that takes longer than was expected is taken to need this share of its time again."""

_SPREADS = (0.15, 0.2, 0.4, 0.7, 1.0, 1.2)
"""Standard deviation of the logarithm of an estimate: that rests on jobs of the same size, the same
dataset, the same method, the same stage and access, the same family, on a guess alone."""

GUESS_FACTOR = 10
"""Guesses of which nothing was measured are right within such a factor, mostly."""


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
        (job.stage, model, _access(job)),
    )


def _access(job: Job) -> str:
    """What a job of a method works on, which says more of its time than its stage does."""
    if "training" in job.spec:
        return "access to training data"
    return "access to prepared" if "prepared" in job.inputs else "access to support"


def images_of(job: Job, jobs: Mapping[str, Job]) -> float:
    """Pictures of the dataset that a job is about, as published or drawn."""
    dataset = dataset_of(job, jobs)
    if dataset is None:
        return 10_000.0
    drawn = dataset.spec.get("generate")
    if drawn:
        return float(drawn["identities"] * drawn["pictures"])
    return float(registry.get(dataset.spec["layout"]).num_images)


def forward_gflop(job: Job) -> float:
    """Of a job's network for one picture, about."""
    model = job.spec.get("model", {})
    small = _SMALL_GFLOP_PER_PIXEL * float(model.get("image_size", 48)) ** 2
    return _FORWARD_GFLOP.get(model.get("name", ""), small)


def guess(job: Job, jobs: Mapping[str, Job], *, gpu: bool) -> float:
    """Seconds of a job of which no kind was ever measured; right within a factor of ten or so."""
    images = images_of(job, jobs)
    if job.stage in _OF_BYTES:
        dataset = dataset_of(job, jobs)
        is_drawn = dataset is not None and "generate" in dataset.spec
        decode = _DECODE_DRAWN_SECONDS if is_drawn else _DECODE_SECONDS
        each = {"index": 1e-5, "cache": decode, "split": 2e-6}.get(job.stage, 2e-5)
        return (0.2 + images * each) * max(1, len(job.series.get("predictions", ())))
    if job.stage == "probe":
        # It shows a few pictures often, however many the dataset has.
        images = _PROBE_STEPS * 3.0 * float(job.spec["recipe"]["batch_size"])
    passes = _GUESSED_PASSES.get(job.stage, 0.0)
    passes *= float(job.spec.get("requests", 1)) * float(job.spec.get("carried", 1))
    passes *= max(1, len(job.series.get("pretrained", ())))
    if "training" in job.spec:
        recipe = job.spec["training" if job.stage in TRAINING else "hyperparameters"]
        passes += _TRAIN_SHARE * 3.0 * float(recipe.get("epochs", 1))
    return 0.5 + passes * images * forward_gflop(job) / _GFLOP_PER_SECOND["gpu" if gpu else "cpu"]


@dataclass
class Mean:
    """A mean that grows; with a count to begin with, what is usual weighs as so many values."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """One value more."""
        self.total += value
        self.count += 1

    @property
    def value(self) -> float:
        """The mean of at least one value."""
        return self.total / self.count


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
        self._means: dict[JobKind, Mean] = {}
        # By method, and by broader kind the logarithms of the ratios of the kinds within.
        self._ratios: dict[JobKind, Mean] = {}
        self._within: dict[JobKind, dict[JobKind, None]] = defaultdict(dict)
        self._known_ratios: dict[JobKind, float] = {}
        for job, seconds in measured:
            self.learn(job, seconds)

    def learn(self, job: Job, seconds: float) -> None:
        """Take the measured time of a job of the graph into account."""
        kinds = self._kinds[job.key]
        for kind in kinds:
            self._means.setdefault(kind, Mean()).add(seconds)
        ratio = math.log(max(seconds, 1e-3) / self._guesses[job.key])
        *_, method, access = kinds
        self._ratios.setdefault(method, Mean()).add(ratio)
        family, everything = _broader(job)
        self._within[access][method] = None
        self._within[family][access] = None
        self._within[everything][family] = None
        self._known_ratios.clear()

    def _ratio(self, kind: JobKind, broader: tuple[JobKind, ...]) -> float:
        """Logarithm of measured over guessed, as far as it is known."""
        found = self._known_ratios.get(kind)
        if found is None:
            beyond = self._ratio(broader[0], broader[1:]) if broader else 0.0
            own = [self._own_ratio(one) for one in self._within.get(kind, ())]
            doubt = _DOUBT[len(broader)]
            found = (sum(own) + doubt * beyond) / (len(own) + doubt)
            self._known_ratios[kind] = found
        return found

    def _own_ratio(self, kind: JobKind) -> float:
        """The mean of what was measured of a kind, or of the kinds within."""
        if kind in self._ratios:
            return self._ratios[kind].value
        own = [self._own_ratio(one) for one in self._within[kind]]
        return sum(own) / len(own)

    def seconds(self, job: Job) -> float:
        """Expected seconds: what jobs of the same dataset took, or a guess that is scaled."""
        size, dataset, method, access = self._kinds[job.key]
        for kind in (size, dataset):
            mean = self._means.get(kind)
            if mean is not None:
                return mean.value
        measured = self._ratios.get(method)
        if measured is not None:
            return self._guesses[job.key] * math.exp(measured.value)
        ratio = self._ratio(access, _broader(job))
        if not self.is_blind(job):
            # The mean of what is likely, not its median: sums are made of it.
            ratio += self.spread(job) ** 2 / 2
        return self._guesses[job.key] * math.exp(ratio)

    def spread(self, job: Job) -> float:
        """Standard deviation of the logarithm of the expected seconds."""
        for kind, spread in zip(self._kinds[job.key], _SPREADS, strict=False):
            if kind in self._means:
                return spread
        return _SPREADS[5 if self.is_blind(job) else 4]

    def is_blind(self, job: Job) -> bool:
        """Whether nothing of the job's whole family was measured: such guesses err together."""
        return _broader(job)[0] not in self._within

    def kind(self, job: Job) -> JobKind:
        """Jobs of one kind are estimated from the same measurements: they err together."""
        return self._kinds[job.key][2]

    def is_guess(self, job: Job) -> bool:
        """Whether no job of any of its kinds was measured yet."""
        return not any(kind in self._means for kind in self._kinds[job.key])

    def with_overdue(self, running: Iterable[tuple[Job, float]]) -> Estimates:
        """These estimates, with what jobs tell that run for longer than was expected.

        Args:
            running: Jobs and the seconds that they have been running for.
        """
        late = [(job, spent) for job, spent in running if spent > self.seconds(job)]
        late = [(job, spent) for job, spent in late if self._kinds[job.key][1] not in self._means]
        if not late:
            return self
        found = copy.copy(self)
        found._means = {kind: replace(mean) for kind, mean in self._means.items()}
        found._ratios = {kind: replace(mean) for kind, mean in self._ratios.items()}
        found._within = defaultdict(dict, {k: dict(own) for k, own in self._within.items()})
        found._known_ratios = {}
        for job, spent in late:
            found.learn(job, spent * (1 + _OVERDUE))
        return found

    def left(self, job: Job, spent: float) -> float:
        """Seconds that a job still needs which has been running for some."""
        return max(self.seconds(job) - spent, self.spread(job) / 2 * spent)


def _broader(job: Job) -> tuple[JobKind, JobKind]:
    """The family of the job's stage, and what is told by all families that compute alike."""
    family = _FAMILY[job.stage]
    return (family,), ("bytes" if family == "data" else "network",)
