"""Slots where machines come when something waits for them; Tune and the autoscaler are played."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.schedule.room import Node, Request, fits, room_for
from sweeps.schedule.slots import Placement, Ready, Slots

SMALL = Request(cpus=1)
GPU = Request(cpus=1, gpus=0.5)
MACHINE = Node(cpus=4, gpus=1)


@dataclass
class Trial:
    name: str
    placement: Placement
    process: str = ""
    machine: int = -1


@dataclass
class Cluster:
    """Processes go to who waits longest for their shape, and end when nobody does, as in Tune.

    Machines come for waiting trials, up to a number, and leave when they are empty.
    """

    slots: Slots
    waiting: Counter[Request]
    seconds: float = 100.0
    machines: dict[int, Node] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)
    done: int = 0
    processes: int = 0
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def settle(self) -> list[Placement]:
        """Start all that is placed now."""
        placed: list[Placement] = []
        while True:
            ready = {
                shape: Ready(seconds=self.seconds * count, priority=1.0, count=count)
                for shape, count in self.waiting.items()
                if count
            }
            placement = self.slots.place(ready, self.waiting.total())
            if placement is None:
                return placed
            placed.append(placement)
            assert len(placed) < 500, "it never has enough"
            if not placement.idle:
                self.waiting[placement.request] -= 1
                assert self.waiting[placement.request] >= 0
            name = f"t{next(self.numbers)}"
            self.slots.start(name, placement)
            self.trials[name] = Trial(name, placement)
            # What is displaced ends at its next report, and its process is used again.
            for displaced in placement.displaced:
                self.look(displaced)
            self._give_free()

    free: list[tuple[Request, str, int]] = field(default_factory=list)

    def _give_free(self) -> None:
        for item in list(self.free):
            shape, process, machine = item
            taker = next(
                (
                    trial
                    for trial in self.trials.values()
                    if not trial.process and trial.placement.request == shape
                ),
                None,
            )
            if taker is not None:
                self.free.remove(item)
                self._begin(taker, process, machine)

    def _begin(self, trial: Trial, process: str, machine: int) -> None:
        trial.process, trial.machine = process, machine
        self.slots.begin(trial.name)
        if trial.placement.idle:
            self.slots.warm(trial.name, process)

    def scale(self, most: int) -> None:
        """Machines come as long as waiting trials do not fit, and waiting trials start on them."""
        for trial in list(self.trials.values()):
            if trial.process:
                continue
            place = next((n for n in self.machines if self._fits(n, trial)), None)
            if place is None and len(self.machines) < most:
                place = next(self.numbers)
                self.machines[place] = MACHINE
            if place is not None and self._fits(place, trial):
                self.processes += 1
                self._begin(trial, f"p{self.processes}", place)

    def _fits(self, number: int, trial: Trial) -> bool:
        there = [t.placement.request for t in self.trials.values() if t.machine == number]
        return fits([self.machines[number]], [*there, trial.placement.request])

    def leave(self) -> None:
        """Empty machines go."""
        for number in list(self.machines):
            if not any(trial.machine == number for trial in self.trials.values()):
                del self.machines[number]

    def end(self, name: str) -> None:
        trial = self.trials.pop(name)
        self.done += not trial.placement.idle
        self.slots.end(name, trial.process)
        self.free.append((trial.placement.request, trial.process, trial.machine))
        self._give_free()
        self.settle()
        self._give_free()
        # Nobody of its shape waits: Tune ends the process.
        self.free.clear()

    def look(self, name: str) -> None:
        trial = self.trials[name]
        if trial.process and self.slots.warm(name, trial.process):
            self.end(name)

    def running(self) -> list[str]:
        return [t.name for t in self.trials.values() if t.process and not t.placement.idle]

    def idle(self) -> list[str]:
        return [t.name for t in self.trials.values() if t.process and t.placement.idle]

    def demand(self) -> int:
        return sum(not trial.process for trial in self.trials.values())


def cluster(
    jobs: dict[Request, int], most: int, *, limit: int = 0, seconds: float = 100.0
) -> Cluster:
    slots = Slots(GPU, [MACHINE] * most, limit, elastic=True)
    return Cluster(slots, Counter(jobs), seconds=seconds)


def test_all_ready_jobs_ask_for_their_room_at_once_up_to_the_maximum() -> None:
    found = cluster({GPU: 5}, most=8)
    placed = found.settle()
    assert [p.idle for p in placed] == [False] * 5
    assert found.demand() == 5
    wide = cluster({GPU: 100}, most=8)
    assert len(wide.settle()) == 16 == room_for([MACHINE] * 8, GPU)
    assert len(cluster({GPU: 100}, most=8, limit=3).settle()) == 3
    assert cluster({}, most=8).settle() == []


def test_who_waits_for_a_machine_takes_a_process_that_becomes_free() -> None:
    found = cluster({GPU: 4}, most=2)
    found.settle()
    found.scale(most=1)
    assert (len(found.running()), found.demand()) == (2, 2)
    found.end(found.running()[0])
    assert (len(found.running()), found.demand()) == (2, 1)
    found.end(found.running()[0])
    assert (len(found.running()), found.demand()) == (2, 0)
    assert found.processes == 2


def test_no_idle_trial_asks_for_a_machine() -> None:
    found = cluster({GPU: 3, SMALL: 1}, most=4)
    found.settle()
    found.scale(most=4)
    while found.running():
        found.end(found.running()[0])
        for name in found.idle():
            found.look(name)
        assert found.demand() == 0
    assert found.done == 4


def test_an_idle_process_is_used_before_a_machine_is_asked_for() -> None:
    found = cluster({GPU: 1}, most=4)
    found.settle()
    found.scale(most=4)
    found.end(found.running()[0])
    assert len(found.idle()) == 1
    found.waiting[GPU] += 1
    found.settle()
    assert (len(found.running()), found.demand(), found.processes) == (1, 0, 1)


def test_what_is_released_ends_and_nothing_takes_its_place() -> None:
    found = cluster({GPU: 2}, most=4)
    found.settle()
    found.scale(most=4)
    for name in found.running():
        found.end(name)
    for name in found.idle():
        found.slots.release(name)
        found.look(name)
    assert not found.trials
    assert found.settle() == []
    found.leave()
    assert not found.machines


@given(
    st.dictionaries(st.sampled_from([GPU, SMALL, Request(cpus=2)]), st.integers(1, 25), min_size=1),
    st.integers(1, 4),
    st.sampled_from([0.01, 100.0]),
    st.data(),
)
@settings(deadline=None, max_examples=150)
def test_every_job_runs_whatever_comes_and_goes(
    jobs: dict[Request, int], most: int, seconds: float, data: st.DataObject
) -> None:
    found = cluster(jobs, most, seconds=seconds)
    total = sum(jobs.values())
    found.settle()
    for _ in range(60 * total):
        if found.done == total:
            break
        found.scale(most=data.draw(st.integers(1, most)) if most > 1 else 1)
        active = list(found.slots.occupied.elements())
        assert fits(found.slots.nodes, active)
        if found.running():
            found.end(data.draw(st.sampled_from(found.running())))
        for name in found.idle():
            if data.draw(st.booleans()):
                found.slots.release(name)
            if name in found.trials:
                found.look(name)
        found.leave()
        found.settle()
    assert found.done == total
    for name in found.idle():
        found.slots.release(name)
        found.look(name)
    assert not found.trials
