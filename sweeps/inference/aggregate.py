"""One number per row over all datasets and forget sizes of a sweep, with its interval.

Source: Agarwal et al. (NeurIPS 2021), arXiv 2108.13264: an interquartile mean beside the mean, and
resampling within each task; ``sweeps.inference.intervals.stratified_interval`` says what is ours.

Pure functions of frames. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from oneshui.spec import Role
from sweeps.inference.intervals import (
    interquartile_mean,
    interquartile_mean_of,
    mean_of,
    stratified_interval,
)
from sweeps.inference.rows import BLOCK, is_ranked, names

COLUMNS = (
    "method", "role", "access", "is_ranked", "num_datasets", "num_blocks", "num",
    "mean", "low", "high", "iqm", "iqm_low", "iqm_high",
)  # fmt: skip
FEWEST_BLOCKS = 4
"""Datasets and forget sizes of which an interquartile mean has an interval."""


def aggregate(frame: pd.DataFrame, measure: str = "tow") -> pd.DataFrame:
    """What every row scores over all datasets and forget sizes.

    Only rows that every dataset and forget size has are comparable, and the retrained model would
    be held against itself. The interval is over seeds: it says how the mean over *these* datasets
    would move with other seeds, not what other datasets would give.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
        measure: Column of it, fractions.

    Returns:
        Columns ``COLUMNS``, the highest mean first: numbers of datasets, of pairs of dataset and
        forget size ("blocks") and of values, their mean and interquartile mean, every block
        weighing alike in the mean, with 95 % intervals (NaN where a block has one seed; of the
        interquartile mean also with fewer than ``FEWEST_BLOCKS`` and where seeds are missing).
        Empty with fewer than two blocks.
    """
    known = frame[frame["role"] != Role.RETRAIN].dropna(subset=[measure])
    blocks = list(dict.fromkeys(map(tuple, frame[BLOCK].to_numpy().tolist())))
    rows = []
    competes = set(names(frame[is_ranked(frame)]))
    for method, own in known.groupby("method", sort=False) if len(blocks) > 1 else ():
        strata = [part[measure].to_list() for _, part in own.groupby(BLOCK, sort=False)]
        if len(strata) < len(blocks):
            continue
        mean_ends = stratified_interval(strata, mean_of)
        middle_ends = math.nan, math.nan
        # Of few blocks with unlike spreads, or unlike in number, its interval held .86 to .98.
        if len(strata) >= FEWEST_BLOCKS and len(set(map(len, strata))) == 1:
            middle_ends = stratified_interval(strata, interquartile_mean_of)
        rows.append(
            (
                str(method),
                own["role"].iloc[0],
                own["access"].iloc[0],
                method in competes,
                own["dataset"].nunique(),
                len(strata),
                sum(map(len, strata)),
                float(np.mean([np.mean(stratum) for stratum in strata])),
                *mean_ends,
                interquartile_mean(value for stratum in strata for value in stratum),
                *middle_ends,
            )
        )
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    return found.sort_values("mean", ascending=False, kind="stable", ignore_index=True)
