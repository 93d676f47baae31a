"""What MLflow shows of one row of the results table: names, tags, params, metrics, its split."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from oneshui.spec import DATA_SEEN
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report.measures import CATALOGUE
from sweeps.report.results import made_of, resolved_hyperparameters, row_values
from sweeps.report.tables import NOT_TUNED, NOTHING_TO_CHOOSE
from sweeps.store import Entry
from sweeps.tracking.runs import CONTENT, GRID, LATEST, PARENT, Wanted

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

VERSION = "5"


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
    cell, values = row.cell, row_values(row, entries)
    metrics = {
        measure.mlflow: float(values[name])
        for name, measure in CATALOGUE.items()
        if values[name] is not None and math.isfinite(values[name])
    }
    return Wanted(
        name=f"{row.row.name} {cell.dataset} n{cell.num_forget} s{cell.seed}",
        tags={**_row_tags(row, entries), **made_of(plan, row, entries), PARENT: parent},
        params=_row_params(row, entries),
        metrics=metrics,
        inputs=_inputs(row, entries),
    )


def _row_tags(row: ResultRow, entries: Mapping[str, Entry]) -> dict[str, str]:
    return {
        "kind": "cell",
        "method": row.row.name,
        "dataset": row.cell.dataset,
        "num_forget": f"{row.cell.num_forget:03d}",
        "seed": f"{row.cell.seed:03d}",
        "access": str(row.row.access),
        "data_seen": DATA_SEEN[row.row.access],
        "tuning": row.row.objective or NOT_TUNED,
        "hyperparameters_from": row.row.hyperparameters_from or NOTHING_TO_CHOOSE,
        "method_source": row.row.source,
        GRID: LATEST,
        "oneshui.view": VERSION,
        "oneshui.job_key": row.score_key,
        "oneshui.weights": _weights(row, entries),
        CONTENT: entries[row.score_key].content,
    }


def _weights(row: ResultRow, entries: Mapping[str, Entry]) -> str:
    """Where in the store the model is: MLflow keeps the link, never the weights."""
    entry = entries.get(row.model_key)
    first = f"{entry.stage}/{entry.key}" if entry else row.model_key
    more = len(row.model_keys) - 1
    return f"{first} and {more} more" if more else first


def _row_params(row: ResultRow, entries: Mapping[str, Entry]) -> dict[str, str]:
    resolved = resolved_hyperparameters(row, entries)
    return {
        "method": row.row.name,
        "dataset": row.cell.dataset,
        "num_forget": str(row.cell.num_forget),
        "requests": str(row.requests),
        "seed": str(row.cell.seed),
        **{f"hp.{k}": str(v) for k, v in resolved.items() if v is not None},
    }


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
