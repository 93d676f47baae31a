"""Which job runs next: the state of a sweep's graph, apart from whatever runs the jobs.

No Ray here; ``sweeps.executor.tune`` drives this.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from sweeps.graph.cells import dependants, remaining_chain
from sweeps.graph.job import STAGES, Job, Stage
from sweeps.schedule.estimates import Estimates, Mean
from sweeps.schedule.failure import ATTEMPTS, STOPPING, Failure, FailureKind
from sweeps.schedule.remaining import Left, time_left
from sweeps.schedule.room import Request
from sweeps.schedule.slots import Ready

State = Literal["waiting", "ready", "running", "held", "done", "failed", "blocked"]
_CLOSED: tuple[State, ...] = ("done", "failed", "blocked")
_LOOK_EVERY = 50.0
"""The estimate of the end is made anew after this many times what making it took."""

_OVERHEAD_SECONDS = 0.3
"""What usually passes between two jobs of a worker."""

_NEAR_PRIORITY = 0.95
_LOOKED_AT = 32
"""Ready jobs within this share of the longest chain, and this many of them, count as equally
urgent; the one whose inputs a worker knows goes first."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A job that a worker is at.

    Attributes:
        label: Of the job.
        spent: Seconds since it began.
        expected: Seconds that it is expected to take in all.
        is_guess: Whether nothing measured stands behind that.
        worker: Who is at it; empty if that is not known.
    """

    label: str
    spent: float
    expected: float
    is_guess: bool = False
    worker: str = ""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state of a sweep at one moment.

    Attributes:
        stages: By stage, number of jobs in each state; jobs done before count as done.
        elapsed: Seconds since the start.
        left: What is left to do, as far as that can be told.
        share: Of the work, by its seconds, that is done.
        running: What the workers are at, the longest first.
    """

    stages: Mapping[Stage, Mapping[State, int]]
    elapsed: float
    left: Left
    share: float = 0.0
    running: tuple[Running, ...] = ()

    def then(self, seconds: float) -> Snapshot:
        """The same, if so much is left to be done after the last job."""
        return replace(self, left=replace(self.left, seconds=self.left.seconds + seconds))

    def total(self, state: State) -> int:
        """Jobs in this state over all stages."""
        return sum(stage.get(state, 0) for stage in self.stages.values())


@dataclass
class _Status:
    state: State = "waiting"
    missing: int = 0
    failures: Counter[tuple[FailureKind, str]] = field(default_factory=Counter)
    failure: Failure | None = None
    started: float = 0.0
    took: float | None = None
    worker: str = ""
    request: Request = field(default_factory=Request)
    seconds: float = 0.0


_WORK_BOUND = 2.0
"""With so many times the longest chain's seconds for each worker to do, chains keep nobody waiting:
what is done first does not change when all is done."""


def _urgency(
    jobs: Mapping[str, Job],
    estimates: Estimates,
    done: Collection[str],
    first: Collection[str],
    workers: int,
) -> dict[str, float]:
    """Seconds of the longest chain that begins with each job; more for those of the first look."""
    chain = remaining_chain(jobs, estimates.seconds)
    left = [key for key in jobs if key not in done]
    longest = max((chain[key] for key in left), default=0.0)
    work = sum(estimates.seconds(jobs[key]) for key in left)
    if work >= _WORK_BOUND * longest * workers:
        # Twice: the longest chain of the others is then not nearly as urgent either.
        chain |= {key: chain[key] + 2 * longest for key in first}
    return chain


