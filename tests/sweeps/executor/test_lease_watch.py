from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from contracts.store_contract import publish

from sweeps.executor.lease_watch import LeaseWatch
from sweeps.graph.job import Job
from sweeps.schedule.failure import Failure
from sweeps.schedule.scheduler import Scheduler
from sweeps.store import LocalStore
from sweeps.store.lease_places import LeaseFolder
from sweeps.store.leases import Holder, Lease, name_of, this_host

SILENCE, LONGEST = 60.0, 7200.0
FIRST = Job(stage="split", spec={"num_forget": 5}, inputs={}, label="first")
SECOND = Job(stage="pretrain", spec={}, inputs={"split": FIRST.key}, label="second")


@dataclass
class World:
    """A store, the state of a graph of two jobs, and a clock that stands still."""

    store: LocalStore
    now: float = 0.0
    killed: list[Holder] = field(default_factory=list)
    scheduler: Scheduler = field(init=False)
    watch: LeaseWatch = field(init=False)

    def __post_init__(self) -> None:
        jobs = {job.key: job for job in (FIRST, SECOND)}
        self.scheduler = Scheduler(jobs)
        self.watch = LeaseWatch(
            self.scheduler,
            self.store,
            jobs,
            silence_seconds=SILENCE,
            job_seconds=LONGEST,
            kill=self.killed.append,
            clock=lambda: self.now,
        )

    def start(self) -> None:
        job = self.scheduler.next()
        assert job == FIRST

    def hold(self) -> None:
        self.start()
        self.scheduler.hold(FIRST.key)

    def poll(self, *, after: float = 0.0) -> None:
        self.now += after
        self.watch.poll()

    def state(self) -> str:
        (found,) = [
            state
            for state in ("waiting", "ready", "running", "held", "done", "failed", "blocked")
            if FIRST.key in self.scheduler.keys(state)
        ]
        return found

    def foreign_lease(self, generation: int = 1, **changes: Any) -> Path:
        path = self.store.root / ".leases" / f"{name_of('split', FIRST.key)}.{generation}"
        document = {"host": "elsewhere", "pid": 7, "started": "1", "node": "n", **changes}
        path.write_text(json.dumps(document))
        return path

    def beat(self, lease: Lease, moment: float) -> None:
        path = self.store.root / ".leases" / f"{lease.name}.{lease.generation}"
        os.utime(path, (moment, moment))

    def own_lease(self, stale: int = 0) -> Lease:
        lease = self.store.leases.acquire(FIRST, stale=stale)
        assert lease is not None
        return lease


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(LocalStore(tmp_path / "store"))


def test_a_held_job_waits_for_a_holder_that_beats(world: World) -> None:
    world.hold()
    path = world.foreign_lease()
    for beat in range(10):
        os.utime(path, (beat, beat))
        world.poll(after=SILENCE)
        assert world.state() == "held"
    assert world.watch.stale_lease(FIRST.key) == 0
    assert not world.killed


def test_a_held_job_comes_back_when_its_holder_has_gone_without_a_result(world: World) -> None:
    world.hold()
    path = world.foreign_lease()
    world.poll()
    path.unlink()
    world.poll()
    assert world.state() == "ready"
    assert world.watch.stale_lease(FIRST.key) == 0


def test_leases_of_other_sweeps_in_the_store_are_not_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.hold()
    world.foreign_lease()
    other = world.store.leases.acquire(
        Job(stage="split", spec={"num_forget": 9}, inputs={}, label="other")
    )
    assert other is not None
    read: list[str] = []
    real = LeaseFolder.read

    def noted(self: LeaseFolder, name: str, generation: int, beat: Any = None) -> Any:
        read.append(name)
        return real(self, name, generation, beat)

    monkeypatch.setattr(LeaseFolder, "read", noted)
    world.poll()
    assert read == [name_of("split", FIRST.key)]


def test_a_held_job_comes_back_when_its_holder_was_killed(world: World) -> None:
    world.hold()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    world.foreign_lease(host=this_host(), pid=process.pid, started=ticks)
    world.poll()
    assert world.state() == "held"
    process.kill()
    process.wait()
    world.poll()
    assert world.state() == "ready"
    world.own_lease(world.watch.stale_lease(FIRST.key))


