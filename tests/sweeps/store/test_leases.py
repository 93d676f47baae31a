from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from contracts.store_contract import job
from support.lease_places import Folder, Objects, Place, opened
from support.lease_places import place as lease_place
from support.processes import python

from sweeps.store.leases import (
    Beat,
    Holder,
    Lease,
    LeasePlace,
    Leases,
    Watch,
    _started,
    name_of,
    this_host,
)

NAME = name_of("split", job().key)
HOUR = 3600.0
ABSENT = "absent"


@pytest.fixture(params=["folder", "s3", "gs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param != "folder":
        address = "address" if request.param == "s3" else "google_address"
        return Objects(request.getfixturevalue(address))
    (tmp_path / "leases").mkdir()
    return Folder(tmp_path / "leases")


@pytest.fixture
def leases(place: Place) -> Leases:
    return opened(place.address)


@contextlib.contextmanager
def holding_process(place: Place) -> Iterator[subprocess.Popen[str]]:
    """A real process that has taken the lease of ``job()`` and lives."""
    code = (
        "import sys, time\n"
        "from contracts.store_contract import job\n"
        "from support.lease_places import opened\n"
        "print(opened(sys.argv[1]).acquire(job()) is not None, flush=True)\n"
        "time.sleep(60)\n"
    )
    with running(code, place.address) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process


@contextlib.contextmanager
def running(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with python(code, *arguments) as process:
        try:
            yield process
        finally:
            process.kill()


def write(place: Place, generation: int, **changes: Any) -> str:
    """A lease as a process of another machine would have written it; what stands in it."""
    document = {"host": "elsewhere", "pid": os.getpid(), "started": "1", "node": "", **changes}
    text = json.dumps(document)
    place.write(f"{NAME}.{generation}", text)
    return text


def own_start() -> str:
    return Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]


def taken(leases: Leases, **how: Any) -> Lease:
    lease = leases.acquire(job(), **how)
    assert lease is not None
    return lease


def test_a_lease_is_taken_once_and_can_be_taken_again_after_its_release(leases: Leases) -> None:
    lease = taken(leases, node="n1")
    assert leases.acquire(job()) is None
    assert leases.acquire(job(1)) is not None
    holder = leases.holders()[NAME]
    assert (holder.host, holder.pid, holder.started) == (this_host(), os.getpid(), own_start())
    assert (holder.node, holder.generation, holder.is_dead) == ("n1", 1, False)
    leases.release(job(), lease)
    assert NAME not in leases.holders()
    taken(leases)


def test_of_racing_processes_exactly_one_acquires(place: Place, tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from contracts.store_contract import job\n"
        "from support.lease_places import opened\n"
        "leases = opened(sys.argv[1])\n"
        "jobs = [job(n) for n in range(40)]\n"
        "print('ready', flush=True)\n"
        "while not pathlib.Path(sys.argv[2]).exists():\n"
        "    pass\n"
        "print(*(n for n in range(40) if leases.acquire(jobs[n])), flush=True)\n"
        "time.sleep(60)\n"
    )
    start = tmp_path / "start"
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(running(code, place.address, str(start))) for _ in range(3)]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        start.touch()
        won: list[int] = []
        for racer in racers:
            assert racer.stdout is not None
            won += [int(number) for number in racer.stdout.readline().split()]
    assert sorted(won) == list(range(40))


@pytest.mark.parametrize("dead_holder", [False, True])
def test_of_racing_threads_exactly_one_acquires(
    leases: Leases, place: Place, dead_holder: bool
) -> None:
    if dead_holder:
        write(place, 3, host=this_host(), started="1")
    barrier = threading.Barrier(8)
    found: list[Lease | None] = []

    def race() -> None:
        barrier.wait()
        found.append(leases.acquire(job()))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [lease for lease in found if lease is not None]
    assert len(found) == 8
    assert winner.generation == (4 if dead_holder else 1)


def test_a_killed_process_of_this_machine_loses_its_lease_at_once(
    leases: Leases, place: Place
) -> None:
    with holding_process(place) as process:
        assert leases.acquire(job()) is None
        assert not leases.holders()[NAME].is_dead
        process.send_signal(signal.SIGKILL)
        # Not waited for yet: a zombie, which holds nothing either.
        deadline = time.monotonic() + 10
        while not leases.holders()[NAME].is_dead:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert taken(leases).generation == 2
    assert leases.holders()[NAME].pid == os.getpid()


def test_a_stopped_process_still_holds(leases: Leases, place: Place) -> None:
    with holding_process(place) as process:
        process.send_signal(signal.SIGSTOP)
        assert leases.acquire(job()) is None


def test_a_process_with_the_number_of_a_dead_one_is_another(leases: Leases, place: Place) -> None:
    write(place, 1, host=this_host(), started=str(int(own_start()) - 1))
    assert leases.holders()[NAME].is_dead
    assert taken(leases).generation == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "elsewhere"},
        {"started": "1"},
        {"started": ""},
        {"started": None},
        # Written by a version that noted no start.
        {"started": ABSENT},
        {"pid": -1},
        {"pid": 0},
        {"pid": "self"},
        {},
    ],
    ids=str,
)
def test_a_holder_is_killed_only_if_all_that_a_lease_says_is_true(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = Folder(tmp_path)
    with running("import time\nprint('up', flush=True)\ntime.sleep(60)\n") as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        said = {"host": this_host(), "pid": process.pid, "started": started, **changes}
        folder.write(f"{NAME}.1", json.dumps({k: v for k, v in said.items() if v is not ABSENT}))
        opened(folder.address).holders()[NAME].kill()
        if changes:
            time.sleep(0.05)
            assert process.poll() is None
        else:
            assert process.wait(10) == -signal.SIGKILL


def test_where_there_is_no_proc_ps_says_when_a_process_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.store.leases._PROC", tmp_path / "none")
    with running("import time\nprint('up', flush=True)\ntime.sleep(60)\n") as process:
        started = _started(process.pid)
        assert started
        holder = Holder(generation=1, beat=1, host=this_host(), pid=process.pid, started=started)
        dataclasses.replace(holder, started="Mon Jan  1 00:00:00 2024").kill()
        assert process.poll() is None
        holder.kill()
        assert process.wait(10) == -signal.SIGKILL
    assert not _started(process.pid)


def test_a_holder_on_another_machine_is_believed_until_it_is_called_stale(
    leases: Leases, place: Place
) -> None:
    # No process here has this number; there it may.
    write(place, 5, pid=2**22 + 1)
    assert not leases.holders()[NAME].is_dead
    assert leases.acquire(job()) is None
    assert leases.acquire(job(), stale=4) is None
    assert taken(leases, stale=5).generation == 6
    # The one who took it over is not stale.
    assert leases.acquire(job(), stale=5) is None


def test_a_lease_that_is_not_written_yet_is_held(leases: Leases, place: Place) -> None:
    place.write(f"{NAME}.1", "")
    assert not leases.holders()[NAME].is_dead
    assert leases.acquire(job()) is None
    assert taken(leases, stale=1).generation == 2


@pytest.mark.parametrize("text", ["[]", "null", "{", '{"host": "h", "unknown": 1}', "\x00" * 80])
def test_a_lease_that_cannot_be_read_is_held(leases: Leases, place: Place, text: str) -> None:
    place.write(f"{NAME}.1", text)
    assert leases.holders()[NAME].host == ""
    assert leases.acquire(job()) is None


def test_one_job_s_holder_is_its_newest_lease_and_no_other_is_read(
    leases: Leases, place: Place
) -> None:
    assert leases.holder(job()) is None
    place.write(f"{name_of('split', job().key)}.3", "{}")
    other = leases.acquire(job(2))
    lease = leases.acquire(job(), stale=3)
    assert lease is not None
    assert other is not None
    found = leases.holder(job())
    assert found is not None
    assert (found.generation, found.pid) == (4, os.getpid())
    assert found == leases.holders()[lease.name]
    assert set(leases.holders({lease.name, "split-unknown"})) == {lease.name}


class Slow:
    """A place that answers only when so many ask at the same time."""

    def __init__(self, inner: LeasePlace, together: int) -> None:
        self._inner, self._barrier = inner, threading.Barrier(together, timeout=30)
        self.num_read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read(self, name: str, generation: int, beat: Beat | None = None) -> tuple[str, Beat] | None:
        self._barrier.wait()
        self.num_read += 1
        return self._inner.read(name, generation, beat)


def test_leases_are_read_at_the_same_time_and_those_of_other_sweeps_not_at_all(
    place: Place,
) -> None:
    there = opened(place.address)
    own = [there.acquire(job(number)) for number in range(8)]
    assert there.acquire(job(100)) is not None
    slow = Slow(lease_place(place.address), together=8)
    names = {lease.name for lease in own if lease is not None}
    assert set(Leases(slow).holders(names)) == names
    assert slow.num_read == 8


def test_release_clears_what_was_taken_over_and_nothing_newer(leases: Leases, place: Place) -> None:
    for generation in (1, 2, 9, 10):
        write(place, generation)
    lease = taken(leases, stale=10)
    assert lease.generation == 11
    write(place, 12)
    other = leases.acquire(job(1))
    leases.release(job(), lease)
    assert leases.holders()[NAME].generation == 12
    assert other is not None
    assert place.names() == {f"{NAME}.12", f"{other.name}.1"}


def test_release_and_beat_after_a_take_over_do_no_harm(leases: Leases) -> None:
    mine = taken(leases)
    theirs = taken(leases, stale=1)
    leases.release(job(), theirs)
    mine.beat()
    leases.release(job(), mine)
    assert leases.holders() == {}


def test_files_of_others_in_the_folder_are_no_leases(leases: Leases, place: Place) -> None:
    place.write(f"{NAME}.1.swp", "")
    place.write(".nfs.0001f", "")
    assert leases.holders() == {}
    assert taken(leases).generation == 1


def test_a_lease_that_cannot_be_written_is_not_left_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leases = opened(str(tmp_path))

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", _failing_open(full))
        with pytest.raises(OSError, match="No space"):
            leases.acquire(job())
    assert list(tmp_path.iterdir()) == []
    taken(leases)


def _failing_open(fail: Any) -> Any:
    real = Path.open

    def opened(path: Path, *args: Any, **kwargs: Any) -> Any:
        stream = real(path, *args, **kwargs)
        stream.write = fail
        return stream

    return opened


def test_beating_touches_the_file_until_the_end(leases: Leases) -> None:
    lease = taken(leases)
    with lease.beating(0.01):
        before = leases.holders()[NAME].beat
        deadline = time.monotonic() + 10
        while leases.holders()[NAME].beat == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    after = leases.holders()[NAME].beat
    time.sleep(0.1)
    assert leases.holders()[NAME].beat == after


@pytest.mark.parametrize("skew", [-HOUR, 0.0, HOUR])
def test_the_clock_of_the_holder_does_not_matter(leases: Leases, place: Place, skew: float) -> None:
    now = [1000.0]
    watch = Watch(lambda: now[0])
    text = write(place, 1)

    def beat(number: int) -> None:
        place.beat(f"{NAME}.1", text, time.time() + skew + number)

    beat(0)
    assert watch.silence(leases.holders()) == {NAME: 0.0}
    now[0] += 50
    assert watch.silence(leases.holders()) == {NAME: 50.0}
    beat(1)
    now[0] += 50
    assert watch.silence(leases.holders()) == {NAME: 0.0}
    now[0] += 7
    assert watch.silence(leases.holders()) == {NAME: 7.0}
    assert leases.acquire(job()) is None


def test_a_clock_that_is_set_back_is_a_sign_of_life(leases: Leases, place: Place) -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])
    text = write(place, 1)
    watch.silence(leases.holders())
    now[0] = 100.0
    place.beat(f"{NAME}.1", text, 1.0)
    assert watch.silence(leases.holders()) == {NAME: 0.0}


def test_a_watch_tells_holders_apart() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])
    first, second = (Holder(generation=n, beat=5) for n in (1, 2))
    watch.silence({"a": first, "b": first})
    now[0] = 10.0
    assert watch.silence({"a": second, "b": first}) == {"a": 0.0, "b": 10.0}
    now[0] = 20.0
    assert watch.silence({"a": second}) == {"a": 10.0}
    # One that went away and came back is new.
    assert watch.silence({"a": second, "b": first}) == {"a": 10.0, "b": 0.0}
