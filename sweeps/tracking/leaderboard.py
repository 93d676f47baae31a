"""The flat experiment ``<sweep>-leaderboard``: one run per method, dataset and forget size.

One page of MLflow's UI shows a hundred runs and no tree, so the comparison gets an experiment of
its own, with means that a person reads at a glance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

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


def publish(client: MlflowClient, experiment: Experiment, summary: pd.DataFrame) -> None:
    """Make the experiment show the summary, and set rows of other grids aside.

    Args:
        client: Of the tracking store.
        experiment: The leaderboard.
        summary: From ``sweeps.report.summary.summarise``.

    Raises:
        Exception: Whatever mlflow raises.
    """
    known = all_runs(client, experiment.experiment_id)
    runs = Runs(client, experiment.experiment_id, IDENTITY, known)
    shown = set()
    for wanted in wanted_runs(summary):
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
            "noise_floor": _noise(row["within_noise"]),
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


def _noise(within: Any) -> str:
    return "unknown" if pd.isna(within) else "inside" if within else "below"
