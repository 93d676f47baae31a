"""The flat experiment ``<sweep>-leaderboard``: one run per method, dataset and forget size.

Where there are several, one more run per method stands for all of them together.

One page of MLflow's UI shows a hundred runs and no tree, so the comparison gets an experiment of
its own, with means that a person reads at a glance. Rows that do not compete have their ToW under
another name: sorted by ToW they stand below all that do, and charts of it leave them out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import pandas as pd

from oneshui.origin import git_commit
from oneshui.spec import DATA_SEEN, Access, Role
from sweeps.graph.job import digest
from sweeps.inference.rows import is_ranked, names
from sweeps.report.measures import CATALOGUE, Chosen
from sweeps.report.summary import KEYS
from sweeps.report.tables import NOT_TUNED, NOTHING_TO_CHOOSE
from sweeps.tracking.runs import COMMIT, CONTENT, GRID, LATEST, SOURCE, Runs, Wanted, all_runs
from sweeps.tracking.views import SavedView, chart, save, table

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

SHOWN = Chosen(lambda measure: bool(measure.board))
"""Measures whose means the board shows, by names that are short enough for a column's head."""
DIGITS = 4
IDENTITY = ("oneshui.board", "method", "dataset", "num_forget")
VERSION = "4"
EVERYWHERE = "all datasets"
"""In place of a dataset's name, of a row over all datasets and forget sizes."""

TOW = CATALOGUE["tow"].board
"""A capital letter comes first in MLflow, which sorts its columns by their codes."""
REFERENCE_TOW = f"reference/{TOW}"
RANKED, REFERENCE = "ranked", "reference"

_SCORES = ("forget", "retain", "test", "mia_auc", "rmia_auc")
_FEW = (TOW, f"{TOW}_std", f"{TOW}_n", "forget", "retain", "test", REFERENCE_TOW)
_ALL = tuple(f"{name}{part}" for name in (TOW, *_SCORES) for part in ("", "_std", "_n"))
_PARAMS = ("access", "dataset", "num_forget", "standing")
_SECTIONS = {
    "ToW of the ranked rows": (TOW,),
    "Against the retrained model": _SCORES,
    "Distances": (CATALOGUE["tow_normalised"].board, "gap/forget", "gap/retain", "gap/test"),
    "Costs": ("seconds",),
}
_RANKED_ALONE = f"tags.grid = '{LATEST}' AND tags.standing = '{RANKED}'"


def _columns(metrics: Sequence[str]) -> list[str]:
    return [f"metrics.{name}" for name in metrics] + [f"params.{name}" for name in _PARAMS]


TABLE = table("oneshui-table", "Leaderboard by ToW", _columns(_FEW), f"metrics.{TOW}")
WHOLE = table("oneshui-whole", "Leaderboard: mean, spread and n", _columns(_ALL), f"metrics.{TOW}")
CHART = chart("oneshui-chart", "Ranked rows as bars", _SECTIONS, f"metrics.{TOW}", _RANKED_ALONE)
VIEWS: tuple[SavedView, ...] = (TABLE, WHOLE, CHART)


def name_of(sweep: str) -> str:
    """Name of a sweep's leaderboard."""
    return f"{sweep}-leaderboard"


def publish(
    client: MlflowClient,
    experiment: Experiment,
    summary: pd.DataFrame,
    overall: pd.DataFrame | None = None,
    frame: pd.DataFrame | None = None,
) -> None:
    """Make the experiment show the summary, and set rows of other grids aside.

    Args:
        client: Of the tracking store.
        experiment: The leaderboard.
        summary: From ``sweeps.report.summary.summarise``.
        overall: From ``sweeps.inference.aggregate.aggregate``.
        frame: From ``sweeps.report.results.results_frame``, which the summary was made of: says of
            how many seeds each mean is.

    Raises:
        Exception: Whatever mlflow raises.
    """
    known = all_runs(client, experiment.experiment_id)
    runs = Runs(client, experiment.experiment_id, IDENTITY, known)
    shown = set()
    ranked = set(names(summary[is_ranked(summary)]))
    everywhere = () if overall is None else overall_runs(overall, ranked)
    for wanted in (*wanted_runs(summary, frame), *everywhere):
        runs.put(wanted)
        shown.add(tuple(wanted.tags[name] for name in IDENTITY))
    runs.set_aside(shown)
    save(client, experiment, VIEWS)


