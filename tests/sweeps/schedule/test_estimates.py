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
    jobs = grid("sweep=full", "++sweep.audit={pool: 64, models: 8}").jobs
    for job in jobs.values():
        cpu, gpu = (guess(job, jobs, gpu=there) for there in (False, True))
        assert 0 < gpu < math.inf
        assert 0 < cpu < math.inf
        if job.stage in (
            "index",
            "cache",
            "split",
            "weights",
            "score",
            "lira",
            "memorisation",
            "completeness",
        ):
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
    spreads = [estimates.spread(job)]
    for other, took in ((method, 100.0), (dataset, 50.0), (size, 20.0), (same, 10.0)):
        estimates.learn(other, took)
        spreads.append(estimates.spread(job))
        if other is not same:
            assert estimates.seconds(other) == took
    assert estimates.seconds(job) == 10.0
    assert not estimates.is_guess(job)
    assert spreads == sorted(set(spreads), reverse=True), "the nearer, the surer"
    estimates.learn(job, 30.0)
    assert estimates.seconds(job) == estimates.seconds(same) == 20.0
    # The neighbours do not move.
    assert estimates.seconds(size) == 20.0
    assert estimates.seconds(method) == 100.0


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ("unlearn scrub mufac n5 s0", 0),
        ("unlearn ssd mufac n5 s0", 2),
        ("unlearn ssd celeba n10 s1", 3),
        ("unlearn ssd celeba n5 s1", 4),
    ],
)
def test_jobs_share_the_broader_kinds(measured: str, expected: int) -> None:
    jobs = grid().jobs
    ours, theirs = (kinds_of(find(name), jobs) for name in ("unlearn ssd celeba n5 s0", measured))
    shared = [a == b for a, b in zip(ours, theirs, strict=True)]
    assert shared == [False] * (4 - expected) + [True] * expected


def test_another_dataset_s_time_counts_by_what_was_guessed_of_both() -> None:
    jobs = grid().jobs
    there, here = find("unlearn ssd mufac n5 s0"), find("unlearn ssd celeba n5 s0")
    estimates = Estimates(jobs, [(there, 7.0)])
    ratio = guess(here, jobs, gpu=False) / guess(there, jobs, gpu=False)
    assert ratio > 2
    assert estimates.seconds(here) == pytest.approx(7.0 * ratio)
    assert not estimates.is_guess(here)


def demo(label: str) -> Job:
    (job,) = [job for job in grid("sweep=demo").jobs.values() if job.label == label]
    return job


def test_the_slowest_method_does_not_price_all_others() -> None:
    jobs = grid("sweep=demo").jobs
    slow, like, other = (
        demo(f"unlearn {name} synthetic n20 s0")
        for name in ("neggrad_plus", "finetune", "scrub_support")
    )
    estimates = Estimates(jobs)
    before = {job.key: estimates.seconds(job) for job in (slow, like, other)}
    estimates.learn(slow, 20 * before[slow.key])
    grown = {
        job.label.split()[1]: estimates.seconds(job) / before[job.key] for job in (like, other)
    }
    # The one works on the training data as well; the other on the support set alone.
    assert grown["finetune"] > 1.5 * grown["scrub_support"] > 1.5
    assert grown["scrub_support"] < 8


def test_guesses_follow_what_was_measured_of_their_family_and_keep_near_to_themselves() -> None:
    jobs = grid("sweep=demo").jobs
    job = demo("retrain synthetic n20 s0")
    estimates = Estimates(jobs)
    guessed = estimates.seconds(job)
    assert guessed == guess(job, jobs, gpu=False)
    spreads = [estimates.spread(job)]
    measured = demo("pretrain synthetic n20 s0")
    estimates.learn(measured, 9 * guess(measured, jobs, gpu=False))
    assert 2 * guessed < estimates.seconds(job) < 9 * guessed
    assert estimates.is_guess(job)
    assert estimates.spread(job) < spreads[0]
    assert estimates.seconds(demo("index synthetic")) == guess(
        demo("index synthetic"), jobs, gpu=False
    ), "reading annotations tells nothing of networks"


def test_a_job_that_is_overdue_is_extrapolated_and_tells_about_its_like() -> None:
    jobs = grid("sweep=demo").jobs
    job, like = (demo(f"pretrain synthetic n20 s{seed}") for seed in (0, 1))
    estimates = Estimates(jobs)
    expected = estimates.seconds(job)
    assert estimates.with_overdue([(job, expected / 2)]) is estimates
    late = estimates.with_overdue([(job, 4 * expected)])
    assert late.seconds(like) == pytest.approx(5 * expected)
    assert late.left(job, 4 * expected) >= expected
    assert estimates.seconds(like) == expected, "it has not ended yet"
    estimates.learn(like, 10.0)
    assert estimates.with_overdue([(job, 40.0)]) is estimates, "measured is measured"
    assert estimates.left(job, 4.0) == 6.0
    assert 0 < estimates.left(job, 40.0) < 10


def test_guesses_may_be_for_a_gpu() -> None:
    jobs = grid().jobs
    job = find("pretrain celeba n5 s0")
    assert Estimates(jobs, gpu=True).seconds(job) == guess(job, jobs, gpu=True)
