from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import pytest

from sweeps.config import load
from sweeps.graph.job import Job
from sweeps.graph.plan import Plan, expand
from sweeps.schedule.estimates import Estimates, dataset_of, guess, kinds_of

OVERRIDES = (
    "sweep=full",
    "sweep.datasets=[celeba,mufac]",
    "sweep.forget_sizes=[5,10]",
    "sweep.seeds=[0,1]",
    "sweep.methods=[pretrain,retrain,ssd,jit,scrub]",
)


@functools.cache
def grid(*overrides: str) -> Plan:
    return expand(load(overrides or OVERRIDES).sweep)


def find(label: str) -> Job:
    (job,) = [job for job in grid().jobs.values() if job.label == label]
    return job


def test_a_job_belongs_to_its_dataset() -> None:
    jobs = grid().jobs
    index = {job.label.split()[1]: job for job in jobs.values() if job.stage == "index"}
    assert set(index) == {"celeba", "mufac"}
    for job in jobs.values():
        dataset = dataset_of(job, jobs)
        if job.stage == "weights":
            assert dataset is None
            continue
        assert dataset is not None, job.label
        name = next(word for word in job.label.split() if word in index)
        assert dataset == index[name], job.label


def test_a_job_without_its_inputs_has_no_dataset() -> None:
    job = find("score ssd celeba n5 s0")
    assert dataset_of(job, {}) is None
    assert len(kinds_of(job, {})) == 4
    assert guess(job, {}, gpu=False) > 0


def test_every_job_of_the_whole_paper_gets_a_guess() -> None:
    jobs = grid("sweep=full").jobs
    for job in jobs.values():
        cpu, gpu = (guess(job, jobs, gpu=there) for there in (False, True))
        assert 0 < gpu < math.inf
        assert 0 < cpu < math.inf
        if job.stage in ("index", "cache", "split", "weights", "score"):
            assert gpu == cpu
        else:
            assert gpu < cpu, job.label


def test_guesses_know_what_takes_long() -> None:
    jobs = grid().jobs

    def seconds(label: str) -> float:
        return guess(find(label), jobs, gpu=True)

    assert seconds("pretrain celeba n5 s0") > 10 * seconds("evaluate pretrain celeba n5 s0")
    assert seconds("pretrain celeba n5 s0") > 1.5 * seconds("pretrain mufac n5 s0")
    assert seconds("unlearn scrub mufac n5 s0") > seconds("unlearn ssd mufac n5 s0")
    # A published training of thirty epochs on one GPU: hours, neither seconds nor weeks.
    assert 60 < seconds("pretrain celeba n5 s0") < 86_400


def test_generated_datasets_are_guessed_by_their_size() -> None:
    small, large = (
        grid("sweep=smoke", f"datasets.synthetic_tiny.generate.identities={people}").jobs
        for people in (60, 600)
    )

    def training(jobs: Mapping[str, Job]) -> float:
        (first, *_) = [job for job in jobs.values() if job.label == "pretrain synthetic_tiny n4 s0"]
        return guess(first, jobs, gpu=False)

    labels = sorted(job.label for job in small.values() if job.stage == "pretrain")
    assert "pretrain synthetic_tiny n4 s0" in labels, labels
    assert training(large) > 1.5 * training(small)


def test_what_was_measured_replaces_the_guess_and_the_nearest_kind_counts() -> None:
    jobs = grid().jobs
    estimates = Estimates(jobs)
    same, size, dataset, method = (
        find(label)
        for label in (
            "unlearn ssd celeba n5 s1",
            "unlearn ssd celeba n10 s0",
            "unlearn ssd mufac n5 s0",
            "unlearn jit mufac n5 s0",
        )
    )
    job = find("unlearn ssd celeba n5 s0")
    assert estimates.is_guess(job)
    assert estimates.seconds(job) == guess(job, jobs, gpu=False)
    for other, took in ((method, 100.0), (dataset, 50.0), (size, 20.0), (same, 10.0)):
        estimates.learn(other, took)
        assert not estimates.is_guess(job)
        if other is not same:
            assert estimates.seconds(other) == took
    assert estimates.seconds(job) == 10.0
    estimates.learn(job, 30.0)
    assert estimates.seconds(job) == estimates.seconds(same) == 20.0
    # The neighbours do not move.
    assert estimates.seconds(size) == 20.0
    assert estimates.seconds(method) == 100.0


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ("unlearn jit mufac n5 s0", "model"),
        ("unlearn ssd mufac n5 s0", "method"),
        ("unlearn ssd celeba n10 s1", "dataset"),
        ("unlearn ssd celeba n5 s1", "size"),
    ],
)
def test_less_particular_kinds_are_fallen_back_to(measured: str, expected: str) -> None:
    jobs = grid().jobs
    job = find("unlearn ssd celeba n5 s0")
    shared = set(kinds_of(job, jobs)) & set(kinds_of(find(measured), jobs))
    assert len(shared) == ["model", "method", "dataset", "size"].index(expected) + 1
    estimates = Estimates(jobs, [(find(measured), 7.0)])
    assert estimates.seconds(job) == 7.0
    assert not estimates.is_guess(job)


def test_another_stage_tells_nothing() -> None:
    jobs = grid().jobs
    estimates = Estimates(jobs, [(find("pretrain celeba n5 s0"), 7.0)])
    assert estimates.is_guess(find("retrain celeba n5 s0"))
    assert estimates.is_guess(find("evaluate ssd celeba n5 s0"))
    assert not estimates.is_guess(find("pretrain mufac n10 s1"))


def test_guesses_may_be_for_a_gpu() -> None:
    jobs = grid().jobs
    job = find("pretrain celeba n5 s0")
    assert Estimates(jobs, gpu=True).seconds(job) == guess(job, jobs, gpu=True)
