"""What pretraining and retraining are trained on, with which seed, and from where they go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.inline_sweep import InlineSweep
from support.stage_contexts import changed, context_of, jobs_of, rows_of, split_document

from oneshui.seeding import derive_seed
from oneshui.spec import ModelSpec
from oneshui.training.models import make_model
from sweeps.graph.job import Job
from sweeps.stages import training
from sweeps.stages.run import STAGES
from sweeps.store.checkpoints import Checkpoint, PacedCheckpoint


def asked_of_train(
    cells: InlineSweep, job: Job, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What the loop of training is called with; it leaves the weights as they are."""
    found: dict[str, Any] = {}

    def train(model: Any, data: Any, val: Any, spec: Any, **further: Any) -> list[Any]:
        found.update(model=model, data=data, val=val, spec=spec, **further)
        return []

    monkeypatch.setattr("oneshui.training.train.train", train)
    STAGES[job.stage](context_of(cells, job, folder))
    return found


@pytest.mark.parametrize(("stage", "name"), [("pretrain", "train"), ("retrain", "retain")])
@pytest.mark.parametrize("cell", [0, 1])
def test_each_model_sees_its_own_set_and_is_watched_on_the_validation_set(
    cells: InlineSweep,
    draft: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: Any,
    name: str,
    cell: int,
) -> None:
    job = jobs_of(cells, stage, training_seed=cell, reseed=0)[0]
    asked = asked_of_train(cells, job, draft, monkeypatch)
    document = split_document(cells, job)
    assert asked["data"].rows.tolist() == rows_of(cells, document, name)
    assert asked["val"].rows.tolist() == rows_of(cells, document, "val")
    # Crops are cut from the larger pictures.
    assert asked["data"].detail.shape[-1] == 48
    assert asked["spec"].epochs == job.spec["training"]["epochs"]
    assert asked["resume"] is None


@pytest.mark.parametrize("reseed", [0, 3])
def test_the_seed_is_the_cell_s_and_of_how_often_it_was_trained_again(
    cells: InlineSweep, draft: Path, monkeypatch: pytest.MonkeyPatch, reseed: int
) -> None:
    job = changed(jobs_of(cells, "retrain", training_seed=1)[0], reseed=reseed)
    asked = asked_of_train(cells, job, draft, monkeypatch)
    seed = derive_seed(1, reseed)
    assert asked["seed"] == seed
    outputs = asked["data"].labels.shape[1]
    fresh = make_model(ModelSpec(**job.spec["model"]), outputs, seed).state_dict()
    written = load_file(draft / "weights.safetensors")
    assert written.keys() == fresh.keys()
    assert all(torch.equal(value, fresh[name]) for name, value in written.items())


def test_checkpoints_are_offered_at_the_pace_of_the_configuration(
    cells: InlineSweep, draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces: list[float] = []

    def paced(checkpoint: Checkpoint, seconds: float) -> PacedCheckpoint:
        paces.append(seconds)
        return PacedCheckpoint(checkpoint, seconds)

    monkeypatch.setattr(training, "PacedCheckpoint", paced)
    job = jobs_of(cells, "pretrain")[0]
    asked_of_train(cells, job, draft, monkeypatch)
    assert paces == [cells.env.checkpoint_seconds]
    assert cells.env.checkpoint_seconds != cells.env.heartbeat_seconds
