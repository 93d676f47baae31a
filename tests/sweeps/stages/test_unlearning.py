"""What a method is asked before deletion and after it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.inline_sweep import InlineSweep
from support.stage_contexts import (
    Asked,
    context_of,
    entry_of,
    jobs_of,
    rows_of,
    split_document,
    with_source,
)

from oneshui.errors import NumericalError
from oneshui.requests import FullAccessRequest
from oneshui.seeding import derive_seed
from oneshui.spec import ModelSpec
from oneshui.training.models import make_model
from sweeps.graph.job import Job
from sweeps.stages import one_shot, unlearning
from sweeps.store.checkpoints import PacedPrepareCheckpoint


def cell_job(cells: InlineSweep, stage: Any, cell: int, **spec: Any) -> Job:
    """A job about the pretrained model of a cell, in place of a row's."""
    pretrain = jobs_of(cells, "pretrain", training_seed=cell)[0]
    data = {role: key for role, key in pretrain.inputs.items() if role != "crops"}
    return Job(
        stage=stage,
        spec=with_source({"model": pretrain.spec["model"], "unlearning_seed": 10 + cell, **spec}),
        inputs={**data, "pretrained": pretrain.key},
        label=f"{stage} of a test",
    )


@pytest.mark.parametrize("cell", [0, 1])
def test_a_preparation_gets_the_whole_training_set(
    cells: InlineSweep, asked: Asked, draft: Path, monkeypatch: pytest.MonkeyPatch, cell: int
) -> None:
    paces: list[float] = []

    class Paced(PacedPrepareCheckpoint):
        def __init__(self, checkpoint: Any, seconds: float) -> None:
            paces.append(seconds)
            super().__init__(checkpoint, seconds)

    monkeypatch.setattr(one_shot, "PacedPrepareCheckpoint", Paced)
    values = {"method": "curious", "hyperparameters": {}, "num_forget": 2}
    job = cell_job(cells, "prepare", cell, **values)
    assert unlearning.prepare(context_of(cells, job, draft)) == {"tensors": 1}
    (request,) = asked.prepare
    document = split_document(cells, job)
    assert request.train.rows.tolist() == rows_of(cells, document, "train")
    assert request.val.rows.tolist() == rows_of(cells, document, "val")
    assert list(request.train_identities) == document["train"]
    assert request.num_forget == 2
    assert request.seed == derive_seed(10 + cell, "curious", "prepare")
    assert paces == [cells.env.checkpoint_seconds]
    weights = load_file(entry_of(cells, job.inputs["pretrained"]).folder / "weights.safetensors")
    assert all(torch.equal(v, weights[k]) for k, v in request.model.state_dict().items())
    assert load_file(draft / "prepared.safetensors")["kept"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("cell", [0, 1])
def test_a_one_shot_method_gets_s_its_preparation_and_seed(
    cells: InlineSweep, asked: Asked, draft: Path, cell: int
) -> None:
    job = cell_job(cells, "unlearn", cell, method="curious", hyperparameters={})
    job = dataclasses.replace(
        job, inputs={role: job.inputs[role] for role in ("pretrained", "split")}
    )
    context = context_of(cells, job, draft)
    # Weights of a network are as good as any for what was prepared.
    kept = draft / "kept.safetensors"
    kept.write_bytes(context.entries["pretrained"].file("weights.safetensors").read_bytes())
    prepared: Any = SimpleNamespace(file=lambda _name: kept)
    context = dataclasses.replace(context, entries={**context.entries, "prepared": prepared})
    unlearning.unlearn(context)
    (request,) = asked.unlearn
    assert not isinstance(request, FullAccessRequest)
    assert request.seed == derive_seed(10 + cell, "curious", "unlearn")
    assert request.prepared.keys() == load_file(kept).keys()
    document = split_document(cells, job)
    assert request.support.identities.tolist() == document["forget"]
    assert len(request.support.images) == len(document["support"])
    written = load_file(draft / "weights.safetensors")
    before = load_file(kept)
    assert any(not torch.equal(written[name], before[name]) for name in before)


@pytest.mark.parametrize("cell", [0, 1])
def test_a_reference_row_gets_the_sets_and_the_model_that_retraining_begins_with(
    cells: InlineSweep, asked: Asked, draft: Path, cell: int
) -> None:
    recipe = jobs_of(cells, "retrain", training_seed=cell)[0].spec["training"]
    values = {"method": "nosy", "hyperparameters": {}, "training": recipe, "training_seed": cell}
    job = cell_job(cells, "unlearn", cell, **values)
    unlearning.unlearn(context_of(cells, job, draft))
    (request,) = asked.unlearn
    assert isinstance(request, FullAccessRequest)
    document = split_document(cells, job)
    for name in ("forget", "retain", "val"):
        assert getattr(request, name).rows.tolist() == rows_of(cells, document, name), name
    assert request.seed == derive_seed(10 + cell, "nosy", "unlearn")
    assert request.training.epochs == recipe["epochs"]
    outputs = request.forget.labels.shape[1]
    fresh = make_model(ModelSpec(**job.spec["model"]), outputs, derive_seed(cell, 0)).state_dict()
    handed = request.fresh_model.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in handed.items())


def test_what_a_study_chose_is_used_and_told(cells: InlineSweep, asked: Asked, draft: Path) -> None:
    job = cell_job(cells, "unlearn", 0, method="curious", hyperparameters={"beta": 7.0})
    job = dataclasses.replace(
        job, inputs={role: job.inputs[role] for role in ("pretrained", "split")}
    )
    context = context_of(cells, job, draft)
    assert unlearning.unlearn(context) == {}
    chosen: Any = SimpleNamespace(value={"hyperparameters": {"alpha": 3.0}})
    tuned = dataclasses.replace(context, entries={**context.entries, "tuned": chosen})
    assert unlearning.unlearn(tuned) == {"hyperparameters": {"alpha": 3.0}}
    assert asked.methods == [(1.0, 7.0), (3.0, 7.0)]
    assert {"method_seconds", "peak_bytes"} <= context.cost.keys()
    assert 0 < context.cost["method_seconds"] < 600


def test_a_preparation_with_one_number_that_is_not_finite_is_not_kept(
    cells: InlineSweep, asked: Asked, draft: Path
) -> None:
    job = cell_job(cells, "prepare", 0, method="curious", hyperparameters={}, num_forget=2)
    asked.prepared = {"good": torch.ones(2), "bad": torch.tensor([1.0, float("nan"), 1.0])}
    with pytest.raises(NumericalError, match="curious prepared bad"):
        unlearning.prepare(context_of(cells, job, draft))
    assert not list(draft.iterdir())
