"""Weights in MLflow: the documented lines load them, and no pickle is among the files."""

from __future__ import annotations

import dataclasses
import hashlib
import textwrap
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from support.publishing import COMMAND, PLAN, entries_of

from oneshui.spec import ModelSpec
from oneshui.training.models import make_model, save_weights
from sweeps.store import Entry
from sweeps.tracking import Publisher
from sweeps.tracking.client import connect, tracking_uri
from sweeps.tracking.models import HOW

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
(ROW, *_) = (row for row in PLAN.results if row.row.name == "retrain")
SPEC = ModelSpec(**PLAN.jobs[ROW.model_key].spec["model"])


def entries_with_weights(folder: Path, seed: int) -> dict[str, Entry]:
    entries = entries_of(PLAN)
    save_weights(make_model(SPEC, 5, seed), folder / "weights.safetensors")
    data = (folder / "weights.safetensors").read_bytes()
    entries[ROW.model_key] = dataclasses.replace(
        entries[ROW.model_key],
        folder=folder,
        content=f"weights {seed}",
        files={
            "weights.safetensors": {
                "sha256": hashlib.sha256(data).hexdigest(),
                "bytes": len(data),
            }
        },
    )
    split = entries[ROW.split_key]
    value = {**split.value, "num_outputs": 5, "task": "multilabel"}
    entries[ROW.split_key] = dataclasses.replace(split, value=value)
    return entries


def publish(output: Path, entries: dict[str, Entry], *, with_models: bool) -> list[Any]:
    publisher = Publisher("", PLAN, output, COMMAND, with_models=with_models)
    publisher.start()
    publisher.offer(ROW, entries)
    assert publisher.close("FINISHED") == []
    client = connect(tracking_uri("", output))
    experiment = client.get_experiment_by_name("smoke")
    assert experiment is not None
    return list(client.search_logged_models([experiment.experiment_id]))


def test_weights_are_a_model_on_request_and_the_documented_lines_load_it(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    entries = entries_with_weights(store, 3)
    assert publish(tmp_path, entries, with_models=False) == []
    (model,) = publish(tmp_path, entries, with_models=True)
    assert (model.name, model.status) == ("retrain", "READY")
    (again,) = publish(tmp_path, entries, with_models=True)
    assert again.model_id == model.model_id
    names = {path.name for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()}
    assert names == {"MLmodel", "README.md", "model.json", "weights.safetensors"}
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri("", tmp_path))
    try:
        known: dict[str, Any] = {}
        exec(textwrap.dedent(HOW.replace("<model id>", model.model_id)), known)
    finally:
        mlflow.set_tracking_uri(before)
    loaded, ours = known["model"].state_dict(), make_model(SPEC, 5, 3).state_dict()
    assert loaded.keys() == ours.keys()
    assert all(torch.equal(loaded[name], ours[name]) for name in ours)
    (other,) = publish(tmp_path, entries_with_weights(store, 4), with_models=True)
    assert other.model_id != model.model_id, "new weights replace the old ones"
