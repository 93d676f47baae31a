from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn

import pytest
import torch
from tiny import SPECS, TinyProblem, tiny_model

from oneshui.errors import DataAccessError, DataError, InputError, NumericalError
from oneshui.requests import PrepareRequest, UnlearnRequest
from oneshui.spec import Access
from oneshui.training import Progress
from sweeps import checkpoints, stages
from sweeps.checkpoints import Checkpoint
from sweeps.inputs import WEIGHTS, Environment, Inputs
from sweeps.jobs import Job, Stage
from sweeps.leases import Lease, name_of
from sweeps.store import DamagedEntryError, Entry, LocalStore
from sweeps.worker import classify, execute

SPLIT = Job(stage="split", spec={"num_forget": 3}, inputs={}, label="split")
TRAINING = {
    "epochs": 3,
    "batch_size": 16,
    "optimizer": "adamw",
    "learning_rate": 5e-3,
    "augmentation": "flip",
    "warmup_epochs": 0,
    "keep": "best",
}
MODEL = {
    "name": SPECS["convnext"].name,
    "image_size": 32,
    "weights": "random",
    "options": SPECS["convnext"].options,
}
PRETRAIN = Job(
    stage="pretrain",
    spec={"model": MODEL, "training": TRAINING, "training_seed": 0, "reseed": 0},
    inputs={"split": SPLIT.key},
    label="pretrain",
)
PREPARE = Job(
    stage="prepare",
    spec={"method": "broken", "hyperparameters": {}, "unlearning_seed": 0, "num_forget": 3},
    inputs={"split": SPLIT.key},
    label="prepare",
)
JOBS = {job.key: job for job in (SPLIT, PRETRAIN, PREPARE)}
Do = Callable[[Inputs], dict[str, Any]]


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    store = LocalStore(tmp_path / "store")
    return Environment(store=store, data_folders={}, logs=tmp_path / "logs", node="node 1")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage, Do], None]:
    """Replaces what a stage does."""

    def replace(name: Stage, do: Do) -> None:
        monkeypatch.setitem(stages._STAGES, name, do)

    return replace


def write_hello(inputs: Inputs) -> dict[str, Any]:
    (inputs.folder / "hello.txt").write_text("hello")
    inputs.cost["method_seconds"] = 1.5
    return {"task": "multilabel", "num_outputs": 5}


def found(env: Environment, job: Job) -> Entry:
    entry = env.store.find(job.stage, job.key)
    assert entry is not None
    return entry


def leftovers(env: Environment) -> list[str]:
    folders = (env.store.root / name for name in (".work", ".leases"))
    return [str(path) for folder in folders for path in folder.iterdir()]


def test_a_job_is_done_under_its_lease_and_says_what_it_cost(
    env: Environment, stage: Callable[[Stage, Do], None]
) -> None:
    holders = []

    def look(inputs: Inputs) -> dict[str, Any]:
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
    env: Environment, stage: Callable[[Stage, Do], None]
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
    env: Environment, stage: Callable[[Stage, Do], None]
) -> None:
    stage("split", write_hello)
    path = env.store.root / ".leases" / f"{name_of('split', SPLIT.key)}.3"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1", "node": ""}))
    assert execute(SPLIT, JOBS, env).held
    assert execute(SPLIT, JOBS, env, stale_lease=2).held
    outcome = execute(SPLIT, JOBS, env, stale_lease=3)
    assert (outcome.failure, outcome.held) == (None, False)
    assert leftovers(env) == []


def _never(_: Inputs) -> NoReturn:
    raise AssertionError("computed again")


def test_what_is_there_already_is_not_computed_again(
    env: Environment, stage: Callable[[Stage, Do], None], monkeypatch: pytest.MonkeyPatch
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
    env: Environment, stage: Callable[[Stage, Do], None]
) -> None:
    stage("split", write_hello)
    stage("pretrain", write_hello)
    assert execute(SPLIT, JOBS, env).failure is None
    assert execute(PRETRAIN, JOBS, env).failure is None
    old = found(env, PRETRAIN)
    env.store.discard("split", SPLIT.key)

    def write_other(inputs: Inputs) -> dict[str, Any]:
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
        (KeyError("x"), "error", "KeyError: 'x'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_exception_becomes_a_failure_of_its_class(
    env: Environment,
    stage: Callable[[Stage, Do], None],
    error: Exception,
    kind: str,
    says: str,
) -> None:
    def fail(inputs: Inputs) -> NoReturn:
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
        assert "Traceback" in (env.logs / f"{SPLIT.key}.log").read_text()
    # The next attempt may succeed.
    stage("split", write_hello)
    assert execute(SPLIT, JOBS, env).failure is None


