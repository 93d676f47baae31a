"""Graphs of jobs by name, and how to run one without a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from sweeps.graph.job import Job, Stage
from sweeps.schedule.failure import Failure
from sweeps.schedule.scheduler import Scheduler


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


def run_inline(scheduler: Scheduler, execute: Callable[[Job], Failure | None]) -> None:
    """Run all jobs one after the other in this process.

    Args:
        scheduler: The graph's state.
        execute: Runs one job and says why it failed, if it did.
    """
    while (job := scheduler.next()) is not None:
        start = time.perf_counter()
        failure = execute(job)
        if failure is None:
            scheduler.succeed(job.key, time.perf_counter() - start)
        else:
            scheduler.fail(job.key, failure)
