"""How long is left, and how well that is known: by hand, and by a demo that was run, replayed."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import pytest
from support.job_graphs import graph

from benchmarks.eta import judged, play
from sweeps.config import load
from sweeps.graph.job import Job
from sweeps.graph.plan import expand
from sweeps.schedule.estimates import Estimates
from sweeps.schedule.remaining import Left, time_left
from sweeps.schedule.scheduler import Scheduler

TRACE = Path(__file__).with_name("demo_seconds.json")


def by_key(jobs: Mapping[str, Job]) -> dict[str, Job]:
    return {job.key: job for job in jobs.values()}


def known(jobs: Mapping[str, Job], seconds: float) -> Estimates:
    return Estimates(by_key(jobs), [(job, seconds) for job in jobs.values()])


def test_what_is_left_is_played_with_the_jobs_that_run() -> None:
    jobs = graph({"a": [], "b": [], "c": []})
    estimates = known(jobs, 100.0)
    running = {jobs["a"].key: 60.0, jobs["b"].key: 10.0}
    left = time_left(by_key(jobs), estimates, workers=2, running=running)
    # The third begins when the first ends, 40 s from now.
    assert left.seconds == pytest.approx(140.0)
    assert left.work == pytest.approx(40.0 + 90.0 + 100.0)
    alone = time_left({jobs["c"].key: jobs["c"]}, estimates, workers=2, running={}, overhead=3.0)
    assert alone.seconds == pytest.approx(103.0)
    assert time_left({}, estimates, workers=2, running={}) == Left()


def test_the_range_is_wide_where_it_rests_on_guesses() -> None:
    jobs = graph({f"j{n}": [] for n in range(4)})
    blind = time_left(by_key(jobs), Estimates(by_key(jobs)), workers=1, running={})
    sure = time_left(by_key(jobs), known(jobs, 50.0), workers=1, running={})
    assert not Left(seconds=600.0, factor=blind.factor).is_known
    assert sure.is_known
    assert 1.0 < sure.factor < 1.3 < 2.0 < blind.factor


def test_many_kinds_that_nobody_measured_are_no_surer_than_one() -> None:
    jobs = expand(load(["sweep=demo"]).sweep).jobs
    left = time_left(jobs, Estimates(jobs), workers=2, running={})
    assert not left.is_known


def test_what_passes_between_jobs_is_learned() -> None:
    now = [0.0]
    jobs = graph({f"j{n}": [] for n in range(9)})
    scheduler = Scheduler(by_key(jobs), workers=1, clock=lambda: now[0])
    for _ in range(6):
        job = scheduler.next()
        assert job is not None
        now[0] += 12.0
        scheduler.succeed(job.key, 10.0, "worker")
    now[0] += 1000.0
    # Three jobs of ten seconds, and nearly two more for each.
    assert 33.0 < scheduler.snapshot().left.seconds < 36.0
    assert scheduler.snapshot().share == pytest.approx(60 / (60 + 30), abs=0.05)


def test_what_runs_is_told_by_when_it_began_not_when_it_was_handed_out() -> None:
    now = [0.0]
    jobs = graph({"a": [], "b": []})
    scheduler = Scheduler(by_key(jobs), workers=1, clock=lambda: now[0])
    first = scheduler.next()
    assert first is not None
    now[0] = 30.0
    scheduler.begin(first.key)
    now[0] = 34.0
    (running,) = scheduler.snapshot().running
    assert (running.label, running.spent) == ("a", 4.0)
    later = scheduler.snapshot().then(20.0)
    assert later.left.seconds == pytest.approx(scheduler.snapshot().left.seconds + 20.0)


@functools.cache
def demo() -> tuple[dict[str, Job], dict[str, float]]:
    seconds = {str(k): float(v) for k, v in json.loads(TRACE.read_bytes()).items()}
    return dict(expand(load(["sweep=demo"]).sweep).jobs), seconds


def test_a_demo_that_was_run_is_estimated_well_from_nothing() -> None:
    jobs, seconds = demo()
    assert {job.label for job in jobs.values()} == seconds.keys()
    found = judged(list(play(jobs, seconds, 2, 15.0)))
    assert found["ours"] >= 0.85
    assert found["in_range"] >= 0.85
    assert found["known"] >= 0.9 * found["asked"]


def shaken(seed: int) -> dict[str, float]:
    """The demo's seconds on another machine, each kind of job faster or slower than it was."""
    jobs, seconds = demo()
    noise = random.Random(seed)
    speed = noise.uniform(0.3, 3.0)
    of_kind: dict[tuple[str, str], float] = {}
    found = {}
    for job in jobs.values():
        kind = (job.stage, job.spec.get("method", ""))
        factor = of_kind.setdefault(kind, noise.lognormvariate(0.0, 0.4))
        found[job.label] = seconds[job.label] * factor * speed * noise.lognormvariate(0.0, 0.15)
    return found


def test_kinds_of_jobs_may_be_faster_or_slower_than_they_were() -> None:
    jobs, _ = demo()
    found = [judged(list(play(jobs, shaken(seed), 2, 30.0))) for seed in range(6)]
    ours, plain = (fmean(one[which] for one in found) for which in ("ours", "plain"))
    assert ours >= 0.7
    assert ours >= plain + 0.15