def test_a_held_job_whose_holder_is_silent_comes_back_with_the_generation(world: World) -> None:
    world.hold()
    world.foreign_lease(generation=4)
    world.poll()
    world.poll(after=SILENCE)
    assert world.state() == "held"
    world.poll(after=1.0)
    assert world.state() == "ready"
    stale = world.watch.stale_lease(FIRST.key)
    assert stale == 4
    assert world.watch.stale_lease(FIRST.key) == 0
    assert world.own_lease(stale).generation == 5
    assert not world.killed


def test_a_holder_that_nobody_wrote_into_is_given_up_in_the_end(world: World) -> None:
    world.hold()
    (world.store.root / ".leases" / f"{name_of('split', FIRST.key)}.1").touch()
    world.poll()
    assert world.state() == "held"
    world.poll(after=SILENCE + 1)
    assert world.state() == "ready"
    world.own_lease(world.watch.stale_lease(FIRST.key))


def test_a_held_job_is_done_when_its_result_appears(world: World) -> None:
    world.hold()
    world.foreign_lease()
    world.poll()
    publish(world.store, FIRST)
    world.poll()
    assert world.state() == "done"
    assert world.scheduler.next() == SECOND


def test_a_damaged_result_does_not_count(world: World) -> None:
    world.hold()
    world.foreign_lease()
    entry = publish(world.store, FIRST)
    (entry.folder / "result.json").write_text("{")
    world.poll()
    assert world.state() == "held"


def test_a_running_job_that_beats_is_left_alone(world: World) -> None:
    world.start()
    lease = world.own_lease()
    for beat in range(20):
        world.beat(lease, beat)
        world.poll(after=SILENCE)
    assert world.state() == "running"
    assert not world.killed
    assert world.watch.why_hung(FIRST.key) == ""


def test_a_running_job_that_is_silent_is_ended_once(world: World) -> None:
    world.start()
    world.foreign_lease(generation=2, pid=4711)
    world.poll()
    world.poll(after=SILENCE)
    assert not world.killed
    for _ in range(3):
        world.poll(after=1.0)
    (holder,) = world.killed
    assert (holder.pid, holder.generation, holder.host) == (4711, 2, "elsewhere")
    # Whether its process has ended is for whoever started it to say.
    assert world.state() == "running"
    why = world.watch.why_hung(FIRST.key)
    assert why == "its worker (process 4711) gave no sign of life for 60 s and was ended"
    assert world.watch.why_hung(FIRST.key) == ""
    assert world.watch.stale_lease(FIRST.key) == 2


def test_a_running_job_that_takes_for_ever_is_ended_though_it_beats(world: World) -> None:
    world.start()
    path = world.foreign_lease()
    for beat in range(int(LONGEST / 50) + 1):
        os.utime(path, (beat, beat))
        world.poll(after=50.0 if beat else 0.0)
    assert not world.killed
    os.utime(path, (9999, 9999))
    world.poll(after=1.0)
    assert len(world.killed) == 1
    why = world.watch.why_hung(FIRST.key)
    assert why == "its worker (process 7) ran for more than cluster.max_job_hours=2 and was ended"


def test_the_second_attempt_is_not_blamed_for_the_lease_of_the_first(world: World) -> None:
    world.start()
    world.foreign_lease()
    world.poll()
    world.poll(after=SILENCE + 1)
    assert len(world.killed) == 1
    message = world.watch.why_hung(FIRST.key)
    assert world.scheduler.fail(FIRST.key, Failure(kind="hung", message=message))
    world.start()
    stale = world.watch.stale_lease(FIRST.key)
    # The new worker has not come to take the lease over yet.
    world.poll(after=1.0)
    assert len(world.killed) == 1
    lease = world.own_lease(stale)
    world.poll(after=1.0)
    assert world.watch.why_hung(FIRST.key) == ""
    # And it is watched like the first.
    world.poll(after=SILENCE + 1)
    assert [holder.generation for holder in world.killed] == [1, lease.generation]