def wanted_runs(summary: pd.DataFrame, frame: pd.DataFrame | None = None) -> Iterable[Wanted]:
    """One run per row of the summary that has a finished seed."""
    counts: dict[Any, Any] = (
        {} if frame is None else frame.groupby(KEYS)[list(SHOWN)].count().to_dict("index")
    )
    made = _made()
    finished = summary[summary["n"] > 0]
    for row, competes in zip(finished.to_dict("records"), is_ranked(finished), strict=True):
        known = {str(name): value for name, value in row.items()}
        standing = RANKED if competes else REFERENCE
        metrics = dict(_metrics(known, standing, counts.get(tuple(row[key] for key in KEYS), {})))
        params = {
            "method": str(row["method"]),
            "dataset": str(row["dataset"]),
            "num_forget": str(row["num_forget"]),
            "role": str(row["role"]),
            "standing": standing,
            "access": str(row["access"]),
            "data_seen": str(row["data_seen"]),
            "tuning": NOT_TUNED if pd.isna(row["tuning"]) else str(row["tuning"]),
            "hyperparameters_from": NOTHING_TO_CHOOSE
            if pd.isna(row["hyperparameters_from"])
            else str(row["hyperparameters_from"]),
        }
        about = {
            "seeds": f"{row['n']}/{row['seeds']}",
            "as_retrained": _shown(row["equivalent"]),
        }
        name = f"{row['method']} {row['dataset']} n{row['num_forget']}"
        yield _wanted(name, "leaderboard", params, metrics, about | made)


def _made() -> dict[str, str]:
    """By what the runs were made; Git is asked once for all of them."""
    commit = git_commit()
    return {**SOURCE, **({COMMIT: commit} if commit else {})}


def _wanted(
    name: str,
    kind: str,
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    about: Mapping[str, str],
) -> Wanted:
    tags = {
        **params,
        **about,
        IDENTITY[0]: VERSION,
        "kind": kind,
        GRID: LATEST,
        CONTENT: digest({"metrics": metrics, "params": params}),
    }
    return Wanted(name=name, tags=tags, params=params, metrics=metrics)


def _metrics(
    row: Mapping[str, Any], standing: str, counts: Mapping[str, int]
) -> Iterable[tuple[str, float]]:
    yield "num_seeds", float(row["n"])
    for measure in SHOWN:
        name = CATALOGUE[measure].board
        if math.isnan(row[f"{measure}_mean"]):
            continue
        if measure == "tow" and standing == REFERENCE:
            if row["role"] == Role.RETRAIN:
                # 1 by definition.
                continue
            name = REFERENCE_TOW
        for part in ("mean", "std", "low", "high"):
            value = float(row[f"{measure}_{part}"])
            if not math.isnan(value):
                yield name if part == "mean" else f"{name}_{part}", round(value, DIGITS)
        yield f"{name}_n", float(counts.get(measure, row["n"]))


def _shown(equivalent: Any) -> str:
    return "unknown" if pd.isna(equivalent) else "shown" if equivalent else "not shown"


def overall_runs(overall: pd.DataFrame, ranked: AbstractSet[str]) -> Iterable[Wanted]:
    """One run per row that all datasets and forget sizes have."""
    parts = {"mean": "", "low": "_low", "high": "_high", "iqm": "_iqm", "num": "_n"}
    parts |= {"iqm_low": "_iqm_low", "iqm_high": "_iqm_high"}
    made = _made()
    for row in overall.to_dict("records"):
        standing = RANKED if row["method"] in ranked else REFERENCE
        name = TOW if standing == RANKED else REFERENCE_TOW
        metrics = {
            f"{name}{ending}": round(float(row[part]), DIGITS)
            for part, ending in parts.items()
            if not math.isnan(row[part])
        }
        metrics["num_datasets"] = float(row["num_datasets"])
        params = {
            "method": str(row["method"]),
            "dataset": EVERYWHERE,
            "num_forget": "all",
            "standing": standing,
            "access": str(row["access"]),
            "data_seen": DATA_SEEN[Access(row["access"])],
        }
        yield _wanted(f"{row['method']} {EVERYWHERE}", "overall", params, metrics, made)
