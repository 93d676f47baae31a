"""How long a sweep that runs will still take, and how well that can be told.

Pure. The jobs that are left are played by the estimates of now; how far these may be off is made
from what each of them rests on.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from sweeps.graph.job import Job
from sweeps.schedule.estimates import Estimates, JobKind
from sweeps.schedule.forecast import makespan

_UNKNOWN = 2.0
"""A range of more than this factor to either side is not worth saying, but for the last minute."""

_COMMON = 0.1
"""Standard deviation of the logarithm of what all jobs share: the machine's other work."""

_BLIND = 1.0
"""The same of what guesses share that nothing was measured for: how fast the machine is."""


@dataclass(frozen=True, kw_only=True)
class Left:
    """What is left of a sweep.

    Attributes:
        seconds: Until the last job ends.
        factor: By which the truth may lie below or above.
        work: Seconds of all jobs that are left, one after the other.
    """

    seconds: float = 0.0
    factor: float = 1.0
    work: float = 0.0

    @property
    def is_known(self) -> bool:
        """Whether there is ground enough to say anything."""
        return self.factor <= _UNKNOWN or self.seconds * self.factor < 60


def time_left(
    jobs: Mapping[str, Job],
    estimates: Estimates,
    *,
    workers: int,
    running: Mapping[str, float],
    overhead: float = 0.0,
) -> Left:
    """How long these jobs will take.

    Args:
        jobs: All that are not done, every job after its inputs.
        estimates: How long jobs take.
        workers: Jobs at the same time.
        running: Those that have begun, with the seconds since.
        overhead: Seconds that each other job takes beside its own.
    """
    if not jobs:
        return Left()
    running = {key: spent for key, spent in running.items() if key in jobs}
    estimates = estimates.with_overdue((jobs[key], spent) for key, spent in running.items())
    seconds = {
        key: estimates.left(job, running[key])
        if key in running
        else estimates.seconds(job) + overhead
        for key, job in jobs.items()
    }
    work = sum(seconds.values())
    of_kinds: dict[JobKind, float] = defaultdict(float)
    for key, job in jobs.items():
        of_kinds[estimates.kind(job)] += seconds[key] * estimates.spread(job)
    blind = sum(seconds[key] for key, job in jobs.items() if estimates.is_blind(job))
    off = [_COMMON * work, _BLIND * blind, *of_kinds.values()]
    variance = sum((each / work) ** 2 for each in off) if work else 0.0
    return Left(
        seconds=makespan(jobs, seconds, workers, running),
        factor=math.exp(math.sqrt(variance)),
        work=work,
    )
