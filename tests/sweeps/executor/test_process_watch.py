"""Who is ended for being silent; trials, processes and the clock are played."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from sweeps.executor.process_watch import LOOK_SECONDS, ProcessWatch

LIMIT = 30.0


@dataclass
class World:
    """The searcher, and what the watch did."""

    now: float = 0.0
    leased: set[str] = field(default_factory=set)
    silent: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    starting: dict[str, tuple[int, str]] = field(default_factory=dict)
    ended: list[tuple[int, str]] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    trials: list[Any] = field(default_factory=list)

    def is_leased(self, trial_id: str) -> bool:
        return trial_id in self.leased

    def on_start(self, trial_id: str) -> None:
        self.begun.append(trial_id)

    def on_silence(self, trial_id: str, seconds: float) -> None:
        assert seconds == LIMIT
        self.silent.append(trial_id)

    def trial(self, name: str, actor: str | None) -> Any:
        trial = SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=actor))
        self.trials.append(trial)
        return trial


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(ray, "kill", world.killed.append)
    return world


def watch(world: World) -> ProcessWatch:
    searcher: Any = world
    return ProcessWatch(
        searcher,
        limit=LIMIT,
        end_process=lambda pid, node: world.ended.append((pid, node)),
        starting=lambda: world.starting,
        clock=lambda: world.now,
    )


def wait(world: World, watching: ProcessWatch, seconds: float) -> None:
    end = world.now + seconds
    while world.now < end:
        world.now += LOOK_SECONDS
        watching.on_step_begin(0, world.trials)


def test_a_process_that_reports_nothing_is_killed_once(world: World) -> None:
    watching = watch(world)
    world.trial("t1", "actor")
    wait(world, watching, LIMIT)
    assert not world.killed
    wait(world, watching, 10)
    assert (world.killed, world.silent) == (["actor"], ["t1"])


def test_the_searcher_hears_that_a_trial_has_its_process(world: World) -> None:
    trial = world.trial("t1", "actor")
    watch(world).on_trial_start(0, world.trials, trial)
    assert world.begun == ["t1"]


def test_a_trial_that_waits_for_a_process_is_left_alone(world: World) -> None:
    watching = watch(world)
    world.trial("t1", None)
    wait(world, watching, 10 * LIMIT)
    assert not world.killed


def test_reports_and_leases_are_signs_of_life(world: World) -> None:
    watching = watch(world)
    idle, working = world.trial("idle", "a"), world.trial("working", "b")
    world.leased.add("working")
    for _ in range(5):
        wait(world, watching, LIMIT - 5)
        watching.on_trial_result(0, world.trials, idle, {})
    assert not world.killed
    world.leased.clear()
    wait(world, watching, LIMIT + 2)
    assert set(world.silent) == {idle.trial_id, working.trial_id}


def test_silence_begins_anew_with_every_trial_of_a_process(world: World) -> None:
    watching = watch(world)
    first = world.trial("first", "actor")
    wait(world, watching, LIMIT - 5)
    first.temporary_state.ray_actor = None
    world.trial("second", "actor")
    wait(world, watching, LIMIT - 5)
    assert not world.killed


def test_a_process_that_does_not_start_is_ended_on_its_machine(world: World) -> None:
    watching = watch(world)
    world.starting = {"quick": (1, "here"), "slow": (2, "there")}
    wait(world, watching, LIMIT)
    world.starting = {"slow": (2, "there")}
    wait(world, watching, 10)
    assert world.ended == [(2, "there")]
    assert not world.silent
