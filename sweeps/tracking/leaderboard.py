"""The flat experiment ``<sweep>-leaderboard``: one run per method, dataset and forget size.

Where there are several, one more run per method stands for all of them together.

One page of MLflow's UI shows a hundred runs and no tree, so the comparison gets an experiment of
its own, with means that a person reads at a glance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from oneshui.spec import DATA_SEEN, Access
from sweeps.graph.job import digest
from sweeps.report.measures import CATALOGUE
from sweeps.report.tables import NOT_TUNED, NOTHING_TO_CHOOSE
from sweeps.tracking.runs import CONTENT, GRID, LATEST, Runs, Wanted, all_runs
from sweeps.tracking.views import SavedView, chart, save, table

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

SHOWN = {key: measure.board for key, measure in CATALOGUE.items() if measure.board}
"""Names of the means, short enough to be read in a column's head."""
DIGITS = 4
IDENTITY = ("oneshui.board", "method", "dataset", "num_forget")
VERSION = "3"
EVERYWHERE = "all datasets"
"""In place of a dataset's name, of a row over all datasets and forget sizes."""

_METRICS = ("tow", "retain", "forget", "test", "mia_auc", "num_seeds")
_COLUMNS = [f"metrics.{name}" for name in _METRICS] + ["params.dataset", "params.num_forget"]
_SECTIONS = {
    "Against the retrained model": ("tow", "forget", "retain", "test", "mia_auc", "rmia_auc"),
    "Distances and costs": ("tow_norm", "gap/forget", "gap/retain", "gap/test", "seconds"),
}
TABLE = table("oneshui-table", "Leaderboard by ToW", _COLUMNS, "metrics.tow")
CHART = chart("oneshui-chart", "ToW by method", _SECTIONS, "metrics.tow", "method")
VIEWS: tuple[SavedView, ...] = (TABLE, CHART)


def name_of(sweep: str) -> str:
    """Name of a sweep's leaderboard."""
    return f"{sweep}-leaderboard"


def publish(
    client: MlflowClient,
    experiment: Experiment,
    summary: pd.DataFrame,
    overall: pd.DataFrame | None = None,
) -> None:
    """Make the experiment show the summary, and set rows of other grids aside.

    Args:
        client: Of the tracking store.
        experiment: The leaderboard.
        summary: From ``sweeps.report.summary.summarise``.
        overall: From ``sweeps.inference.aggregate.aggregate``.

    Raises:
        Exception: Whatever mlflow raises.
    """
    known = all_runs(client, experiment.experiment_id)
    runs = Runs(client, experiment.experiment_id, IDENTITY, known)
    shown = set()
    everywhere = () if overall is None else overall_runs(overall)
    for wanted in (*wanted_runs(summary), *everywhere):
        runs.put(wanted)
        shown.add(tuple(wanted.tags[name] for name in IDENTITY))
    runs.set_aside(shown)
    save(client, experiment, VIEWS)


def wanted_runs(summary: pd.DataFrame) -> Iterable[Wanted]:
    """One run per row of the summary that has a finished seed."""
    for row in summary[summary["n"] > 0].to_dict("records"):
        metrics = dict(_metrics({str(name): value for name, value in row.items()}))
        params = {
            "method": str(row["method"]),
            "dataset": str(row["dataset"]),
            "num_forget": str(row["num_forget"]),
            "access": str(row["access"]),
            "data_seen": str(row["data_seen"]),
            "tuning": NOT_TUNED if pd.isna(row["tuning"]) else str(row["tuning"]),
            "hyperparameters_from": NOTHING_TO_CHOOSE
            if pd.isna(row["hyperparameters_from"])
            else str(row["hyperparameters_from"]),
        }
        tags = {
            IDENTITY[0]: VERSION,
            "kind": "leaderboard",
            "method": params["method"],
            "dataset": params["dataset"],
            "num_forget": f"{row['num_forget']:03d}",
            "access": params["access"],
            "tuning": params["tuning"],
            "hyperparameters_from": params["hyperparameters_from"],
            "seeds": f"{row['n']}/{row['seeds']}",
            "as_retrained": _shown(row["equivalent"]),
            GRID: LATEST,
            CONTENT: digest({"metrics": metrics, "params": params}),
        }
        yield Wanted(
            name=f"{row['method']} {row['dataset']} n{row['num_forget']}",
            tags=tags,
            params=params,
            metrics=metrics,
        )


def _metrics(row: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    yield "num_seeds", float(row["n"])
    for measure, name in SHOWN.items():
        parts = {"mean": name, "std": f"std/{name}", "low": f"ci_low/{name}"}
        for part, title in {**parts, "high": f"ci_high/{name}"}.items():
            value = float(row[f"{measure}_{part}"])
            if not math.isnan(value):
                yield title, round(value, DIGITS)


def _shown(equivalent: Any) -> str:
    return "unknown" if pd.isna(equivalent) else "shown" if equivalent else "not shown"


def overall_runs(overall: pd.DataFrame) -> Iterable[Wanted]:
    """One run per row that all datasets and forget sizes have."""
    parts = {"mean": "tow", "low": "ci_low/tow", "high": "ci_high/tow", "iqm": "iqm/tow"}
    parts |= {"iqm_low": "ci_low/iqm", "iqm_high": "ci_high/iqm"}
    for row in overall.to_dict("records"):
        metrics = {
            name: round(float(row[part]), DIGITS)
            for part, name in parts.items()
            if not math.isnan(row[part])
        }
        metrics |= {"num_values": float(row["num"]), "num_datasets": float(row["num_datasets"])}
        params = {
            "method": str(row["method"]),
            "dataset": EVERYWHERE,
            "access": str(row["access"]),
            "data_seen": DATA_SEEN[Access(row["access"])],
        }
        tags = {
            IDENTITY[0]: VERSION,
            "kind": "overall",
            "method": params["method"],
            "dataset": EVERYWHERE,
            "num_forget": "all",
            "access": params["access"],
            GRID: LATEST,
            CONTENT: digest({"metrics": metrics, "params": params}),
        }
        name = f"{row['method']} {EVERYWHERE}"
        yield Wanted(name=name, tags=tags, params=params, metrics=metrics)
