"""Graphs of jobs by name."""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.graph.job import Job, Stage


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
