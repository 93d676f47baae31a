"""What a sweep will take on machines that come on demand and may be taken back: a simulation.

Pure, event by event. Jobs start in the engine's order, the longest remaining chain first. A
machine is asked for when a ready job finds no free place, comes after its start, and leaves when
it was empty for a while. Interruptions of a machine are a Poisson process. Its jobs start again;
a training from its last whole epoch.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from oneshui.seeding import python_random
from sweeps.graph.job import TRAINING, Job
from sweeps.schedule.forecast import ReadyJobs

Event = tuple[float, int, Callable[[], None]]


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The machines of a simulation.

    Attributes:
        most: At the same time.
        places: Jobs at the same time on each.
        start_seconds: From the demand to the first job.
        idle_seconds: An empty machine leaves after so long.
        interruptions_per_hour: Mean rate at which each machine is taken back.
        always_on: Whether they are there from the beginning to the end, as in a lab.
    """

    most: int
    places: int = 1
    start_seconds: float = 240.0
    idle_seconds: float = 300.0
    interruptions_per_hour: float = 0.0
    always_on: bool = False


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What a simulation found.

    Attributes:
        seconds: From the first demand to the last end.
        machine_seconds: Paid for, starts included.
        busy: Share of the paid places and time in which work was done that was kept.
        interruptions: Machines taken back.
        lost_seconds: Work of jobs that had to be done again.
    """

    seconds: float
    machine_seconds: float
    busy: float
    interruptions: int
    lost_seconds: float


@dataclass(eq=False)
class _Machine:
    since: float
    jobs: dict[str, float] = field(default_factory=dict)
    is_up: bool = False
    emptied: float = 0.0


def simulate(
    jobs: Mapping[str, Job],
    seconds: Mapping[str, float],
    machines: Machines,
    seed: int = 0,
) -> Simulated:
    """Play a sweep; the same seed gives the same numbers.

    Args:
        jobs: The jobs that are to run; inputs outside of them count as done.
        seconds: Of every job, by key.
        machines: Where they run.
        seed: Of the interruptions.
    """
    return _Play(jobs, seconds, machines, seed).run()


class _Play:
    def __init__(
        self, jobs: Mapping[str, Job], seconds: Mapping[str, float], machines: Machines, seed: int
    ) -> None:
        self._jobs, self._seconds, self._of = jobs, seconds, machines
        self._random = python_random(seed)
        self._ready = ReadyJobs(jobs, seconds)
        self._left = dict(seconds)
        self._machines: list[_Machine] = []
        self._events: list[Event] = []
        self._count = 0
        self._now = 0.0
        self._last_end = 0.0
        self._open = len(jobs)
        self._paid = 0.0
        self._lost = 0.0
        self._interruptions = 0

    def _at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what))

    def run(self) -> Simulated:
        if self._of.always_on:
            for _ in range(self._of.most):
                self._ask(0.0)
        else:
            self._ask_for_ready()
        while self._events and self._open:
            self._now = self._events[0][0]
            # All that happens at one moment is known before anything is started.
            while self._events and self._events[0][0] == self._now:
                heapq.heappop(self._events)[2]()
            self._fill()
        for machine in self._machines:
            self._paid += self._last_end - machine.since
        work = sum(self._seconds[key] for key in self._jobs)
        return Simulated(
            seconds=self._last_end,
            machine_seconds=self._paid,
            busy=work / (self._paid * self._of.places) if self._paid else 0.0,
            interruptions=self._interruptions,
            lost_seconds=self._lost,
        )

    def _ask(self, start_seconds: float) -> None:
        machine = _Machine(since=self._now)
        self._machines.append(machine)
        self._at(self._now + start_seconds, lambda: self._come(machine))

    def _ask_for_ready(self) -> None:
        coming = sum(not machine.is_up for machine in self._machines) * self._of.places
        while len(self._ready) > coming and len(self._machines) < self._of.most:
            self._ask(self._of.start_seconds)
            coming += self._of.places

    def _come(self, machine: _Machine) -> None:
        machine.is_up, machine.emptied = True, self._now
        self._watch(machine)
        rate = self._of.interruptions_per_hour / 3600
        if rate:
            self._at(self._now + self._random.expovariate(rate), lambda: self._interrupt(machine))

    def _fill(self) -> None:
        for machine in self._machines:
            while machine.is_up and self._ready and len(machine.jobs) < self._of.places:
                key = self._ready.pop()
                machine.jobs[key] = self._now
                began = self._now
                end = functools.partial(self._end, machine, key, began)
                self._at(began + self._left[key], end)
        self._ask_for_ready()

    def _end(self, machine: _Machine, key: str, began: float) -> None:
        if machine.jobs.get(key) != began:
            # It was interrupted.
            return
        del machine.jobs[key]
        self._open -= 1
        self._last_end = self._now
        self._ready.finish(key)
        if not machine.jobs:
            machine.emptied = self._now
            self._watch(machine)

    def _watch(self, machine: _Machine) -> None:
        if self._of.always_on:
            return
        emptied = machine.emptied

        def leave() -> None:
            if not machine.jobs and machine.emptied == emptied and machine.is_up:
                self._remove(machine)

        self._at(emptied + self._of.idle_seconds, leave)

    def _remove(self, machine: _Machine) -> None:
        machine.is_up = False
        self._machines.remove(machine)
        self._paid += self._now - machine.since

    def _interrupt(self, machine: _Machine) -> None:
        if not machine.is_up:
            return
        self._interruptions += 1
        self._remove(machine)
        for key, began in machine.jobs.items():
            done = self._now - began
            kept = _kept(self._jobs[key], self._seconds[key], done)
            self._left[key] -= kept
            self._lost += done - kept
            self._ready.push(key)
        machine.jobs.clear()
        if self._of.always_on:
            self._ask(self._of.start_seconds)


def _kept(job: Job, seconds: float, done: float) -> float:
    """Seconds of a job's work that are not lost when its machine goes."""
    if job.stage not in TRAINING:
        return 0.0
    epoch = seconds / max(1, int(job.spec.get("training", {}).get("epochs", 1)))
    return done // epoch * epoch if epoch else 0.0
