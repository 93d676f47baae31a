"""What a sweep takes beside time: disk, memory and GPU memory, measured or guessed.

Pure. For people who plan; nothing is reserved by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sweeps.graph.job import Job, Stage
from sweeps.schedule.estimates import JobKind, forward_gflop, images_of, kinds_of

_WEIGHT_BYTES: Mapping[str, float] = {"vit_base_patch16_224": 346e6}
_SMALL_WEIGHT_BYTES = 10e6
_BYTES_PER_IMAGE: Mapping[Stage, float] = {"index": 85.0, "split": 45.0, "evaluate": 300.0}
_WEIGHTS_KEPT: Mapping[Stage, float] = {
    **dict.fromkeys(("weights", "pretrain", "retrain", "simulate", "unlearn"), 1.0),
    "prepare": 2.0,
}
_SMALL_FILES = 5e3
_PROCESS_BYTES = 1.2e9
"""Of a worker that has loaded what jobs need."""

_COPIES_OF_WEIGHTS = 4
_ACTIVATION_BYTES_PER_GFLOP = 6e6


def _weight_bytes(job: Job) -> float:
    return _WEIGHT_BYTES.get(job.spec.get("model", {}).get("name", ""), _SMALL_WEIGHT_BYTES)


def guessed_disk(job: Job, jobs: Mapping[str, Job]) -> float:
    """Bytes of a job's result; right within a factor of ten or so."""
    if job.stage == "cache":
        return images_of(job, jobs) * 3 * float(job.spec["size"]) ** 2
    of_images = _BYTES_PER_IMAGE.get(job.stage, 0.0) * images_of(job, jobs)
    return _SMALL_FILES + of_images + _WEIGHTS_KEPT.get(job.stage, 0.0) * _weight_bytes(job)


def _training_bytes(job: Job) -> float:
    """Of a training: weights, gradients and the optimiser's state, and a batch's activations."""
    batch = float(job.spec.get("training", {}).get("batch_size", 1))
    activations = batch * forward_gflop(job) * _ACTIVATION_BYTES_PER_GFLOP
    return _COPIES_OF_WEIGHTS * _weight_bytes(job) + activations


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that a sweep takes.

    Attributes:
        disk: Of the results that are still to come.
        memory: Of a worker at its peak.
        gpu_memory: Of a job on a GPU at its peak.
        is_guess: Whether any of these is guessed.
    """

    disk: float
    memory: float
    gpu_memory: float
    is_guess: bool


def footprint(
    jobs: Mapping[str, Job],
    left: Iterable[str],
    files: Iterable[tuple[Job, float]],
    peaks: Iterable[tuple[Job, float]],
    gpu_peaks: Iterable[tuple[Job, float]],
) -> Footprint:
    """What the jobs that must run will take.

    Args:
        jobs: The graph.
        left: Keys of those that must run.
        files: Finished jobs with the bytes of their results.
        peaks: Finished jobs with their peak memory in bytes.
        gpu_peaks: The same of the GPU.
    """
    to_run = [jobs[key] for key in left]
    seen: dict[JobKind, list[float]] = {}
    for job, size in files:
        seen.setdefault(kinds_of(job, jobs)[-1], []).append(size)
    disk, is_guess = 0.0, False
    for job in to_run:
        known = seen.get(kinds_of(job, jobs)[-1])
        disk += sum(known) / len(known) if known else guessed_disk(job, jobs)
        is_guess |= known is None
    most = max((peak for _, peak in peaks), default=0.0)
    most_on_gpu = max((peak for _, peak in gpu_peaks), default=0.0)
    training = max(map(_training_bytes, to_run), default=0.0)
    return Footprint(
        disk=disk,
        memory=most or _PROCESS_BYTES + training,
        gpu_memory=most_on_gpu or training,
        is_guess=is_guess or not most,
    )
