"""A preparation that takes long goes on where a worker that died had come to."""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.inline_sweep import InlineSweep, inline_sweep

from oneshui.methods.metaunlearn.objective import MetaTrainer
from oneshui.training.train import TrainingState
from sweeps.graph.artifacts import PREPARED
from sweeps.store import Entry
from sweeps.store.checkpoints import LATEST, Checkpoint, PacedPrepareCheckpoint


def test_offers_are_taken_as_rarely_as_configured(tmp_path: Path) -> None:
    taken: list[int] = []

    def take_down() -> dict[str, torch.Tensor]:
        taken.append(len(taken))
        return {"at": torch.tensor(taken[-1])}

    rare = PacedPrepareCheckpoint(Checkpoint(tmp_path / "rare"), 3600.0)
    rare.offer(take_down)
    assert (taken, rare.load()) == ([], None)
    often = PacedPrepareCheckpoint(Checkpoint(tmp_path / "often"), 0.0)
    for _ in range(3):
        often.offer(take_down)
    again = PacedPrepareCheckpoint(Checkpoint(tmp_path / "often"), 0.0)
    known = again.load()
    assert known is not None
    assert int(known["at"]) == 2
    again.offer(take_down)
    known = PacedPrepareCheckpoint(Checkpoint(tmp_path / "often"), 0.0).load()
    assert known is not None
    assert int(known["at"]) == 3


class SimulatedCrashError(Exception):
    pass


def test_a_crash_during_the_first_offer_after_a_return_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PacedPrepareCheckpoint(Checkpoint(tmp_path / "it"), 0.0)
    first.offer(lambda: {"at": torch.tensor(1)})
    again = PacedPrepareCheckpoint(Checkpoint(tmp_path / "it"), 0.0)
    assert again.load() is not None
    replace = Path.replace

    def crash_at_the_record(path: Path, target: Path) -> Path:
        if target.name == LATEST:
            raise SimulatedCrashError
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash_at_the_record)
        with pytest.raises(SimulatedCrashError):
            again.offer(lambda: {"at": torch.tensor(2)})
    known = PacedPrepareCheckpoint(Checkpoint(tmp_path / "it"), 0.0).load()
    assert known is not None
    assert int(known["at"]) == 1


def test_the_pace_counts_from_the_last_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("sweeps.store.checkpoints.time.monotonic", lambda: now[0])
    paced = PacedPrepareCheckpoint(Checkpoint(tmp_path / "it"), 10.0)
    kept: list[float] = []

    def take_down() -> dict[str, torch.Tensor]:
        kept.append(now[0])
        return {"at": torch.tensor(now[0])}

    for now[0] in (109.0, 111.0, 119.0, 121.0, 130.5, 131.0):
        paced.offer(take_down)
    assert kept == [111.0, 121.0, 131.0]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    made = inline_sweep(
        tmp_path_factory.mktemp("prepare"),
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny]",
        "sweep.seeds=[0]",
        "sweep.methods=[metaunlearn]",
        "sweep.rows.metaunlearn.epochs=2",
    )
    assert not made.scheduler.failures()
    env = dataclasses.replace(made.env, checkpoint_seconds=0.0)
    return dataclasses.replace(made, env=env)


def prepared(sweep: InlineSweep) -> Entry:
    job = next(job for job in sweep.plan.jobs.values() if job.stage == "prepare")
    entry = sweep.store.find("prepare", job.key)
    assert entry is not None
    return entry


class Kept:
    """Where a bucket keeps checkpoints: no folder that a process could be handed."""

    def __init__(self) -> None:
        self.found: tuple[dict[str, Any], bytes] | None = None

    def write(self, name: str, record: bytes, data: bytes) -> None:
        assert name
        self.found = json.loads(record), data

    def read(self) -> tuple[dict[str, Any], bytes]:
        if self.found is None:
            raise FileNotFoundError
        return self.found

    def clear(self) -> None:
        self.found = None


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_a_meta_training_that_died_goes_on_and_gives_the_same(
    sweep: InlineSweep, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    kept = Kept()
    if place == "bucket":
        monkeypatch.setattr(sweep.store, "checkpoint", lambda *_: Checkpoint(kept))
    whole = prepared(sweep).file(PREPARED).read_bytes()
    job = next(job for job in sweep.plan.jobs.values() if job.stage == "prepare")
    shutil.rmtree(prepared(sweep).file(PREPARED).parent)
    # The method runs in a process of its own: memory that it shares with this one.
    updates, worker = mmap.mmap(-1, 1), os.getpid()
    update, save = MetaTrainer.update, Checkpoint.save

    def counting(self: MetaTrainer, *arguments: object) -> float:
        updates[0] += 1
        return update(self, *arguments)  # type: ignore[arg-type]

    def save_and_die(self: Checkpoint, progress: TrainingState) -> None:
        save(self, progress)
        if progress.epoch == 3 and os.getpid() != worker:
            raise SimulatedCrashError

    monkeypatch.setattr(MetaTrainer, "update", counting)
    monkeypatch.setattr(Checkpoint, "save", save_and_die)
    failure = sweep.execute(job)
    assert failure is not None
    assert updates[0] == 3
    monkeypatch.setattr(Checkpoint, "save", save)
    updates[0] = 0
    assert sweep.execute(job) is None
    done = prepared(sweep)
    assert done.file(PREPARED).read_bytes() == whole
    checkpoints = sweep.store.root / ".checkpoints"
    assert not list(checkpoints.iterdir())
    shutil.rmtree(done.file(PREPARED).parent)
    rest = updates[0]
    updates[0] = 0
    assert sweep.execute(job) is None
    assert updates[0] == rest + 3