def test_a_disk_that_is_full_when_the_lease_is_written_is_said_so(
    env: Environment, monkeypatch: pytest.MonkeyPatch, stage: Callable[[Stage, Do], None]
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
    env: Environment, stage: Callable[[Stage, Do], None], monkeypatch: pytest.MonkeyPatch
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
    env: Environment, stage: Callable[[Stage, Do], None], how: str
) -> None:
    stage("split", write_hello)

    def read(inputs: Inputs) -> dict[str, Any]:
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
    env: Environment, stage: Callable[[Stage, Do], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[Lease] = []
    monkeypatch.setattr(Lease, "beat", lambda lease: beats.append(lease))
    monkeypatch.setattr("sweeps.worker._BEATS_PER_SILENCE", 6000)

    def wait(inputs: Inputs) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while len(beats) <= 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        return write_hello(inputs)

    stage("split", wait)
    assert execute(SPLIT, JOBS, env).failure is None
    assert len(beats) > 3


# The stages themselves, on a problem that needs no dataset.


@pytest.fixture
def problem(
    monkeypatch: pytest.MonkeyPatch, stage: Callable[[Stage, Do], None]
) -> Iterator[TinyProblem]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tiny = TinyProblem("convnext")
    monkeypatch.setattr(stages, "load_split", lambda _inputs: tiny.split)
    monkeypatch.setattr(stages, "images", lambda _inputs, _split, name: tiny.images(name))
    monkeypatch.setattr(stages, "stored_model", lambda _inputs, _role: tiny_model("convnext"))
    stage("split", write_hello)
    yield tiny
    torch.set_num_threads(threads)


class BrokenMethod:
    """Prepares whatever a test says."""

    name: ClassVar[str] = "broken"
    access: ClassVar[Access] = Access.PREPARED
    search_space: ClassVar[Mapping[str, Any]] = {}
    prepare_fields: ClassVar[tuple[str, ...]] = ()
    value: ClassVar[float] = 0.0

    def prepare(self, _: PrepareRequest) -> Mapping[str, torch.Tensor]:
        return {"fine": torch.zeros(2), "bad": torch.tensor([1.0, self.value])}

    def unlearn(self, request: UnlearnRequest) -> torch.nn.Module:
        return request.model


@pytest.mark.usefixtures("problem")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.0])
def test_a_preparation_that_is_not_finite_is_refused(
    env: Environment, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr("oneshui.methods.build", lambda _name, _values: BrokenMethod())
    monkeypatch.setattr(BrokenMethod, "value", value)
    assert execute(SPLIT, JOBS, env).failure is None
    outcome = execute(PREPARE, JOBS, env)
    if value == 2.0:
        assert outcome.failure is None
        return
    assert outcome.failure is not None
    assert outcome.failure.kind == "numerical"
    assert "broken prepared bad" in outcome.failure.message
    assert env.store.find("prepare", PREPARE.key) is None


@pytest.mark.usefixtures("problem")
def test_a_training_that_was_interrupted_goes_on_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(name: str) -> Environment:
        return Environment(
            store=LocalStore(tmp_path / name),
            data_folders={},
            logs=tmp_path / "logs",
            checkpoint_seconds=0.0,
        )

    whole, env = place("whole"), place("interrupted")
    for where in (whole, env):
        assert execute(SPLIT, JOBS, where).failure is None
    saved: list[int] = []
    real = Checkpoint.save

    def save(self: Checkpoint, progress: Progress) -> None:
        real(self, progress)
        saved.append(progress.epoch)

    monkeypatch.setattr(Checkpoint, "save", save)
    undisturbed = execute(PRETRAIN, JOBS, whole)
    assert undisturbed.failure is None
    # Not after the last: its result is published at once.
    assert saved == [1, 2]
    assert "resumed_epochs" not in undisturbed.cost

    def save_and_fail(self: Checkpoint, progress: Progress) -> None:
        save(self, progress)
        if progress.epoch == 2:
            raise SimulatedCrashError

    monkeypatch.setattr(Checkpoint, "save", save_and_fail)
    outcome = execute(PRETRAIN, JOBS, env)
    assert outcome.failure is not None
    assert outcome.failure.kind == "error"
    checkpoint = env.store.checkpoint(PRETRAIN)
    known = checkpoint.load()
    assert known is not None
    assert known.epoch == 2
    monkeypatch.setattr(Checkpoint, "save", save)
    saved.clear()
    outcome = execute(PRETRAIN, JOBS, env)
    assert outcome.failure is None
    assert outcome.cost["resumed_epochs"] == 2
    assert saved == []
    one, other = (found(where, PRETRAIN) for where in (whole, env))
    assert one.content == other.content
    assert one.file(WEIGHTS).read_bytes() == other.file(WEIGHTS).read_bytes()
    assert not list((env.store.root / ".checkpoints").iterdir())
    assert not list((whole.store.root / ".checkpoints").iterdir())


class SimulatedCrashError(Exception):
    pass


@pytest.mark.usefixtures("problem")
def test_a_damaged_checkpoint_costs_time_and_nothing_else(env: Environment) -> None:
    assert execute(SPLIT, JOBS, env).failure is None
    folder = env.store.root / ".checkpoints" / f"pretrain-{PRETRAIN.key}"
    folder.mkdir()
    (folder / "latest.json").write_text('{"file": "2.safetensors", "epoch": 2')
    outcome = execute(PRETRAIN, JOBS, env)
    assert outcome.failure is None
    assert "resumed_epochs" not in outcome.cost
    assert not folder.exists()


@pytest.mark.usefixtures("problem")
def test_checkpoints_are_as_rare_as_configured(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Progress] = []
    monkeypatch.setattr(Checkpoint, "save", lambda _self, progress: saved.append(progress))
    now = iter([0.0, 4.0, 11.0, 12.0, 13.0])
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: next(now)))
    assert execute(SPLIT, JOBS, env).failure is None
    assert execute(PRETRAIN, JOBS, env).failure is None
    assert [progress.epoch for progress in saved] == [2]


def test_damage_is_of_its_own_class() -> None:
    assert classify(DamagedEntryError("split", "abc", "gone")) == "damaged"
