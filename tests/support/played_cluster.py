"""Requests, machines, and a cluster whose processes come up when an idle trial starts one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from sweeps.schedule.room import Node, Request, fits
from sweeps.schedule.slots import Placement, Ready, Slots

SMALL = Request(cpus=1)
HALF = Request(cpus=1, gpus=0.5)
LARGE = Request(cpus=2)

requests = st.builds(
    Request,
    cpus=st.sampled_from([1, 2, 3]),
    gpus=st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]),
    memory_gb=st.sampled_from([0.0, 4.0]),
)
nodes = st.lists(
    st.builds(
        Node,
        cpus=st.integers(1, 6),
        gpus=st.sampled_from([0.0, 1.0, 2.0]),
        memory_gb=st.sampled_from([0.0, 8.0]),
    ),
    min_size=1,
    max_size=3,
)


def ready(seconds: float = 100.0, priority: float = 1.0) -> Ready:
    return Ready(seconds=seconds, priority=priority)


@dataclass
class Trial:
    placement: Placement
    process: str = ""
    waits_for: str = ""


@dataclass
class Cluster:
    """Plays Tune: gives processes to trials, tells slots what happens, checks what it is told."""

    slots: Slots
    waiting: Counter[Request]
    seconds: float = 100.0
    trials: dict[str, Trial] = field(default_factory=dict)
    started: Counter[Request] = field(default_factory=Counter)
    heirs: int = 0
    done: int = 0
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def most(self) -> int:
        running = sum(not trial.placement.idle for trial in self.trials.values())
        return self.waiting.total() + running

    def ready(self) -> dict[Request, Ready]:
        return {
            shape: ready(self.seconds * count, float(count))
            for shape, count in self.waiting.items()
            if count
        }

    def step(self) -> Placement | None:
        """Ask for one placement and start it."""
        placement = self.slots.place(self.ready(), self.most)
        if placement is None:
            return None
        name = f"t{next(self.numbers)}"
        if not placement.idle:
            assert self.waiting[placement.request] > 0
            self.waiting[placement.request] -= 1
        trial = Trial(placement, placement.process)
        if placement.is_heir:
            self.heirs += 1
            assert not placement.displaced
        elif placement.displaced and not placement.idle:
            (trial.waits_for,) = placement.displaced
            assert self.trials[trial.waits_for].placement.request == placement.request
        elif not placement.process:
            assert placement.idle, "a job was handed out for no process"
        self.slots.start(name, placement)
        self.trials[name] = trial
        self.check()
        return placement

    def settle(self) -> list[Placement]:
        """Start all that is placed now."""
        placed = []
        while (placement := self.step()) is not None:
            placed.append(placement)
            assert len(placed) < 200, "it never has enough"
        return placed

    def check(self) -> None:
        """Active trials have room at the same time and stay within the limit."""
        active = list(self.slots.occupied.elements())
        assert fits(self.slots.nodes, active)
        assert self.slots.num_active() == len(active)
        assert not self.slots.limit or len(active) <= self.slots.limit

    def is_displaced(self, name: str) -> bool:
        return any(name in trial.placement.displaced for trial in self.trials.values())

    def cold(self) -> list[str]:
        return [
            name
            for name, trial in self.trials.items()
            if trial.placement.idle and not trial.process and not trial.placement.is_heir
        ]

    def idle(self) -> list[str]:
        return [n for n, trial in self.trials.items() if trial.placement.idle and trial.process]

    def running(self) -> list[str]:
        return [
            name
            for name, trial in self.trials.items()
            if not trial.placement.idle and trial.process and not trial.waits_for
        ]

    def come_up(self, name: str) -> None:
        """The process of a cold idle trial reports for the first time."""
        trial = self.trials[name]
        self.started[trial.placement.request] += 1
        trial.process = f"p{self.started.total()}"
        self.look(name)

    def look(self, name: str) -> None:
        """An idle trial reports, and ends if it is told to."""
        trial = self.trials[name]
        if self.slots.warm(name, trial.process):
            self.end(name, trial.process)
        self.check()

    def end(self, name: str, process: str) -> None:
        """A trial ends and leaves its process to whoever waits for one of its shape."""
        trial = self.trials.pop(name)
        self.done += not trial.placement.idle
        self.slots.end(name, process)
        for other in self.trials.values():
            if other.waits_for == name:
                other.waits_for, other.process = "", process
                return
        for other in self.trials.values():
            mine = other.placement.request == trial.placement.request
            if other.placement.is_heir and not other.process and mine:
                other.process = process
                return

    def finish(self, name: str) -> None:
        """A job ends well."""
        self.end(name, self.trials[name].process)
        self.check()


def cluster(
    machines: Sequence[Node], jobs: dict[Request, int], *, limit: int = 0, seconds: float = 100.0
) -> Cluster:
    return Cluster(Slots(SMALL, machines, limit), Counter(jobs), seconds=seconds)


def warmed(machines: Sequence[Node], jobs: dict[Request, int], *, limit: int = 0) -> Cluster:
    """A cluster whose default slots have all come up."""
    found = cluster(machines, jobs, limit=limit)
    found.settle()
    while found.cold():
        found.come_up(found.cold()[0])
        found.settle()
    return found
