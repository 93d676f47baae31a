"""The one frame behind every table: means, spreads, intervals and ranks over the seeds.

Frames hold fractions in [0, 1] and seconds. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from oneshui.spec import DATA_SEEN, Access, Role
from sweeps.report.measures import CATALOGUE, RANKED, SUMMARISED
from sweeps.report.results import ALSO, MADE
from sweeps.report.statistics import bootstrap_interval, interquartile_mean, is_ranked, noise_floor

PARTS = ("mean", "std", "low", "high", "iqm")
KEYS = ["dataset", "num_forget", "method"]
_GROUP = KEYS[:2]

_PLACES = {Access.SUPPORT: 1, Access.PREPARED: 2, Access.FULL: 3}


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Means and what they are worth, over the seeds.

    Args:
        frame: From ``sweeps.report.results.results_frame``.

    Returns:
        One row per dataset, forget size and method: within each dataset and forget size first
        doing nothing, then the rows by access (support, prepared, full), each in the order of the
        plan. Columns dataset, num_forget, method, role, access, tuning (the objective; null where
        the hyperparameters are used as given), data_seen, task, n (finished seeds), seeds
        (planned), mixed (what of
        ``sweeps.report.results.MADE`` differs among the jobs behind the row, in words; empty if
        nothing does), within_noise (whether the mean ToW reaches the noise floor; null without
        one), hyperparameters_from (as in the frame), ``<measure>_mean``, ``_std`` (ddof 1),
        ``_low`` and ``_high`` (95 % bootstrap
        interval) and ``_iqm`` (interquartile mean) of ``SUMMARISED``: fractions in [0, 1] and
        seconds, null where the seeds do not suffice; and ``<measure>_rank`` of ``RANKED``: 1 and
        2 for best and second best, null for all others.
    """
    groups = frame.groupby(KEYS, sort=False)
    parts = {
        "role": groups["role"].first(),
        "access": groups["access"].first(),
        "tuning": groups["tuning"].first(),
        "task": groups["task"].first(),
        "n": groups["retain_score"].count(),
        "seeds": groups.size(),
        "mixed": pd.Series(
            [_mixed(rows) for _, rows in groups[list(MADE)]],
            index=groups.size().index,
            dtype="str",
        ),
        "hyperparameters_from": groups["hyperparameters_from"].first(),
    }
    values = [rows for _, rows in groups[list(SUMMARISED)]]
    for measure in SUMMARISED:
        parts[f"{measure}_mean"] = groups[measure].mean()
        parts[f"{measure}_std"] = groups[measure].std(ddof=1)
        known = [rows[measure].dropna().to_numpy() for rows in values]
        ends = np.array([bootstrap_interval(sample) for sample in known]).reshape(-1, 2)
        index = parts[f"{measure}_mean"].index
        parts[f"{measure}_low"] = pd.Series(ends[:, 0], index=index)
        parts[f"{measure}_high"] = pd.Series(ends[:, 1], index=index)
        parts[f"{measure}_iqm"] = pd.Series(map(interquartile_mean, known), index=index)
    table = pd.DataFrame(parts).reset_index()
    table.insert(6, "data_seen", table["access"].map(lambda access: DATA_SEEN[Access(access)]))
    table = table.loc[_order(table)].reset_index(drop=True)
    table.insert(11, "within_noise", _within_noise(table, frame))
    ranks = {f"{measure}_rank": _ranks(table, measure) for measure in RANKED}
    return pd.concat([table, pd.DataFrame(ranks, index=table.index)], axis=1)


def _mixed(made: pd.DataFrame) -> str:
    def distinct(name: str) -> set[str]:
        return {one for value in made[name].dropna() for one in str(value).split(ALSO)}

    return ", ".join(name for name in MADE if len(distinct(name)) > 1)


def group_of(role: str, access: str) -> int:
    """Which rows belong together: 0 doing nothing, 1 support, 2 prepared, 3 full access."""
    return 0 if role == Role.PRETRAIN else _PLACES[Access(access)]


def _order(table: pd.DataFrame) -> pd.Index[int]:
    blocks = list(zip(table["dataset"], table["num_forget"], strict=True))
    place = {key: i for i, key in enumerate(dict.fromkeys(blocks))}
    rows = zip(table["role"], table["access"], strict=True)
    return (
        pd.DataFrame(
            {"block": [place[key] for key in blocks], "group": [group_of(*row) for row in rows]},
            index=table.index,
        )
        .sort_values(["block", "group"], kind="stable")
        .index
    )


def _within_noise(table: pd.DataFrame, frame: pd.DataFrame) -> pd.Series[Any]:
    floors = noise_floor(frame)
    found = []
    competes = is_ranked(table) | (table["role"] == Role.PRETRAIN)
    for row, is_compared in zip(table.to_dict("records"), competes, strict=True):
        floor = floors.get((row["dataset"], row["num_forget"]))
        is_known = is_compared and floor is not None and not math.isnan(row["tow_mean"])
        found.append(row["tow_mean"] >= floor.tow if floor and is_known else None)
    return pd.Series(found, index=table.index, dtype="boolean")


def _ranks(table: pd.DataFrame, measure: str) -> pd.Series[Any]:
    """Best and second best where the lead is more than one standard error."""
    ranks = pd.Series(pd.NA, index=table.index, dtype="Int64")
    competes = is_ranked(table)
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
    goal = CATALOGUE[measure].better
    if goal == "highest":
        return lambda means: -means
    if goal == "lowest":
        return lambda means: means
    if goal == "chance":
        return lambda means: (means - 0.5).abs()
    yardstick = rows.loc[rows["role"] == Role.RETRAIN, f"{measure}_mean"].dropna()
    if yardstick.empty:
        return None
    level = float(yardstick.iloc[0])
    return lambda means: (means - level).abs()
