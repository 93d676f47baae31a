"""Disk and memory of a sweep: guessed by hand-made numbers, measured where something was."""

from __future__ import annotations

import pytest

from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.schedule.footprint import footprint, guessed_disk

PLAN = expand(load(["sweep=full", "sweep.datasets=[mufac]"]).sweep)
JOBS = PLAN.jobs


def first(stage: str) -> str:
    return next(key for key, job in JOBS.items() if job.stage == stage)


def test_weights_and_pictures_are_what_fills_the_disk() -> None:
    weights, pictures, score = (
        guessed_disk(JOBS[first(stage)], JOBS) for stage in ("pretrain", "cache", "score")
    )
    assert weights == pytest.approx(346e6, rel=0.05), "ViT-B/16 in float32"
    assert pictures == pytest.approx(13_068 * 224 * 224 * 3, rel=0.2)
    assert score < 1e5


def test_what_was_measured_counts_and_the_rest_is_a_guess() -> None:
    pretrain = [key for key, job in JOBS.items() if job.stage == "pretrain"]
    done, left = pretrain[0], pretrain[1:]
    files, peaks = [(JOBS[done], 100.0)], [(JOBS[done], 7e9)]
    measured = footprint(JOBS, left, files, peaks, [(JOBS[done], 5e9)])
    assert measured.disk == 100.0 * len(left)
    assert (measured.memory, measured.gpu_memory) == (7e9, 5e9)
    assert not measured.is_guess
    guessed = footprint(JOBS, left, [], [], [])
    assert guessed.is_guess
    assert 1e9 < guessed.gpu_memory < 50e9
    assert guessed.memory > guessed.gpu_memory
    assert footprint(JOBS, [], [], [], []).disk == 0
