"""The one frame behind every table: means, spreads, intervals and ranks over the seeds.

Frames hold fractions in [0, 1] and seconds. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from oneshui.spec import DATA_SEEN, Access, Role
from sweeps.inference.comparisons import ATTACKS, Family, PairedTest, blocks
from sweeps.inference.evidence import Evidence
from sweeps.inference.intervals import interquartile_mean, ratio_of_means, t_intervals
from sweeps.inference.retrained import distances
from sweeps.inference.rows import BLOCK, by_seed, is_ranked, of_role
from sweeps.inference.testing import ALPHA, ranks
from sweeps.report.measures import CATALOGUE, RANKED, SUMMARISED
from sweeps.report.results import ALSO, MADE

PARTS = ("mean", "std", "low", "high", "iqm")
KEYS = [*BLOCK, "method"]

_PLACES = {Access.SUPPORT: 1, Access.PREPARED: 2, Access.FULL: 3}


def summarise(frame: pd.DataFrame, evidence: Evidence | None = None) -> pd.DataFrame:
    """Means and what they are worth, over the seeds.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
        evidence: What was tested about it; gathered here by default.

    Returns:
        One row per dataset, forget size and method: within each dataset and forget size first
        doing nothing, then the rows by access (support, prepared, full), each in the order of the
        plan. Columns dataset, num_forget, method, role, access, tuning (the objective; null where
        the hyperparameters are used as given), data_seen, task, requests (per seed), n (finished
        seeds), seeds (planned), mixed (what of ``sweeps.report.results.MADE`` differs among the
        jobs behind the row, in words; empty if nothing does), hyperparameters_from (as in the
        frame), against_nothing (1 for a ToW that is shown to be above doing nothing, -1 for below,
        0 for neither; null without doing nothing or a second seed), equivalent (whether the row is
        shown to be as near to retraining as retraining itself; null where nothing was retrained
        twice) and equivalent_p (its corrected p), mia_auc_below and rmia_auc_below (whether the
        attack is shown to find less than in retrained models and than by chance: the row forgets
        too much; null where nothing was tested), compared_with (the row of choice, else doing
        nothing), difference (mean ToW minus its, over seeds that have both), difference_low and
        difference_high (95 %, Student's) and difference_p (corrected; null where nothing was
        tested), ``<measure>_mean``, ``_std`` (ddof 1), ``_low``
        and ``_high`` (95 % interval of the mean, Student's) and ``_iqm`` (interquartile mean) of
        ``SUMMARISED``: fractions in [0, 1] and seconds, null where the seeds do not suffice; and
        ``<measure>_rank`` of ``RANKED``: 1 and 2 for rows that are shown to be best and best of the
        rest, null for all others. The normalised ToW is a ratio of means: gain over doing nothing
        over retraining's gain (of the model that was retrained again, where there is one), with
        Fieller's interval; it has no spread, and is null where retraining's gain is not three
        standard errors above 0.
    """
    frame = frame.reset_index(drop=True)
    evidence = evidence or Evidence.of(frame)
    groups = frame.groupby(KEYS, sort=False)
    parts = {
        "role": groups["role"].first(),
        "access": groups["access"].first(),
        "tuning": groups["tuning"].first(),
        "task": groups["task"].first(),
        "requests": groups["requests"].first(),
        "n": groups["retain_score"].count(),
        "seeds": groups.size(),
        "mixed": pd.Series(
            [_mixed(rows) for _, rows in groups[list(MADE)]],
            index=groups.size().index,
            dtype="str",
        ),
        "hyperparameters_from": groups["hyperparameters_from"].first(),
    }
    index = parts["n"].index
    own, places = groups.ngroup().to_numpy(), groups.cumcount().to_numpy()
    values = np.full((len(SUMMARISED), len(index), places.max(initial=0) + 1), np.nan)
    values[:, own, places] = frame[list(SUMMARISED)].to_numpy(dtype="float64").T
    for measure, by_row in zip(SUMMARISED, values, strict=True):
        parts[f"{measure}_mean"] = groups[measure].mean()
        parts[f"{measure}_std"] = groups[measure].std(ddof=1)
        ends = t_intervals(by_row)
        if CATALOGUE[measure].unit == "fraction":
            ends = ends.clip(0, 1)
        known = [row[~np.isnan(row)] for row in by_row]
        parts[f"{measure}_low"] = pd.Series(ends[:, 0], index=index)
        parts[f"{measure}_high"] = pd.Series(ends[:, 1], index=index)
        parts[f"{measure}_iqm"] = pd.Series(map(interquartile_mean, known), index=index)
    shares = _normalised(frame, index)
    for part in PARTS:
        found = shares[part] if part in shares else pd.Series(math.nan, index=index)
        parts[f"tow_normalised_{part}"] = found
    table = pd.DataFrame(parts).reset_index()
    table.insert(6, "data_seen", table["access"].map(lambda access: DATA_SEEN[Access(access)]))
    table = table.loc[_order(table)].reset_index(drop=True)
    table.insert(13, "against_nothing", _against_nothing(table, evidence))
    for place, (name, column) in enumerate(_equivalence(table, evidence).items(), start=14):
        table.insert(place, str(name), column)
    for place, (name, column) in enumerate(_compared(frame, table, evidence).items(), start=16):
        table.insert(place, str(name), column)
    ranked = {f"{measure}_rank": _ranks(frame, table, measure) for measure in RANKED}
    return pd.concat([table, pd.DataFrame(ranked, index=table.index)], axis=1)


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


def _equivalence(table: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """Corrected p of being as near to retraining as retraining itself, and whether it is shown."""
    p_values = _by_row(evidence, "retrained", "tow", lambda test: test.p_corrected)
    found = [p_values.get(key, math.nan) for key in _keys(table)]
    p = pd.Series(found, index=table.index, dtype="float64")
    is_shown = (p <= ALPHA).astype("boolean").mask(p.isna())
    return pd.DataFrame({"equivalent": is_shown, "equivalent_p": p})


def _compared(frame: pd.DataFrame, table: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """Whether rows forget too much, and how they compare with the row of choice."""
    found = pd.DataFrame(index=table.index)
    for measure in ATTACKS:
        shown = _by_row(evidence, "below_chance", measure, lambda test: test.is_shown)
        own = [shown.get(key) for key in _keys(table)]
        found[f"{measure}_below"] = pd.Series(own, index=table.index, dtype="boolean")
    differences: dict[tuple[Any, ...], tuple[str, float, float, float]] = {}
    for block, rows in blocks(frame):
        known = by_seed(rows, "tow").dropna(axis="columns", how="all")
        other = evidence.reference or of_role(rows, Role.PRETRAIN)
        if other not in known:
            continue
        for name in known.columns.difference([other, of_role(rows, Role.RETRAIN)]):
            values = (known[name] - known[other]).to_numpy()
            ends = t_intervals(values[np.newaxis])[0]
            mean = float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
            differences[(*block, name)] = (str(other), mean, float(ends[0]), float(ends[1]))
    nothing = (None, math.nan, math.nan, math.nan)
    own = [differences.get(key, nothing) for key in _keys(table)]
    names = ["compared_with", "difference", "difference_low", "difference_high"]
    found[names] = pd.DataFrame(own, columns=names, index=table.index)
    found["compared_with"] = found["compared_with"].astype("str")
    family: Family = "reference" if evidence.reference else "nothing"
    p_values = _by_row(evidence, family, "tow", lambda test: test.p_corrected)
    found["difference_p"] = [p_values.get(key, math.nan) for key in _keys(table)]
    return found


def _by_row(
    evidence: Evidence, family: Family, measure: str, value: Callable[[PairedTest], Any]
) -> dict[tuple[Any, ...], Any]:
    """What the tests of a family say of a measure, by dataset, forget size and row."""
    return {
        (*test.block, test.method): value(test)
        for test in evidence.tests
        if test.family == family and test.measure == measure
    }


def _against_nothing(table: pd.DataFrame, evidence: Evidence) -> pd.Series[Any]:
    """1, -1 and 0 for rows that are shown to be better, worse or neither."""
    signs = {
        (*test.block, test.method): test.is_shown * (1 if test.difference > 0 else -1)
        for test in evidence.tests
        if test.family == "nothing" and not math.isnan(test.p_corrected)
    }
    return pd.Series([signs.get(key) for key in _keys(table)], index=table.index, dtype="Int64")


def _normalised(frame: pd.DataFrame, index: pd.Index[Any]) -> pd.DataFrame:
    """Mean gain of a row over doing nothing as a share of retraining's, by KEYS."""
    found = pd.DataFrame(math.nan, index=index, columns=["mean", "low", "high"])
    for (dataset, num_forget), rows in frame.groupby(BLOCK, sort=False):
        nothing, goal = of_role(rows, Role.PRETRAIN), of_role(rows, Role.RETRAIN_AGAIN)
        if nothing is None:
            continue
        tow = by_seed(rows, "tow")
        # What defines 0 and 100 has no number of its own.
        yardsticks = {nothing, goal, of_role(rows, Role.RETRAIN)}
        goals = tow[goal] if goal is not None else 1.0
        for method in tow:
            if method in yardsticks:
                continue
            gains = pd.DataFrame(
                {"own": tow[method] - tow[nothing], "way": goals - tow[nothing]}
            ).dropna()
            found.loc[(dataset, num_forget, method)] = ratio_of_means(gains["own"], gains["way"])
    return found


def _ranks(frame: pd.DataFrame, table: pd.DataFrame, measure: str) -> pd.Series[Any]:
    """1 and 2 for rows that are shown to be best and best of the rest."""
    found = pd.Series(pd.NA, index=table.index, dtype="Int64")
    goodness = _goodness(frame, measure)
    competes = is_ranked(frame) & goodness.notna()
    places = {key: i for i, key in zip(table.index, _keys(table), strict=True)}
    for (dataset, num_forget), rows in frame[competes].groupby(BLOCK, sort=False):
        values = goodness[rows.index].to_frame("goodness").join(rows[["seed", "method"]])
        by_method = values.pivot(index="seed", columns="method", values="goodness")
        for method, rank in zip(by_method, ranks(by_method.to_numpy()), strict=True):
            if rank:
                found[places[dataset, num_forget, method]] = rank
    return found


def _keys(table: pd.DataFrame) -> Iterable[tuple[Any, ...]]:
    return table[KEYS].itertuples(index=False, name=None)


def _goodness(frame: pd.DataFrame, measure: str) -> pd.Series[float]:
    """Values turned so that higher is better, cell by cell; null where a yardstick is missing."""
    goal = CATALOGUE[measure].better
    if goal == "highest":
        return frame[measure]
    return -(frame[measure] if goal == "lowest" else distances(frame, measure))
