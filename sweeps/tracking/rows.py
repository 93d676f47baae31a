"""What MLflow shows of one row of the results table: names, tags, params, metrics, its split."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from oneshui.spec import DATA_SEEN
from sweeps.graph.job import canonical_json
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report.measures import CATALOGUE
from sweeps.report.results import ALSO, announce, made_of, resolved_hyperparameters, row_values
from sweeps.report.tables import NOT_TUNED, NOTHING_TO_CHOOSE
from sweeps.store import Entry
from sweeps.tracking.curves import training_curves
from sweeps.tracking.runs import COMMIT, CONTENT, GRID, LATEST, PARENT, SOURCE, Wanted

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

VERSION = "6"
LONGEST = 6000
"""Characters of a param."""


def wanted_run(plan: Plan, row: ResultRow, entries: Mapping[str, Entry], parent: str) -> Wanted:
    """The run that a finished row shall be.

    Args:
        plan: The sweep's graph.
        row: One row of the results table.
        entries: At least the finished jobs that its numbers come from.
        parent: Id of the parent run.

    Raises:
        KeyError: The row's score is not among the entries.
    """
    announce((plan, entries))
    cell, values = row.cell, row_values(row, entries)
    made, params = made_of(plan, row, entries), _row_params(row)
    metrics = {
        measure.mlflow: float(values[name])
        for name, measure in tuple(CATALOGUE.items())
        if values[name] is not None and math.isfinite(values[name])
    }
    return Wanted(
        name=f"{row.row.name} {cell.dataset} n{cell.num_forget} s{cell.seed}",
        tags={**params, **_row_tags(row, entries), **_source(made), PARENT: parent},
        params={**params, **_hyperparameters(row, entries)},
        metrics=metrics,
        inputs=_inputs(row, entries),
        curves=training_curves(plan, row, entries),
    )


def _row_tags(row: ResultRow, entries: Mapping[str, Entry]) -> dict[str, str]:
    return {
        "kind": "cell",
        "method_source": row.row.source,
        GRID: LATEST,
        "oneshui.view": VERSION,
        "oneshui.job_key": row.score_key,
        "oneshui.weights": _weights(row, entries),
        CONTENT: entries[row.score_key].content,
    }


def plan_params(plan: Plan) -> dict[str, str]:
    """What a whole sweep is: grid, network, and what its datasets and rows have in common."""
    sweep = plan.sweep
    recipes = {canonical_json(recipe.to_json()) for recipe in sweep.training.values()}
    names = dict.fromkeys(row.name for rows in sweep.rows.values() for row in rows)
    grid: dict[str, Iterable[object]] = {
        "datasets": sweep.datasets,
        "num_forget": dict.fromkeys(cell.num_forget for cell in sweep.cells),
        "seeds": dict.fromkeys(cell.seed for cell in sweep.cells),
        "methods": names,
    }
    found: dict[str, object] = {
        "sweep": sweep.name,
        **{name: ", ".join(map(str, values)) for name, values in grid.items()},
        "requests": sweep.requests,
        "jobs": len(plan.jobs),
        "results": len(plan.results),
        "model.name": sweep.model.title,
        "model.image_size": sweep.model.image_size,
        "model.weights": "a file" if sweep.weights_content else sweep.model.weights,
        "preprocessing": sweep.preprocessing,
        "views": sweep.views,
    }
    if sweep.pretrained is not None:
        found["pretrained_saw"] = sweep.pretrained.saw
    if len(recipes) == 1:
        recipe = next(iter(sweep.training.values()))
        found |= {f"training.{name}": value for name, value in recipe.to_json().items()}
    if sweep.audit is not None:
        found |= {f"audit.{name}": value for name, value in asdict(sweep.audit).items()}
        found["audit.choose"] = sweep.choose
    if plan.studies:
        found |= {f"tuning.{name}": value for name, value in asdict(sweep.tuning).items()}
    return {name: str(value)[:LONGEST] for name, value in found.items()}


def _source(made: Mapping[str, str]) -> dict[str, str]:
    """What the row was computed with; MLflow's own columns for it hold one commit."""
    commit = made.get("commit", ALSO)
    return {**SOURCE, **made, **({} if ALSO in commit else {COMMIT: commit})}


def _weights(row: ResultRow, entries: Mapping[str, Entry]) -> str:
    """Where in the store the model is: MLflow keeps the link, never the weights."""
    entry = entries.get(row.model_key)
    first = f"{entry.stage}/{entry.key}" if entry else row.model_key
    more = len(row.model_keys) - 1
    return f"{first} and {more} more" if more else first


def _row_params(row: ResultRow) -> dict[str, str]:
    """What tells the row from others: params, which runs are grouped by, and the same as tags."""
    return {
        "method": row.row.name,
        "dataset": row.cell.dataset,
        "num_forget": str(row.cell.num_forget),
        "requests": str(row.requests),
        "seed": str(row.cell.seed),
        "role": str(row.row.role),
        "access": str(row.row.access),
        "data_seen": DATA_SEEN[row.row.access],
        "tuning": row.row.objective or NOT_TUNED,
        "hyperparameters_from": row.row.hyperparameters_from or NOTHING_TO_CHOOSE,
    }


def _hyperparameters(row: ResultRow, entries: Mapping[str, Entry]) -> dict[str, str]:
    resolved = resolved_hyperparameters(row, entries)
    return {f"hp.{name}": str(value) for name, value in resolved.items() if value is not None}


def _inputs(row: ResultRow, entries: Mapping[str, Entry]) -> list[DatasetInput]:
    """The cell's split, by its fingerprint, if its job is among the entries."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    split = entries.get(row.split_key)
    if split is None or "fingerprint" not in split.value:
        return []
    cell = row.cell
    value = split.value
    dataset = Dataset(
        name=f"{cell.dataset} n{cell.num_forget} s{cell.seed}",
        digest=str(value["fingerprint"]),
        source_type="oneshui",
        source=json.dumps({"store": f"split/{split.key}"}),
        profile=json.dumps({"num_images": value.get("num_images", {})}),
    )
    return [DatasetInput(dataset, [InputTag("mlflow.data.context", "split")])]
