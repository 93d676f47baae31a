from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.engine import ATTEMPTS, Failure, FailureKind, Scheduler, run_inline
from sweeps.jobs import Job, Stage


def graph(
    edges: Mapping[str, list[str]], stages: Mapping[str, Stage] | None = None
) -> dict[str, Job]:
    """Jobs by name, in the order given; ``edges`` names each one's inputs."""
    jobs: dict[str, Job] = {}
    for name, needed in edges.items():
        jobs[name] = Job(
            stage=(stages or {}).get(name, "unlearn"),
            spec={"name": name},
            inputs={f"input {other}": jobs[other].key for other in needed},
            label=name,
        )
    return jobs


def by_key(jobs: Mapping[str, Job]) -> dict[str, Job]:
    return {job.key: job for job in jobs.values()}


DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


@st.composite
def random_graphs(draw: st.DrawFn) -> dict[str, Job]:
    edges: dict[str, list[str]] = {}
    for number in range(draw(st.integers(1, 14))):
        known = sorted(edges)
        edges[f"j{number:02d}"] = (
            draw(st.lists(st.sampled_from(known), unique=True)) if known else []
        )
    return graph(edges)


@given(random_graphs(), st.integers(1, 4), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_every_job_runs_once_and_after_its_inputs(
    jobs: dict[str, Job], workers: int, rng: object
) -> None:
    scheduler = Scheduler(by_key(jobs), workers=workers)
    running: list[Job] = []
    finished: list[str] = []
    while not scheduler.finished:
        while len(running) < workers and (job := scheduler.next()) is not None:
            assert set(job.inputs.values()) <= set(finished)
            running.append(job)
        assert running, "the graph is stuck"
        done = running.pop(rng.randrange(len(running)))  # type: ignore[attr-defined]
        scheduler.succeed(done.key)
        finished.append(done.key)
    assert sorted(finished) == sorted(job.key for job in jobs.values())


def test_the_longest_remaining_chain_comes_first() -> None:
    jobs = graph(
        {"short": [], "long": [], "after": ["long"]},
        {"short": "split", "long": "split", "after": "pretrain"},
    )
    scheduler = Scheduler(by_key(jobs))
    first = scheduler.next()
    assert first is not None
    assert first.label == "long"


def test_what_is_done_is_not_handed_out() -> None:
    jobs = graph(DIAMOND)
    scheduler = Scheduler(by_key(jobs), [jobs["a"].key, jobs["b"].key])
    labels = []
    run_inline(scheduler, lambda job: labels.append(job.label))
    assert labels == ["c", "d"]


def test_a_failure_blocks_what_needs_it_and_nothing_else() -> None:
    jobs = graph(DIAMOND | {"e": ["a"]})
    scheduler = Scheduler(by_key(jobs))
    broken = Failure(kind="numerical", message="NaN")
    run_inline(scheduler, lambda job: broken if job.label == "b" else None)
    assert scheduler.finished
    assert scheduler.failures() == {jobs["b"].key: broken}
    assert scheduler.keys("blocked") == [jobs["d"].key]
    assert scheduler.keys("done") == [jobs[name].key for name in "ace"]


@pytest.mark.parametrize("kind", sorted(ATTEMPTS))
def test_each_class_of_failure_has_its_number_of_attempts(kind: FailureKind) -> None:
    jobs = graph({"a": []})
    scheduler = Scheduler(by_key(jobs))
    attempts = []

    def execute(job: Job) -> Failure:
        attempts.append(job)
        return Failure(kind=kind, message="no")

    run_inline(scheduler, execute)
    assert len(attempts) == ATTEMPTS[kind]
    assert list(scheduler.failures()) == [jobs["a"].key]


def test_a_job_that_recovers_counts_as_done() -> None:
    jobs = graph(DIAMOND)
    scheduler = Scheduler(by_key(jobs))
    answers = iter([Failure(kind="lost", message="killed")] * 3)
    run_inline(scheduler, lambda job: next(answers, None) if job.label == "a" else None)
    assert len(scheduler.keys("done")) == 4
    assert not scheduler.failures()


def test_a_damaged_input_is_computed_again_before_its_dependant() -> None:
    jobs = graph(DIAMOND)
    scheduler = Scheduler(by_key(jobs), [jobs["a"].key])
    order = []

    def execute(job: Job) -> Failure | None:
        order.append(job.label)
        if job.label in "bc" and "a" not in order:
            return Failure(kind="damaged", message="bit flip", damaged=jobs["a"].key)
        return None

    run_inline(scheduler, execute)
    assert order[0] in "bc"
    assert order[1] == "a"
    assert sorted(order[2:]) == ["b", "c", "d"]
    assert not scheduler.failures()


def test_bad_input_ends_the_sweep() -> None:
    jobs = graph({"a": [], "b": [], "c": ["b"]})
    scheduler = Scheduler(by_key(jobs))
    refused = Failure(kind="input", message="3.jpg does not decode")
    run_inline(scheduler, lambda job: refused if job.label == "b" else None)
    assert scheduler.finished
    assert list(scheduler.failures().values()) == [refused]
    assert len(scheduler.keys("blocked")) >= 1


def test_the_estimate_follows_measured_times() -> None:
    now = [0.0]
    jobs = graph({f"j{i}": [] for i in range(10)})
    scheduler = Scheduler(by_key(jobs), workers=2, clock=lambda: now[0])
    for _ in range(4):
        job = scheduler.next()
        assert job is not None
        now[0] += 10.0
        scheduler.succeed(job.key, 10.0)
    snapshot = scheduler.snapshot()
    assert snapshot.elapsed == 40.0
    assert snapshot.remaining == pytest.approx(6 * 10.0 / 2)
    assert snapshot.total("done") == 4
    assert snapshot.total("ready") == 6


def test_a_chain_cannot_be_finished_faster_by_more_workers() -> None:
    jobs = graph({"a": [], "b": ["a"], "c": ["b"]}, dict.fromkeys("abc", "pretrain"))
    few, many = (Scheduler(by_key(jobs), workers=n).snapshot().remaining for n in (1, 64))
    assert few == many
