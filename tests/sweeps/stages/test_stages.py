"""The stages themselves in a worker, on a problem that needs no dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from support.tiny import TinyProblem, tiny_model
from support.worker_jobs import JOBS, PREPARE, PRETRAIN, SPLIT, found, write_hello

from oneshui.origin import origin_of
from oneshui.requests import PrepareRequest, UnlearnRequest
from oneshui.spec import Access
from oneshui.training.train import TrainingState
from sweeps.executor.worker import execute
from sweeps.graph.artifacts import WEIGHTS
from sweeps.stages import training, unlearning
from sweeps.stages.context import WorkerEnvironment
from sweeps.stages.run import STAGES
from sweeps.store import LocalStore, checkpoints
from sweeps.store.checkpoints import Checkpoint


@pytest.fixture
def env(tmp_path: Path) -> WorkerEnvironment:
    store = LocalStore(tmp_path / "store")
    return WorkerEnvironment(store=store, data_folders={}, logs=tmp_path / "logs", node="node 1")


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyProblem]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tiny = TinyProblem("convnext")
    for stage in (training, unlearning):
        monkeypatch.setattr(stage, "load_split", lambda _: tiny.split)
        monkeypatch.setattr(stage, "images", lambda _context, _split, name: tiny.images(name))
    model = SimpleNamespace(load=lambda: tiny_model("convnext"))
    monkeypatch.setattr(unlearning, "model_of", lambda _context, _role: model)
    train = SimpleNamespace(select=lambda _rows: tiny.images("train"))
    monkeypatch.setattr(unlearning, "pictures", lambda _context: train)
    monkeypatch.setattr(unlearning, "prepared", lambda _context, method, _: method.prepare(None))
    monkeypatch.setitem(STAGES, "split", write_hello)
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
    env: WorkerEnvironment, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr("oneshui.methods.build", lambda _name, _values: BrokenMethod())
    monkeypatch.setattr("oneshui.methods.source_of", lambda _: "of a test")
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
    def place(name: str) -> WorkerEnvironment:
        return WorkerEnvironment(
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

    def save(self: Checkpoint, progress: TrainingState) -> None:
        real(self, progress)
        saved.append(progress.epoch)

    monkeypatch.setattr(Checkpoint, "save", save)
    undisturbed = execute(PRETRAIN, JOBS, whole)
    assert undisturbed.failure is None
    # Not after the last: its result is published at once.
    assert saved == [1, 2]
    assert "resumed_epochs" not in undisturbed.cost

    def save_and_fail(self: Checkpoint, progress: TrainingState) -> None:
        save(self, progress)
        if progress.epoch == 2:
            raise SimulatedCrashError

    monkeypatch.setattr(Checkpoint, "save", save_and_fail)
    outcome = execute(PRETRAIN, JOBS, env)
    assert outcome.failure is not None
    assert outcome.failure.kind == "error"
    contents = {name: found(env, JOBS[key]).content for name, key in PRETRAIN.needed.items()}
    made = {n: it for n, it in origin_of("cpu").items() if n != "commit"}
    checkpoint = env.store.checkpoint(PRETRAIN, {**contents, **made})
    known = checkpoint.load()
    assert known is not None
    assert known.epoch == 2
    for changed in ({"index": "relabelled"}, {"device": "cuda"}, {"versions": "torch 1"}):
        assert env.store.checkpoint(PRETRAIN, {**contents, **made, **changed}).load() is None
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
def test_a_damaged_checkpoint_costs_time_and_nothing_else(env: WorkerEnvironment) -> None:
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
    env: WorkerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[TrainingState] = []
    monkeypatch.setattr(Checkpoint, "save", lambda _self, progress: saved.append(progress))
    now = iter([0.0, 4.0, 11.0, 12.0, 13.0])
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: next(now)))
    assert execute(SPLIT, JOBS, env).failure is None
    assert execute(PRETRAIN, JOBS, env).failure is None
    assert [progress.epoch for progress in saved] == [2]