def test_a_job_taken_over_is_not_blamed_for_its_former_holder(world: World) -> None:
    world.hold()
    world.foreign_lease()
    world.poll()
    world.poll(after=SILENCE + 1)
    world.start()
    stale = world.watch.stale_lease(FIRST.key)
    world.poll(after=1.0)
    assert not world.killed
    world.own_lease(stale)
    world.poll(after=1.0)
    world.poll(after=SILENCE + 1)
    assert [holder.generation for holder in world.killed] == [2]


def test_every_attempt_has_its_own_time(world: World) -> None:
    world.start()
    lease = world.own_lease()
    world.poll()

    def beat(seconds: float) -> None:
        world.beat(lease, world.now)
        world.poll(after=seconds)

    for _ in range(100):
        beat(LONGEST / 100)
    world.store.leases.release(FIRST, lease)
    # Between two looks it fails and starts again.
    world.scheduler.fail(FIRST.key, Failure(kind="error", message="no"))
    world.start()
    world.watch.stale_lease(FIRST.key)
    lease = world.own_lease()
    for _ in range(3):
        beat(LONGEST / 4)
    assert not world.killed


def test_nothing_is_ended_before_its_lease_exists(world: World) -> None:
    world.start()
    world.poll()
    world.poll(after=10 * LONGEST)
    assert not world.killed


def test_a_job_has_begun_when_its_worker_holds_the_lease(world: World) -> None:
    world.start()
    world.poll()
    assert not world.watch.is_leased(FIRST.key)
    world.foreign_lease(generation=3)
    world.poll()
    assert world.watch.is_leased(FIRST.key)
    # The next worker has yet to take over.
    world.watch.lost(FIRST.key, world.store.leases.holders()[name_of("split", FIRST.key)])
    world.poll()
    assert not world.watch.is_leased(FIRST.key)


def test_what_was_lost_can_be_taken_over(world: World) -> None:
    world.start()
    world.foreign_lease(generation=3)
    holder = world.store.leases.holders()[name_of("split", FIRST.key)]
    world.watch.lost(FIRST.key, holder)
    assert world.own_lease(world.watch.stale_lease(FIRST.key)).generation == 4


def test_its_thread_looks_again_and_again_and_survives_a_broken_store(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sweeps.executor.lease_watch.POLL_SECONDS", 0.01)
    looked = threading.Semaphore(0)
    real: Callable[[Container[str]], dict[str, Holder]] = world.store.leases.holders
    answers = iter([OSError("stale file handle")] * 2)

    def holders(names: Container[str]) -> dict[str, Holder]:
        looked.release()
        error = next(answers, None)
        if error is not None:
            raise error
        return real(names)

    monkeypatch.setattr(world.store.leases, "holders", holders)
    world.hold()
    with caplog.at_level(logging.WARNING), world.watch:
        for _ in range(5):
            assert looked.acquire(timeout=10)
    assert world.state() == "ready"
    assert caplog.text.count("stale file handle") == 2


class Looks:
    """In place of the watch's event: lets it look once at each moment, then stop."""

    def __init__(self, world: World, moments: list[float]) -> None:
        self._world, self._left = world, moments

    def wait(self, _seconds: float) -> bool:
        if not self._left:
            return True
        self._world.now = self._left.pop(0)
        return False


@pytest.mark.parametrize("is_away", [True, False])
def test_a_holder_that_could_not_be_seen_for_a_while_was_not_silent(
    world: World, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    world.hold()
    world.foreign_lease()
    real = world.store.leases.holders

    def holders(names: Container[str]) -> dict[str, Holder]:
        if is_away and world.now == SILENCE / 2:
            raise OSError("no answer")
        return real(names)

    monkeypatch.setattr(world.store.leases, "holders", holders)
    monkeypatch.setattr(world.watch, "_stop", Looks(world, [0.0, SILENCE / 2, SILENCE + 1]))
    world.watch._run()
    assert world.state() == ("held" if is_away else "ready")
