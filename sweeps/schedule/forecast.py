"""What a graph of jobs will take on a number of workers: a simulation of its scheduling.

Pure. The same order as the engine's: ready jobs, the longest remaining chain first.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from sweeps.graph.cells import dependants, remaining_chain
from sweeps.graph.job import Job


class ReadyJobs:
    """Jobs whose inputs are done, the longest remaining chain first."""

    def __init__(self, jobs: Mapping[str, Job], seconds: Mapping[str, float]) -> None:
        """Begin with the jobs that need none of the others.

        Args:
            jobs: The jobs that are to run; inputs outside of them count as done.
            seconds: Of every job, by key.
        """
        self._needing = dependants(jobs)
        self._chain = remaining_chain(jobs, lambda job: seconds[job.key], self._needing)
        self._missing = {
            key: sum(needed in jobs for needed in job.needs) for key, job in jobs.items()
        }
        self._heap: list[tuple[float, str]] = []
        for key, count in self._missing.items():
            if not count:
                self.push(key)

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, key: str) -> None:
        """Make a job ready, for the first time or again."""
        heapq.heappush(self._heap, (-self._chain[key], key))

    def pop(self) -> str:
        """Take the first."""
        return heapq.heappop(self._heap)[1]

    def finish(self, key: str) -> None:
        """A job is done: those that waited for nothing else are ready."""
        for needing in self._needing[key]:
            self._missing[needing] -= 1
            if not self._missing[needing]:
                self.push(needing)


def makespan(
    jobs: Mapping[str, Job],
    seconds: Mapping[str, float],
    workers: int,
    *,
    barriers: bool = False,
) -> float:
    """Seconds from the first start to the last end.

    Args:
        jobs: The jobs that are to run; inputs outside of them count as done.
        seconds: Of every job, by key.
        workers: Jobs at the same time.
        barriers: Whether a stage starts only when the whole stage before it has ended, as in a
            script that runs one stage after the other.
    """
    if barriers:
        total = 0.0
        for stage in dict.fromkeys(job.stage for job in jobs.values()):
            part = {key: job for key, job in jobs.items() if job.stage == stage}
            total += makespan(part, seconds, workers)
        return total
    ready = ReadyJobs(jobs, seconds)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            key = ready.pop()
            heapq.heappush(running, (now + seconds[key], key))
        now, ended = heapq.heappop(running)
        ready.finish(ended)
    return now


def useful_workers(
    jobs: Mapping[str, Job], seconds: Mapping[str, float], tolerance: float = 0.02
) -> int:
    """The number of workers beyond which more do not help: within tolerance of the best."""
    if not jobs:
        return 0
    best = makespan(jobs, seconds, len(jobs)) * (1 + tolerance)
    low, high = 1, len(jobs)
    while low < high:
        middle = (low + high) // 2
        if makespan(jobs, seconds, middle) <= best:
            high = middle
        else:
            low = middle + 1
    return low
