"""A preparation that takes long goes on where a worker that died had come to."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from support.inline_sweep import InlineSweep, inline_sweep

from oneshui.methods.metaunlearn.objective import MetaTrainer
from oneshui.training.train import Progress
from sweeps.graph.artifacts import PREPARED
from sweeps.store import Entry
from sweeps.store.checkpoints import Checkpoint, PrepareCheckpoint


def test_offers_are_taken_as_rarely_as_configured(tmp_path: Path) -> None:
    taken: list[int] = []

    def take_down() -> dict[str, torch.Tensor]:
        taken.append(len(taken))
        return {"at": torch.tensor(taken[-1])}

    rare = PrepareCheckpoint(Checkpoint(tmp_path / "rare"), 3600.0)
    rare.offer(take_down)
    assert (taken, rare.load()) == ([], None)
    often = PrepareCheckpoint(Checkpoint(tmp_path / "often"), 0.0)
    for _ in range(3):
        often.offer(take_down)
    again = PrepareCheckpoint(Checkpoint(tmp_path / "often"), 0.0)
    known = again.load()
    assert known is not None
    assert int(known["at"]) == 2
    again.offer(take_down)
    known = PrepareCheckpoint(Checkpoint(tmp_path / "often"), 0.0).load()
    assert known is not None
    assert int(known["at"]) == 3


class SimulatedCrashError(Exception):
    pass


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


def test_a_meta_training_that_died_goes_on_and_gives_the_same(
    sweep: InlineSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepared(sweep).file(PREPARED).read_bytes()
    job = next(job for job in sweep.plan.jobs.values() if job.stage == "prepare")
    shutil.rmtree(prepared(sweep).file(PREPARED).parent)
    updates: list[int] = []
    update, save = MetaTrainer.update, Checkpoint.save

    def counting(self: MetaTrainer, *arguments: object) -> float:
        updates.append(1)
        return update(self, *arguments)  # type: ignore[arg-type]

    def save_and_die(self: Checkpoint, progress: Progress) -> None:
        save(self, progress)
        if progress.epoch == 3:
            raise SimulatedCrashError

    monkeypatch.setattr(MetaTrainer, "update", counting)
    monkeypatch.setattr(Checkpoint, "save", save_and_die)
    failure = sweep.execute(job)
    assert failure is not None
    assert sum(updates) == 3
    monkeypatch.setattr(Checkpoint, "save", save)
    updates.clear()
    assert sweep.execute(job) is None
    done = prepared(sweep)
    assert done.file(PREPARED).read_bytes() == whole
    checkpoints = sweep.store.root / ".checkpoints"
    assert not list(checkpoints.iterdir())
    shutil.rmtree(done.file(PREPARED).parent)
    rest = sum(updates)
    updates.clear()
    assert sweep.execute(job) is None
    assert sum(updates) == rest + 3
