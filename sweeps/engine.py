"""Which job runs next: the state of a sweep's graph, apart from whatever runs the jobs.

No Ray here; ``sweeps.ray_engine`` drives this on a cluster, ``run_inline`` in this process.
"""

from __future__ import annotations

import heapq
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sweeps.jobs import STAGE_SECONDS, STAGES, Job, Stage
from sweeps.plan import dependants, remaining_chain

State = Literal["waiting", "ready", "running", "done", "failed", "blocked"]
FailureKind = Literal["input", "numerical", "access", "memory", "damaged", "lost", "error"]

ATTEMPTS: Mapping[FailureKind, int] = {
    "input": 1,
    "numerical": 1,
    "access": 1,
    "memory": 2,
    "damaged": 3,
    "lost": 6,
    "error": 2,
}
"""How often a job may fail in a way before it counts as failed. Input, arithmetic and forbidden
access do not get better by repetition; a lost worker is nobody's fault, but a job that kills
every worker is."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a job did not finish.

    Attributes:
        kind: Class of the failure.
        message: One line.
        damaged: Key of the input that was damaged, for that kind.
    """

    kind: FailureKind
    message: str
    damaged: str = ""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state of a sweep at one moment.

    Attributes:
        stages: By stage, number of jobs in each state; jobs done before count as done.
        elapsed: Seconds since the start.
        remaining: Estimated seconds until the end.
    """

    stages: Mapping[Stage, Mapping[State, int]]
    elapsed: float
    remaining: float

    def total(self, state: State) -> int:
        """Jobs in this state over all stages."""
        return sum(stage.get(state, 0) for stage in self.stages.values())


@dataclass
class _Status:
    state: State = "waiting"
    missing: int = 0
    failures: Counter[FailureKind] = field(default_factory=Counter)
    failure: Failure | None = None
    started: float = 0.0


class Scheduler:
    """Hands out jobs whose inputs are done, the longest remaining chain first.

    May be called from several threads. Order and outcome of jobs do not change any result: jobs
    are functions of their inputs.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        done: Collection[str] = (),
        *,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with the jobs that are done already.

        Args:
            jobs: The graph; every job after its inputs.
            done: Keys of finished jobs.
            workers: Jobs that run at the same time, for the estimate of the end.
            clock: Seconds.
        """
        self._jobs = jobs
        self._workers = workers
        self._clock = clock
        self._lock = threading.RLock()
        self._needing = dependants(jobs)
        self._chain = remaining_chain(jobs)
        self._status = {key: _Status() for key in jobs}
        self._ready: list[tuple[float, int, str]] = []
        self._place = {key: place for place, key in enumerate(jobs)}
        self._seconds: dict[Stage, list[float]] = defaultdict(list)
        self._start = clock()
        for key in done:
            self._status[key].state = "done"
        for key in jobs:
            self._refresh(key)

    def _refresh(self, key: str) -> None:
        status = self._status[key]
        if status.state not in ("waiting", "ready"):
            return
        inputs = set(self._jobs[key].inputs.values())
        status.missing = sum(self._status[needed].state != "done" for needed in inputs)
        if status.missing == 0 and status.state == "waiting":
            status.state = "ready"
            heapq.heappush(self._ready, (-self._chain[key], self._place[key], key))
        elif status.missing:
            status.state = "waiting"

    def next(self) -> Job | None:
        """The job to start now, marked as running; None if none is ready."""
        with self._lock:
            while self._ready:
                key = heapq.heappop(self._ready)[2]
                if self._status[key].state == "ready":
                    self._status[key].state = "running"
                    self._status[key].started = self._clock()
                    return self._jobs[key]
            return None

    def succeed(self, key: str) -> None:
        """The running job has published its result."""
        with self._lock:
            status = self._status[key]
            if status.state == "done":
                return
            status.state = "done"
            self._seconds[self._jobs[key].stage].append(self._clock() - status.started)
            for needing in self._needing[key]:
                self._refresh(needing)

    def fail(self, key: str, failure: Failure) -> bool:
        """The running job did not finish; whether it will be tried again.

        Bad input ends the whole sweep: it is for the user to mend, and every further minute of
        computing would be spent on something else than was asked for.
        """
        with self._lock:
            status = self._status[key]
            status.failures[failure.kind] += 1
            status.failure = failure
            again = status.failures[failure.kind] < ATTEMPTS[failure.kind]
            if failure.damaged and again:
                self._recompute(failure.damaged)
            if again:
                status.state = "waiting"
                self._refresh(key)
            else:
                status.state = "failed"
                self._block(key)
            if failure.kind == "input":
                self.stop()
            return again

    def _recompute(self, key: str) -> None:
        if self._status[key].state == "done":
            self._status[key].state = "waiting"
            self._refresh(key)
            for needing in self._needing[key]:
                self._refresh(needing)

    def stop(self) -> None:
        """Start nothing any more; what has not started counts as blocked."""
        with self._lock:
            for status in self._status.values():
                if status.state in ("waiting", "ready"):
                    status.state = "blocked"

    def _block(self, key: str) -> None:
        for needing in self._needing[key]:
            if self._status[needing].state in ("waiting", "ready"):
                self._status[needing].state = "blocked"
                self._block(needing)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to start or to wait for."""
        with self._lock:
            return not any(
                s.state in ("waiting", "ready", "running") for s in self._status.values()
            )

    def failures(self) -> dict[str, Failure]:
        """The jobs that failed for good, with the reason."""
        with self._lock:
            return {
                key: status.failure
                for key, status in self._status.items()
                if status.state == "failed" and status.failure is not None
            }

    def keys(self, state: State) -> list[str]:
        """Keys of the jobs in this state, in the order of the plan."""
        with self._lock:
            return [key for key, status in self._status.items() if status.state == state]

    def _expected(self, job: Job) -> float:
        measured = self._seconds[job.stage]
        return statistics.fmean(measured) if measured else STAGE_SECONDS[job.stage]

    def snapshot(self) -> Snapshot:
        """Counts and the estimate of the end: work over workers, or the longest chain."""
        with self._lock:
            now = self._clock()
            stages: dict[Stage, Counter[State]] = {stage: Counter() for stage in STAGES}
            work = 0.0
            left = {}
            for key, status in self._status.items():
                job = self._jobs[key]
                stages[job.stage][status.state] += 1
                if status.state in ("waiting", "ready", "running"):
                    spent = now - status.started if status.state == "running" else 0.0
                    left[key] = max(self._expected(job) - spent, 0.1)
                    work += left[key]
            chain = remaining_chain(self._jobs, lambda job: left.get(job.key, 0.0))
            remaining = max(work / self._workers, max(chain.values(), default=0.0))
            return Snapshot(
                stages={stage: count for stage, count in stages.items() if count},
                elapsed=now - self._start,
                remaining=remaining if left else 0.0,
            )


def run_inline(scheduler: Scheduler, execute: Callable[[Job], Failure | None]) -> None:
    """Run all jobs one after the other in this process.

    Args:
        scheduler: The graph's state.
        execute: Runs one job and says why it failed, if it did.
    """
    while (job := scheduler.next()) is not None:
        failure = execute(job)
        if failure is None:
            scheduler.succeed(job.key)
        else:
            scheduler.fail(job.key, failure)
