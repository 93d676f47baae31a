from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support.worker_jobs import JOBS, PRETRAIN, SPLIT, Do, found, write_hello

from oneshui.errors import DataAccessError, DataError, InputError, NumericalError, NurseryLostError
from sweeps.executor.worker import classify, execute
from sweeps.graph.job import Stage, log_path
from sweeps.stages.context import JobContext, WorkerEnvironment
from sweeps.stages.run import STAGES
from sweeps.store import DamagedEntryError, LocalStore
from sweeps.store.leases import Lease, name_of
from sweeps.store.machine import place
from sweeps.store.objects import StoreUnreachableError


@pytest.fixture
def env(tmp_path: Path) -> WorkerEnvironment:
    store = LocalStore(tmp_path / "store")
    return WorkerEnvironment(store=store, data_folders={}, logs=tmp_path / "logs", node="node 1")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage, Do], None]:
    """Replaces what a stage does."""

    def replace(name: Stage, do: Do) -> None:
        monkeypatch.setitem(STAGES, name, do)

    return replace


def leftovers(env: WorkerEnvironment) -> list[str]:
    folders = (env.store.root / name for name in (".work", ".leases"))
    return [str(path) for folder in folders for path in folder.iterdir()]


def test_a_job_is_done_under_its_lease_and_says_what_it_cost(
    env: WorkerEnvironment, stage: Callable[[Stage, Do], None]
) -> None:
    holders = []

    def look(inputs: JobContext) -> dict[str, Any]:
        holders.append(env.store.leases.holders()[name_of("split", SPLIT.key)])
        return write_hello(inputs)

    stage("split", look)
    outcome = execute(SPLIT, JOBS, env)
    assert (outcome.failure, outcome.held) == (None, False)
    assert outcome.cost["seconds"] > 0
    assert outcome.cost["method_seconds"] == 1.5
    assert set(map(type, outcome.cost.values())) == {float}
    assert [(holder.pid, holder.node) for holder in holders] == [(os.getpid(), "node 1")]
    assert leftovers(env) == []
    log = (env.logs / f"{SPLIT.key}.log").read_text()
    assert "split" in log
    assert "done in" in log


def test_a_job_that_somebody_alive_works_on_is_held(
    env: WorkerEnvironment, stage: Callable[[Stage, Do], None]
) -> None:
    stage("split", _never)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        lease = env.store.leases.acquire(SPLIT)
        assert lease is not None
        path = env.store.root / ".leases" / f"{lease.name}.{lease.generation}"
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, "pid": process.pid, "started": ticks}))
        outcome = execute(SPLIT, JOBS, env)
        assert outcome.held
        assert outcome.failure is None
        assert path.exists()
        assert env.store.find("split", SPLIT.key) is None
    finally:
        process.kill()
        process.wait()
    stage("split", write_hello)
    outcome = execute(SPLIT, JOBS, env)
    assert (outcome.failure, outcome.held) == (None, False)
    assert leftovers(env) == []


def test_a_job_whose_holder_is_called_stale_is_taken_over(
    env: WorkerEnvironment, stage: Callable[[Stage, Do], None]
) -> None:
    stage("split", write_hello)
    path = env.store.root / ".leases" / f"{name_of('split', SPLIT.key)}.3"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1", "node": ""}))
    assert execute(SPLIT, JOBS, env).held
    assert execute(SPLIT, JOBS, env, stale_lease=2).held
    outcome = execute(SPLIT, JOBS, env, stale_lease=3)
    assert (outcome.failure, outcome.held) == (None, False)
    assert leftovers(env) == []


