"""The one frame behind every table: means, spreads, intervals and ranks over the seeds.

Frames hold fractions in [0, 1] and seconds. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from oneshui.spec import DATA_SEEN, Access
from sweeps.report.statistics import bootstrap_interval, interquartile_mean, is_ranked, noise_floor

MEASURES = (
    "retain_score",
    "forget_score",
    "test_score",
    "val_score",
    "tow",
    "mia_auc",
    "mia_acc",
    "mia_threshold_auc",
    "rmia_auc",
    "rmia_tpr",
    "tow_normalised",
    "retain_gap",
    "forget_gap",
    "test_gap",
    "unlearn_seconds",
    "prepare_seconds",
)
PARTS = ("mean", "std", "low", "high", "iqm")
KEYS = ["dataset", "num_forget", "method"]
_GROUP = KEYS[:2]

RANKING: Mapping[str, str] = {
    "retain_score": "highest",
    "forget_score": "retrain",
    "test_score": "highest",
    "tow": "highest",
    "tow_normalised": "highest",
    "mia_auc": "retrain",
    "mia_acc": "retrain",
    "rmia_auc": "chance",
    "unlearn_seconds": "lowest",
}
"""What is best in a column: the highest or lowest mean, or the one closest to retrain's or 0.5."""

_PLACES = {Access.SUPPORT: 1, Access.PREPARED: 2, Access.FULL: 3}


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Means and what they are worth, over the seeds.

    Args:
        frame: From ``sweeps.report.results.results_frame``.

    Returns:
        One row per dataset, forget size and method: within each dataset and forget size first
        doing nothing, then the rows by access (support, prepared, full), each in the order of the
        plan. Columns dataset, num_forget, method, access, tuning (the objective; null where the
        hyperparameters are used as given), data_seen, task, n (finished seeds), seeds (planned),
        within_noise (whether the mean ToW reaches the noise floor; null without one),
        ``<measure>_mean``, ``_std`` (ddof 1), ``_low`` and ``_high`` (95 % bootstrap
        interval) and ``_iqm`` (interquartile mean) of ``MEASURES``: fractions in [0, 1] and
        seconds, null where the seeds do not suffice; and ``<measure>_rank`` of ``RANKING``: 1 and
        2 for best and second best, null for all others.
    """
    groups = frame.groupby(KEYS, sort=False)
    parts = {
        "access": groups["access"].first(),
        "tuning": groups["tuning"].first(),
        "task": groups["task"].first(),
        "n": groups["retain_score"].count(),
        "seeds": groups.size(),
    }
    values = [rows for _, rows in groups[list(MEASURES)]]
    for measure in MEASURES:
        parts[f"{measure}_mean"] = groups[measure].mean()
        parts[f"{measure}_std"] = groups[measure].std(ddof=1)
        known = [rows[measure].dropna().to_numpy() for rows in values]
        ends = np.array([bootstrap_interval(sample) for sample in known]).reshape(-1, 2)
        index = parts[f"{measure}_mean"].index
        parts[f"{measure}_low"] = pd.Series(ends[:, 0], index=index)
        parts[f"{measure}_high"] = pd.Series(ends[:, 1], index=index)
        parts[f"{measure}_iqm"] = pd.Series(map(interquartile_mean, known), index=index)
    table = pd.DataFrame(parts).reset_index()
    table.insert(5, "data_seen", table["access"].map(lambda access: DATA_SEEN[Access(access)]))
    table = table.loc[_order(table)].reset_index(drop=True)
    table.insert(9, "within_noise", _within_noise(table, frame))
    ranks = {f"{measure}_rank": _ranks(table, measure) for measure in RANKING}
    return pd.concat([table, pd.DataFrame(ranks, index=table.index)], axis=1)


def group_of(method: str, access: Any) -> int:
    """Which rows belong together: 0 doing nothing, 1 support, 2 prepared, 3 full access."""
    return 0 if method == "pretrain" else _PLACES[Access(str(access))]


def _order(table: pd.DataFrame) -> pd.Index[int]:
    blocks = list(zip(table["dataset"], table["num_forget"], strict=True))
    place = {key: i for i, key in enumerate(dict.fromkeys(blocks))}
    rows = zip(table["method"], table["access"], strict=True)
    return (
        pd.DataFrame(
            {"block": [place[key] for key in blocks], "group": [group_of(m, a) for m, a in rows]},
            index=table.index,
        )
        .sort_values(["block", "group"], kind="stable")
        .index
    )


def _within_noise(table: pd.DataFrame, frame: pd.DataFrame) -> pd.Series[Any]:
    floors = noise_floor(frame)
    found = []
    for row in table.to_dict("records"):
        floor = floors.get((row["dataset"], row["num_forget"]))
        known = floor is not None and not math.isnan(row["tow_mean"])
        competes = is_ranked(row["method"], row["access"]) or row["method"] == "pretrain"
        found.append(row["tow_mean"] >= floor.tow if floor and known and competes else None)
    return pd.Series(found, index=table.index, dtype="boolean")


def _ranks(table: pd.DataFrame, measure: str) -> pd.Series[Any]:
    """Best and second best where the lead is more than one standard error."""
    ranks = pd.Series(pd.NA, index=table.index, dtype="Int64")
    competes = pd.Series(map(is_ranked, table["method"], table["access"]), index=table.index)
    for _, rows in table.groupby(_GROUP, sort=False):
        distance = _distance(rows, measure)
        if distance is None:
            continue
        error = rows[f"{measure}_std"] / np.sqrt(rows["n"])
        far = distance(rows[f"{measure}_mean"])
        known = far[competes.loc[rows.index] & far.notna()].sort_values(kind="stable").index[:3]
        for rank, (own, rival) in enumerate(itertools.pairwise(known), start=1):
            # Without a spread there is no standard error, and a lead cannot be told from chance.
            margin = max(error[own], error[rival])
            if math.isnan(margin) or not far[rival] - far[own] > margin:
                break
            ranks[own] = rank
    return ranks


def _distance(
    rows: pd.DataFrame, measure: str
) -> Callable[[pd.Series[float]], pd.Series[float]] | None:
    """How far means are from the best possible; None if the yardstick is missing."""
    goal = RANKING[measure]
    if goal == "highest":
        return lambda means: -means
    if goal == "lowest":
        return lambda means: means
    if goal == "chance":
        return lambda means: (means - 0.5).abs()
    yardstick = rows.loc[rows["method"] == "retrain", f"{measure}_mean"].dropna()
    if yardstick.empty:
        return None
    level = float(yardstick.iloc[0])
    return lambda means: (means - level).abs()
