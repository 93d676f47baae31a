"""Retrained models as yardsticks: how near to retraining is as near as retraining is to itself.

Pure functions of frames. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from oneshui.metrics.tow import TOW_SETS, tow
from oneshui.spec import Role
from sweeps.inference.rows import CELL

YARDSTICKS = frozenset({Role.RETRAIN, Role.RETRAIN_AGAIN})


@dataclass(frozen=True, kw_only=True)
class Level:
    """What retrained models have among themselves.

    Attributes:
        num_cells: Cells with at least two retrained models.
        tow: Mean ToW of pairs of one cell, the noise floor, in [0, 1].
        lowest: The lowest of the cells' means.
    """

    num_cells: int
    tow: float
    lowest: float


def level_of(rows: pd.DataFrame) -> Level | None:
    """The level of one dataset and forget size; None if no cell was retrained twice.

    Args:
        rows: Of the results, or only those that are retrained models.
    """
    by_cell = nearness(rows[rows["role"].isin(YARDSTICKS)]).groupby("seed")["level"].first()
    if by_cell.empty:
        return None
    return Level(num_cells=len(by_cell), tow=float(by_cell.mean()), lowest=float(by_cell.min()))


def nearness(frame: pd.DataFrame) -> pd.DataFrame:
    """ToW of every row against all retrained models of its cell, itself left out.

    Against a single retrained model even a perfect method stays below 1, because two models that
    were retrained with other random numbers differ. So a row is held against every retrained
    model, and the level to reach is what retrained models have among themselves.

    Args:
        frame: From ``sweeps.report.results.results_frame``.

    Returns:
        One row per row of a cell with at least two retrained models: CELL, "method", "nearness"
        (mean ToW against the retrained models, in [0, 1]) and "level" (mean ToW of pairs of
        retrained models of the cell).
    """
    scores = [f"{name}_score" for name in TOW_SETS]
    known = frame[[*CELL, "method", "role", *scores]].dropna()
    found = []
    for cell, rows in known.groupby(CELL, sort=False):
        values = {
            method: dict(zip(TOW_SETS, own, strict=True))
            for method, *own in rows[["method", *scores]].itertuples(index=False, name=None)
        }
        yardsticks = list(rows.loc[rows["role"].isin(YARDSTICKS), "method"])
        if len(yardsticks) < 2:
            continue
        pairs = itertools.combinations(yardsticks, 2)
        level = float(np.mean([tow(values[one], values[other]) for one, other in pairs]))
        for method, own in values.items():
            others = [tow(own, values[name]) for name in yardsticks if name != method]
            found.append((*cell, method, float(np.mean(others)), level))
    return pd.DataFrame(found, columns=[*CELL, "method", "nearness", "level"])


def distances(frame: pd.DataFrame, measure: str) -> pd.Series[float]:
    """Distance of every row's value to those of the retrained models of its cell.

    Taken in every cell before any mean: a row that is ten points above in one seed and ten below in
    the next is ten points away, not none.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
        measure: Column of it.

    Returns:
        Mean of |value - value of a retrained model| over those of the cell that have one, itself
        left out; null without any. Same index as the frame.
    """
    is_yardstick = frame["role"].isin(YARDSTICKS) & frame[measure].notna()
    total = pd.Series(0.0, index=frame.index)
    count = pd.Series(0, index=frame.index)
    cells = pd.MultiIndex.from_frame(frame[CELL])
    for name in frame.loc[is_yardstick, "method"].unique():
        own = frame[is_yardstick & (frame["method"] == name)].set_index(CELL)[measure]
        gap = (frame[measure] - own.reindex(cells).to_numpy()).abs()
        counts = gap.notna() & (frame["method"] != name)
        total += gap.where(counts, 0.0)
        count += counts
    return (total / count.where(count > 0)).where(frame[measure].notna())