def test_a_job_waits_for_a_place_on_its_machine(
    env: WorkerEnvironment,
    stage: Callable[[Stage, Do], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("sweeps.store.machine.PATIENCE_SECONDS", 0.1)
    stage("split", write_hello)
    env = dataclasses.replace(env, machine_workers=1)
    with place(1):
        assert execute(SPLIT, JOBS, env).held
    assert not env.store.leases.holders()
    assert not execute(SPLIT, JOBS, env).held
    assert env.store.find("split", SPLIT.key) is not None


def _never(_: JobContext) -> NoReturn:
    raise AssertionError("computed again")


def test_what_is_there_already_is_not_computed_again(
    env: WorkerEnvironment, stage: Callable[[Stage, Do], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage("split", write_hello)
    first = execute(SPLIT, JOBS, env)
    manifest = found(env, SPLIT).folder / "result.json"
    os.utime(manifest, (1.0, 1.0))
    stage("split", _never)
    monkeypatch.setattr(env.store, "work", _never)
    outcome = execute(SPLIT, JOBS, env)
    assert outcome == first
    assert manifest.stat().st_mtime == 1.0
    assert not list((env.store.root / ".discarded").iterdir())
    assert leftovers(env) == []


def test_a_result_of_other_inputs_is_computed_again(
    env: WorkerEnvironment, stage: Callable[[Stage, Do], None]
) -> None:
    stage("split", write_hello)
    stage("pretrain", write_hello)
    assert execute(SPLIT, JOBS, env).failure is None
    assert execute(PRETRAIN, JOBS, env).failure is None
    old = found(env, PRETRAIN)
    env.store.discard("split", SPLIT.key)

    def write_other(inputs: JobContext) -> dict[str, Any]:
        return {**write_hello(inputs), "more": 1}

    stage("split", write_other)
    assert execute(SPLIT, JOBS, env).failure is None
    assert execute(PRETRAIN, JOBS, env).failure is None
    new = found(env, PRETRAIN)
    assert new.inputs == {"split": found(env, SPLIT).content} != old.inputs


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk", "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk", "Disk quota exceeded"),
        (OSError(errno.EROFS, "Read-only file system"), "disk", "Read-only file system"),
        (PermissionError(errno.EACCES, "Permission denied"), "disk", "Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "error", "OSError: "),
        (ConnectionResetError("gone"), "error", "ConnectionResetError: gone"),
        (InputError("3.jpg does not decode"), "input", "3.jpg does not decode"),
        (DataError("no such folder"), "input", "no such folder"),
        (NumericalError("loss is nan"), "numerical", "NumericalError: loss is nan"),
        (DataAccessError("opened train"), "access", "DataAccessError: opened train"),
        (MemoryError(), "memory", "MemoryError"),
        (OutOfMemoryError("CUDA out of memory"), "memory", "CUDA out of memory"),
        (ValueError("first line\nsecond line"), "error", "ValueError: first line"),
        (InputError("a\n\x1b[31m.jpg is no picture"), "input", r"a\n\x1b[31m.jpg is no picture"),
        (KeyError("x"), "error", "KeyError: 'x'"),
        (SystemExit(3), "error", "its code called sys.exit(3)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_exception_becomes_a_failure_of_its_class(
    env: WorkerEnvironment,
    stage: Callable[[Stage, Do], None],
    error: BaseException,
    kind: str,
    says: str,
) -> None:
    def fail(inputs: JobContext) -> NoReturn:
        write_hello(inputs)
        raise error

    stage("split", fail)
    assert classify(error) == kind
    outcome = execute(SPLIT, JOBS, env)
    assert outcome.failure is not None
    assert outcome.failure.kind == kind
    assert says in outcome.failure.message
    assert "\n" not in outcome.failure.message
    if kind == "disk":
        assert str(env.store.root) in outcome.failure.message
        assert "set output_dir" in outcome.failure.message
    assert not outcome.held
    assert env.store.find("split", SPLIT.key) is None
    assert leftovers(env) == []
    if kind != "disk":
        log = (env.logs / f"{SPLIT.key}.log").read_text()
        assert "Traceback" in log
        assert "\x1b" not in log
    # The next attempt may succeed.
    stage("split", write_hello)
    assert execute(SPLIT, JOBS, env).failure is None


def test_a_worker_whose_nursery_is_lost_ends(
    env: WorkerEnvironment, stage: Callable[[Stage, Do], None]
) -> None:
    def lose(_: JobContext) -> NoReturn:
        raise NurseryLostError("it is gone")

    stage("split", lose)
    with pytest.raises(NurseryLostError):
        execute(SPLIT, JOBS, env)
    assert leftovers(env) == []


def test_a_disk_that_is_full_when_the_lease_is_written_is_said_so(
    env: WorkerEnvironment, monkeypatch: pytest.MonkeyPatch, stage: Callable[[Stage, Do], None]
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    stage("split", write_hello)
    with monkeypatch.context() as patch:
        patch.setattr(env.store.leases, "acquire", full)
        outcome = execute(SPLIT, JOBS, env)
    assert outcome.failure is not None
    assert outcome.failure.kind == "disk"
    assert str(env.store.root) in outcome.failure.message


def test_logs_that_cannot_be_written_are_said_so(
    env: WorkerEnvironment, stage: Callable[[Stage, Do], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Real permissions do not stop root, under whom tests may run.
    real = Path.mkdir

    def mkdir(path: Path, *args: Any, **kwargs: Any) -> None:
        if path == env.logs:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        real(path, *args, **kwargs)

    stage("split", write_hello)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    outcome = execute(SPLIT, JOBS, env)
    assert outcome.failure is not None
    assert outcome.failure.kind == "disk"
    assert str(env.logs) in outcome.failure.message
    assert leftovers(env) == []


@pytest.mark.parametrize("how", ["gone", "manifest", "read"])
def test_a_damaged_input_is_named_and_put_aside(
    env: WorkerEnvironment, stage: Callable[[Stage, Do], None], how: str
) -> None:
    stage("split", write_hello)

    def read(inputs: JobContext) -> dict[str, Any]:
        return {"text": inputs.entries["split"].file("hello.txt").read_text()}

    stage("pretrain", read)
    assert execute(SPLIT, JOBS, env).failure is None
    entry = found(env, SPLIT)
    if how == "gone":
        env.store.discard("split", SPLIT.key)
    elif how == "manifest":
        (entry.folder / "result.json").write_text("{")
    else:
        (entry.folder / "hello.txt").write_text("hellp")
    outcome = execute(PRETRAIN, JOBS, env)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.damaged) == ("damaged", SPLIT.key)
    assert env.store.find("split", SPLIT.key) is None
    assert execute(SPLIT, JOBS, env).failure is None
    assert execute(PRETRAIN, JOBS, env).failure is None


def test_the_lease_beats_while_the_job_runs(
    env: WorkerEnvironment, stage: Callable[[Stage, Do], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[Lease] = []
    monkeypatch.setattr(Lease, "beat", lambda lease: beats.append(lease))
    monkeypatch.setattr("sweeps.executor.worker._BEATS_PER_SILENCE", 6000)

    def wait(inputs: JobContext) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while len(beats) <= 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        return write_hello(inputs)

    stage("split", wait)
    assert execute(SPLIT, JOBS, env).failure is None
    assert len(beats) > 3


def test_a_store_that_does_not_answer_is_as_good_as_a_lost_worker() -> None:
    assert classify(StoreUnreachableError("no answer")) == "lost"


def test_damage_is_of_its_own_class() -> None:
    assert classify(DamagedEntryError("split", "abc", "gone")) == "damaged"


@pytest.mark.parametrize("place", ["the folder", "the job's file"])
def test_what_else_stands_in_the_place_of_logs_makes_room(
    env: WorkerEnvironment, stage: Callable[[Stage, Do], None], place: str
) -> None:
    stage("split", write_hello)
    if place == "the folder":
        env.logs.write_text("hello")
    else:
        log_path(env.logs, SPLIT.key).mkdir(parents=True)
    assert execute(SPLIT, JOBS, env).failure is None
    assert "done in" in log_path(env.logs, SPLIT.key).read_text()