class Scheduler:
    """Hands out jobs whose inputs are done, the longest remaining chain first.

    May be called from several threads. Order and outcome of jobs do not change any result: jobs
    are functions of their inputs.

    Attributes:
        damage: Inputs that running jobs found damaged, one line each.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        done: Collection[str] = (),
        *,
        workers: int = 1,
        estimates: Estimates | None = None,
        request: Callable[[Job], Request] = lambda _job: Request(),
        first: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with the jobs that are done already.

        Args:
            jobs: The graph; every job after its inputs.
            done: Keys of finished jobs.
            workers: Jobs that run at the same time, for the estimate of the end.
            estimates: How long jobs take; learns from those that finish.
            request: What a job asks of its node, looked up when it becomes ready.
            first: Keys of jobs that go before all others where that delays nothing: those of
                ``sweeps.graph.first_look``.
            clock: Seconds.
        """
        self._jobs = jobs
        self._workers = workers
        self._estimates = estimates or Estimates(jobs)
        self._request = request
        self._clock = clock
        self._lock = threading.RLock()
        self._needing = dependants(jobs)
        self._urgency = _urgency(jobs, self._estimates, frozenset(done), frozenset(first), workers)
        self._status = {key: _Status() for key in jobs}
        self._ready: dict[Request, list[tuple[float, int, str]]] = {}
        self._ready_seconds: dict[Request, float] = defaultdict(float)
        self._ready_counts: Counter[Request] = Counter()
        self._handed_out: dict[str, None] = {}
        self._counts: dict[Stage, Counter[State]] = {stage: Counter() for stage in STAGES}
        self._left = (-math.inf, Left())
        self._shown_share = 0.0
        self._free_since: dict[str, float] = {}
        self._overheads = Mean(_OVERHEAD_SECONDS, 1)
        self._place = {key: place for place, key in enumerate(jobs)}
        self._open = len(jobs)
        self._stopped = False
        self.damage: list[str] = []
        self._start = clock()
        for job in jobs.values():
            self._counts[job.stage]["waiting"] += 1
        for key in set(done):
            self._set(key, "done")
        for key in jobs:
            self._refresh(key)

    def _refresh(self, key: str) -> None:
        status = self._status[key]
        if status.state not in ("waiting", "ready"):
            return
        inputs = [self._status[needed].state for needed in self._jobs[key].needs]
        if self._stopped or "failed" in inputs or "blocked" in inputs:
            self._set(key, "blocked")
            self._block(key)
            return
        status.missing = sum(state != "done" for state in inputs)
        if status.missing == 0 and status.state == "waiting":
            status.request = self._request(self._jobs[key])
            status.seconds = self._estimates.seconds(self._jobs[key])
            self._set(key, "ready")
            entry = (-self._urgency[key], self._place[key], key)
            heapq.heappush(self._ready.setdefault(status.request, []), entry)
        elif status.missing and status.state == "ready":
            self._set(key, "waiting")

    def _set(self, key: str, state: State) -> None:
        """Change a job's state; the only place that does, so that the counts stay right."""
        status = self._status[key]
        change = (state == "ready") - (status.state == "ready")
        self._ready_seconds[status.request] += change * status.seconds
        self._ready_counts[status.request] += change
        self._open += (status.state in _CLOSED) - (state in _CLOSED)
        counts = self._counts[self._jobs[key].stage]
        counts[status.state] -= 1
        counts[state] += 1
        if state == "running":
            self._handed_out[key] = None
        else:
            self._handed_out.pop(key, None)
        status.state = state

    def ready(self) -> dict[Request, Ready]:
        """The jobs that could start now, by what they ask for."""
        with self._lock:
            found = {}
            for request, heap in self._ready.items():
                while heap and not self._is_ready(heap[0][2], request):
                    heapq.heappop(heap)
                if heap:
                    seconds = max(self._ready_seconds[request], 0.0)
                    found[request] = Ready(
                        seconds=seconds,
                        priority=-heap[0][0],
                        count=self._ready_counts[request],
                    )
            return found

    def _is_ready(self, key: str, request: Request) -> bool:
        # A job that had to wait again may be in several heaps, and in one twice.
        status = self._status[key]
        return status.state == "ready" and status.request == request

    def next(self, request: Request | None = None, known: Collection[str] = ()) -> Job | None:
        """The job to start now, marked as running; None if none is ready.

        Args:
            request: Only jobs that ask for this; None for any.
            known: Keys of jobs whose results the worker has loaded; among equally urgent jobs
                the one with most of them among its inputs goes first.
        """
        with self._lock:
            ready = self.ready()
            if request is None:
                if not ready:
                    return None
                request = max(ready, key=lambda shape: ready[shape].priority)
            if request not in ready:
                return None
            key = self._take(request, set(known))
            self._set(key, "running")
            self._status[key].started, self._status[key].worker = self._clock(), ""
            return self._jobs[key]

    def _take(self, request: Request, known: Collection[str]) -> str:
        heap = self._ready[request]
        first = heapq.heappop(heap)
        candidates = [first]
        while known and heap and len(candidates) < _LOOKED_AT:
            if heap[0][0] > first[0] * _NEAR_PRIORITY:
                break
            candidate = heapq.heappop(heap)
            if self._is_ready(candidate[2], request):
                candidates.append(candidate)
        # max keeps the first of equals, which is the most urgent.
        chosen = max(
            candidates,
            key=lambda entry: sum(k in known for k in self._jobs[entry[2]].needs),
        )
        for candidate in candidates:
            if candidate is not chosen:
                heapq.heappush(heap, candidate)
        return chosen[2]

    def begin(self, key: str) -> None:
        """The running job has its worker; until then it was only handed out."""
        with self._lock:
            self._status[key].started = self._clock()

    def name_worker(self, key: str, worker: str) -> None:
        """Say who is at a running job, for people to see."""
        with self._lock:
            self._status[key].worker = worker

    def adopt(self, key: str, worker: str, spent: float) -> None:
        """Somebody works on the job, and has for so many seconds; for those who only look on."""
        with self._lock:
            self._set(key, "running")
            self._status[key].started = self._clock() - spent
            self._status[key].worker = worker

    def succeed(self, key: str, seconds: float | None = None, worker: str = "") -> None:
        """The job's result has been published.

        Args:
            key: Of the job.
            seconds: That it took, as its worker measured; None if somebody else ran it.
            worker: Who ran it.
        """
        with self._lock:
            status = self._status[key]
            if status.state == "done":
                return
            self._set(key, "done")
            if seconds is not None:
                status.took = seconds
                self._estimates.learn(self._jobs[key], seconds)
                self._learn_overhead(worker, status, seconds)
            for needing in self._needing[key]:
                self._refresh(needing)

    def _learn_overhead(self, worker: str, status: _Status, seconds: float) -> None:
        """What a worker's job took beside its own seconds; the first one's start is no measure."""
        now, free = self._clock(), self._free_since.get(worker)
        if worker and free is not None:
            self._overheads.add(max(0.0, now - max(free, status.started) - seconds))
        self._free_since[worker] = now

    def hold(self, key: str) -> None:
        """Somebody else has the running job's lease: it is neither started nor failed here."""
        with self._lock:
            self._set(key, "blocked" if self._stopped else "held")

    def release(self, key: str) -> None:
        """Nobody has the job's lease any more, and it is not done."""
        with self._lock:
            if self._status[key].state == "held":
                self._set(key, "waiting")
                self._refresh(key)

    def fail(self, key: str, failure: Failure) -> bool:
        """The running job did not finish; whether it will be tried again.

        Bad input or a full disk ends the whole sweep: it is for the user to mend, and every
        further minute of computing would be spent on something else than was asked for.
        """
        with self._lock:
            status = self._status[key]
            # A job may meet as many damaged inputs as it has: what counts is how often the same.
            met = (failure.kind, failure.damaged)
            status.failures[met] += 1
            status.failure = failure
            again = status.failures[met] < ATTEMPTS[failure.kind]
            if failure.damaged and again:
                self.damage.append(failure.message)
                self._recompute(failure.damaged)
            if again:
                self._set(key, "waiting")
                self._refresh(key)
            else:
                self._set(key, "failed")
                self._block(key)
            if failure.kind in STOPPING:
                self.stop()
            return status.state in ("waiting", "ready")

    def _recompute(self, key: str) -> None:
        if self._status[key].state == "done":
            self._set(key, "waiting")
            self._refresh(key)
            for needing in self._needing[key]:
                self._refresh(needing)

    def stop(self) -> None:
        """Start nothing any more; what has not started counts as blocked."""
        with self._lock:
            self._stopped = True
            for key, status in self._status.items():
                if status.state in ("waiting", "ready", "held"):
                    self._set(key, "blocked")

    def _block(self, key: str) -> None:
        for needing in self._needing[key]:
            if self._status[needing].state in ("waiting", "ready"):
                self._set(needing, "blocked")
                self._block(needing)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to start or to wait for."""
        with self._lock:
            return self._open == 0

    @property
    def num_open(self) -> int:
        """Jobs that are neither done nor given up."""
        with self._lock:
            return self._open

    @property
    def num_wanted(self) -> int:
        """Jobs that run or could start now."""
        with self._lock:
            return len(self._handed_out) + self._ready_counts.total()

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

    def snapshot(self) -> Snapshot:
        """Counts, what runs, and how long the rest is likely to take."""
        with self._lock:
            now = self._clock()
            if now >= self._left[0]:
                began = time.perf_counter()
                left = self._estimate_left(now)
                cost = time.perf_counter() - began
                self._left = (now + _LOOK_EVERY * cost, left)
                self._shown_share = self._share(left)
            counts = {
                stage: Counter({state: n for state, n in count.items() if n})
                for stage, count in self._counts.items()
                if count.total()
            }
            # Jobs that are handed out ahead of time wait for a worker like the ready ones.
            for key in list(self._handed_out)[self._workers :]:
                counts[self._jobs[key].stage].subtract({"running": 1, "ready": -1})
            left = self._left[1] if self._open else Left()
            running = [self._running(key, now) for key in self._at_work()]
            return Snapshot(
                stages=counts,
                elapsed=now - self._start,
                left=left,
                share=self._shown_share if self._open else 1.0,
                running=tuple(sorted(running, key=lambda one: -one.spent)),
            )

    def _at_work(self) -> list[str]:
        return list(self._handed_out)[: self._workers]

    def _running(self, key: str, now: float) -> Running:
        job = self._jobs[key]
        return Running(
            label=job.label,
            spent=now - self._status[key].started,
            expected=self._estimates.seconds(job),
            is_guess=self._estimates.is_guess(job),
            worker=self._status[key].worker,
        )

    def _share(self, left: Left) -> float:
        done = [key for key, status in self._status.items() if status.state in _CLOSED]
        took = (self._status[key].took for key in done)
        spent = sum(
            self._estimates.seconds(self._jobs[key]) if seconds is None else seconds
            for key, seconds in zip(done, took, strict=True)
        )
        return spent / (spent + left.work) if spent + left.work else 1.0

    def _estimate_left(self, now: float) -> Left:
        at_work = {key: now - self._status[key].started for key in self._at_work()}
        held = self.keys("held")
        return time_left(
            {k: self._jobs[k] for k, one in self._status.items() if one.state not in _CLOSED},
            self._estimates,
            workers=self._workers + len(held),
            running={**dict.fromkeys(held, 0.0), **at_work},
            overhead=self._overheads.value,
        )
