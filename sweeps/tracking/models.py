"""Weights of a row as a model of MLflow, on request: safetensors, and words on how to load them.

No pickle: MLflow's own flavours for PyTorch would write one, and whoever loads a pickle runs it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.graph.artifacts import WEIGHTS
from sweeps.graph.plan import Plan, ResultRow
from sweeps.store import Entry

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLAVOUR = "oneshui"
CONTENT = "oneshui.content"
HOW = """\
    import json
    from pathlib import Path
    from mlflow.artifacts import download_artifacts
    from oneshui.spec import ModelSpec
    from oneshui.training.models import load_weights, make_model

    folder = Path(download_artifacts("models:/<model id>"))
    about = json.loads((folder / "model.json").read_text())
    model = make_model(ModelSpec(**about["model"]), about["num_outputs"], seed=0)
    load_weights(model, folder / "weights.safetensors")
"""


def log_model(
    client: MlflowClient,
    experiment_id: str,
    run_id: str,
    plan: Plan,
    row: ResultRow,
    entries: Mapping[str, Entry],
) -> None:
    """Hang a row's weights, of several requests the first, on its run, unless they hang there.

    Raises:
        KeyError: Model or split are not among the entries.
        Exception: Whatever mlflow or the store raises.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.entities.logged_model_status import LoggedModelStatus
    from mlflow.models import Model

    entry = entries[row.model_key]
    for known in client.search_logged_models(
        [experiment_id], filter_string=f"source_run_id = '{run_id}'"
    ):
        if known.tags.get(CONTENT) == entry.content and known.status == LoggedModelStatus.READY:
            return
        client.delete_logged_model(known.model_id)
    about = {
        # A network's starting weights are overwritten: they need not be there.
        "model": {**plan.sweep.model.to_json(), "weights": "random"},
        "num_outputs": entries[row.split_key].value["num_outputs"],
        "task": entries[row.split_key].value["task"],
    }
    made = client.create_logged_model(
        experiment_id,
        name=row.row.name,
        source_run_id=run_id,
        tags={CONTENT: entry.content, "dataset": row.cell.dataset, "seed": str(row.cell.seed)},
        model_type=FLAVOUR,
    )
    with tempfile.TemporaryDirectory(prefix="oneshui-model-") as name:
        folder = Path(name)
        shutil.copyfile(entry.file(WEIGHTS), folder / WEIGHTS)
        (folder / "model.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        words = f"# How to load it\n\n{HOW.replace('<model id>', made.model_id)}"
        (folder / "README.md").write_text(words, encoding="utf-8")
        flavours = {FLAVOUR: {"weights": WEIGHTS, "about": "model.json"}}
        Model(run_id=run_id, flavors=flavours, model_id=made.model_id).save(folder / "MLmodel")
        client.log_model_artifacts(made.model_id, str(folder))
    client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
