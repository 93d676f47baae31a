"""Attacks on people beside retrained models: how far off, which way, and which attack finds most.

Chance is no yardstick (``sweeps.inference.comparisons.attacked_as_retrained``): a row is held
against the retrained models of the same seed. Which attack finds most in a row is settled on the
*other* seeds; the largest of several on the same seed would be above zero by chance alone. Pure
functions of frames. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from sweeps.inference.intervals import t_interval, t_quantile
from sweeps.inference.retrained import YARDSTICKS
from sweeps.inference.rows import BLOCK, by_seed, names

ATTACKERS = ("mia_auc", "mia_threshold_auc", "rmia_auc")
"""Attacks that a row and a retrained model are both put to: AUCs in [0, 1]."""
DEVIATION = (
    *(*BLOCK, "method", "attack", "seeds", "auc", "retrained", "deviation"),
    *("deviation_low", "deviation_high"),
)
STRONGEST = (*BLOCK, "method", "seeds", "attack", "auc", "advantage", "low", "high")


def deviations(frame: pd.DataFrame, people: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every attack on every row, minus the same attack on the retrained models of the same seed.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
        people: From ``sweeps.report.people.resamples``; without it there are no intervals.

    Returns:
        Columns ``DEVIATION``, a line per row and attack that was made on it: ``auc``, ``retrained``
        (mean over the retrained models of each seed, the row itself left out) and ``deviation``
        are means over ``seeds``, fractions; above 0 more is found than in retrained models, below
        0 less. The interval is over people, 95 %, the row and the retrained models drawn
        together; null where some seed was not resampled, ``retrained`` where there is no
        retrained model that was attacked so.
    """
    found: list[dict[str, Any]] = []
    resampled = {} if people is None else dict(iter(people.groupby(BLOCK)))
    for block, rows in frame.groupby(BLOCK, sort=False):
        freedom = float((rows.groupby("seed")["forget_people"].max() - 1).sum())
        for attack in ATTACKERS:
            values = by_seed(rows, attack)
            drawn = _side_by_side(resampled.get(block), attack)
            for method in names(rows):
                own = values[method].dropna()
                if own.empty:
                    continue
                others = _yardsticks(rows, method)
                gaps = (own - values[others].mean(axis=1)).dropna()
                low, high = _over_people(drawn, method, others, gaps, freedom)
                known = dict(zip(BLOCK, block, strict=True))
                found.append(
                    {
                        **known,
                        "method": method,
                        "attack": attack,
                        "seeds": len(own),
                        "auc": own.mean(),
                        "retrained": values.loc[gaps.index, others].mean(axis=1).mean(),
                        "deviation": gaps.mean(),
                        "deviation_low": low,
                        "deviation_high": high,
                    }
                )
    return pd.DataFrame(found, columns=list(DEVIATION))


def _yardsticks(rows: pd.DataFrame, method: str) -> list[str]:
    """The retrained models that a row is held against."""
    return [name for name in names(rows[rows["role"].isin(YARDSTICKS)]) if name != method]


def _side_by_side(people: pd.DataFrame | None, attack: str) -> pd.DataFrame | None:
    """Resamples of every seed by methods."""
    if people is None:
        return None
    return people.pivot(index=["seed", "resample"], columns="method", values=attack)


def _over_people(
    drawn: pd.DataFrame | None,
    method: str,
    others: list[str],
    gaps: pd.Series[float],
    freedom: float,
) -> tuple[float, float]:
    """95 % interval of a mean deviation, with all people of all seeds drawn again.

    About the deviation itself, as ``sweeps.inference.comparisons.People.interval``.
    """
    if drawn is None or not freedom >= 1 or gaps.empty or method not in drawn:
        return math.nan, math.nan
    known = drawn[[name for name in others if name in drawn]]
    by_resample = (drawn[method] - known.mean(axis=1)).unstack("seed")
    by_resample = by_resample.dropna(axis="columns", how="all")
    if by_resample.shape[1] < len(gaps):
        return math.nan, math.nan
    half = float(t_quantile(0.975, freedom)) * float(by_resample.mean(axis=1).std(ddof=1))
    return float(gaps.mean()) - half, float(gaps.mean()) + half


def strongest(frame: pd.DataFrame) -> pd.DataFrame:
    """What the attack gains that is strongest on the other seeds, for every row.

    For every seed the attack, and the direction that tells, are those whose mean deviation from the
    retrained models is largest on the row's other seeds; they are then made on this seed.

    Args:
        frame: From ``sweeps.report.results.results_frame``.

    Returns:
        Columns ``STRONGEST``, a line per row with two or more seeds: ``seeds`` that were attacked
        so, the ``attack`` that was chosen most often, the mean ``auc`` of the chosen ones, and
        ``advantage``, the mean deviation in the chosen direction (below 0: what told on the
        other seeds tells nothing on this one) with Student's 95 % interval over seeds.
    """
    found: list[dict[str, Any]] = []
    for block, rows in frame.groupby(BLOCK, sort=False):
        values = {attack: by_seed(rows, attack) for attack in ATTACKERS}
        for method in names(rows):
            others = _yardsticks(rows, method)
            own = pd.DataFrame({attack: table[method] for attack, table in values.items()})
            level = pd.DataFrame(
                {attack: table[others].mean(axis=1) for attack, table in values.items()}
            )
            made = list(_chosen_elsewhere(own - level))
            if not made:
                continue
            seeds, attacks, advantages = zip(*made, strict=True)
            low, high = t_interval(advantages)
            found.append(
                {
                    **dict(zip(BLOCK, block, strict=True)),
                    "method": method,
                    "seeds": len(seeds),
                    "attack": pd.Series(attacks).mode().iloc[0],
                    "auc": np.mean([own.loc[s, a] for s, a in zip(seeds, attacks, strict=True)]),
                    "advantage": np.mean(advantages),
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(found, columns=list(STRONGEST))


def _chosen_elsewhere(gaps: pd.DataFrame) -> Iterator[tuple[Any, str, float]]:
    """Seed, attack and advantage, for seeds [rows] with other seeds to choose the attack on."""
    for seed in gaps.index:
        elsewhere = gaps.drop(index=seed).mean().where(gaps.loc[seed].notna()).dropna()
        if elsewhere.empty:
            continue
        attack = str(elsewhere.abs().idxmax())
        direction = math.copysign(1.0, elsewhere[attack])
        yield seed, attack, direction * float(gaps.loc[seed, attack])
