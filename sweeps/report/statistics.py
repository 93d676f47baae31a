"""What the numbers of a sweep can support: intervals, robust means, paired tests, noise floor.

Pure functions of frames and arrays. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.errors import InputError
from oneshui.spec import Access, Role
from sweeps.graph.spec import BEYOND_SUPPORT

Array = npt.NDArray[np.float64]

ALPHA = 0.05
CONFIDENCE = 0.95
RESAMPLES = 2000
MOST_ENUMERATED_VALUES = 5
"""5 ** 5 resamples are enumerated, so that the interval of a few seeds has no randomness."""
MOST_SIGN_FLIPS = 18
"""2 ** 18 sign patterns are enumerated; beyond that Wilcoxon's signed ranks take over."""

CELL = ["dataset", "num_forget", "seed"]


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two rows compared cell by cell.

    Attributes:
        method: Name of the first row.
        other: Name of the second.
        num_cells: Cells (dataset, forget size, seed) that have both.
        difference: Mean of first minus second, a fraction; NaN without cells.
        low: Lower end of the bootstrap interval of the difference.
        high: Its upper end.
        p: Two-sided p, NaN without cells.
        p_holm: The same after Holm's correction over its family.
        smallest_p: The smallest p that this number of cells can give.
    """

    method: str
    other: str
    num_cells: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    smallest_p: float


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """How far two retrained models of the same split are from each other.

    Attributes:
        num_pairs: Pairs of retrained models.
        tow: The lowest ToW of a pair: what is not below it cannot be told from retraining.
    """

    num_pairs: int
    tow: float


def bootstrap_interval(values: Iterable[float], seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Of up to five values every resample is enumerated. Of very few values such an interval is too
    short: its ends can never lie outside the values themselves.

    Args:
        values: Finite numbers.
        seed: Of the resampling, where it is not enumerated.

    Returns:
        Lower and upper end at ``CONFIDENCE``; NaN with fewer than two values.

    Raises:
        InputError: A value is not finite.
    """
    sample = _finite(values)
    if len(sample) < 2:
        return math.nan, math.nan
    if len(sample) <= MOST_ENUMERATED_VALUES:
        means = sample[_every_resample(len(sample))].mean(axis=1)
    else:
        picks = np.random.default_rng(seed).integers(len(sample), size=(RESAMPLES, len(sample)))
        means = sample[picks].mean(axis=1)
    ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    # Few values have few means, and a point between two of them would make the interval too short.
    low, high = np.quantile(means, ends, method="inverted_cdf")
    return float(low), float(high)


@lru_cache(maxsize=8)
def _every_resample(count: int) -> npt.NDArray[np.int64]:
    return np.array(list(itertools.product(range(count), repeat=count)))


def interquartile_mean(values: Iterable[float]) -> float:
    """Mean of the middle half: a quarter of the values is cut off at each end.

    With fewer than four values nothing can be cut off and it is the mean; NaN without values.

    Raises:
        InputError: A value is not finite.
    """
    sample = _finite(values)
    if len(sample) == 0:
        return math.nan
    from scipy.stats import trim_mean

    return float(trim_mean(sample, 0.25))


def paired_p(differences: Iterable[float]) -> float:
    """Two-sided p of paired differences whose signs are exchangeable.

    Up to ``MOST_SIGN_FLIPS`` differences: the exact sign-flip test of the mean. Beyond: Wilcoxon's
    signed-rank test. SciPy's ``permutation_test`` gives the same p, but takes 2 s for 18
    differences where doubling the sums takes 3 ms, and a report has about fifty such tests.

    Raises:
        InputError: A difference is not finite.
    """
    sample = _finite(differences)
    if len(sample) == 0:
        return math.nan
    if not sample.any():
        return 1.0
    if len(sample) > MOST_SIGN_FLIPS:
        from scipy.stats import wilcoxon

        return float(wilcoxon(sample).pvalue)
    sums = np.zeros(1)
    for value in sample:
        sums = np.concatenate([sums + value, sums - value])
    # Sums that differ by rounding alone count as equal.
    reached = abs(sample.sum()) - 1e-12 * np.abs(sample).sum()
    return float((np.abs(sums) >= reached).mean())


def smallest_p(num_cells: int) -> float:
    """The smallest two-sided p that a sign-flip test of so many pairs can give."""
    return min(1.0, 2.0 ** (1 - num_cells)) if num_cells else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; NaN stays NaN and does not count.

    Args:
        p_values: Of one family.

    Returns:
        Adjusted p-values in the same order, at most 1.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted


def compare(
    frame: pd.DataFrame, pairs: Sequence[tuple[str, str]], measure: str = "tow"
) -> list[PairedTest]:
    """Paired tests over cells, corrected together as one family.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
        pairs: Names of the rows to compare.
        measure: Column of the frame.
    """
    table = frame.pivot_table(index=CELL, columns="method", values=measure, dropna=True)
    tests = []
    for method, other in pairs:
        known = method in table and other in table
        found = (table[method] - table[other]).dropna().to_numpy() if known else np.empty(0)
        low, high = bootstrap_interval(found)
        tests.append(
            PairedTest(
                method=method,
                other=other,
                num_cells=len(found),
                difference=float(found.mean()) if len(found) else math.nan,
                low=low,
                high=high,
                p=paired_p(found),
                p_holm=math.nan,
                smallest_p=smallest_p(len(found)),
            )
        )
    corrected = holm([test.p for test in tests])
    return [replace(test, p_holm=p) for test, p in zip(tests, corrected, strict=True)]


def comparisons(frame: pd.DataFrame) -> list[PairedTest]:
    """Every ranked row against doing nothing, and the best against every other ranked row.

    The best is the one with the highest mean ToW over the cells that all ranked rows have; the two
    families are corrected apart.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
    """
    ranked = names(frame[is_ranked(frame)])
    tests = []
    for nothing in names(frame[frame["role"] == Role.PRETRAIN])[:1]:
        tests = compare(frame, [(name, nothing) for name in ranked])
    best = best_row(frame, ranked)
    if best is not None:
        tests += compare(frame, [(best, name) for name in ranked if name != best])
    return tests


def best_row(frame: pd.DataFrame, ranked: Sequence[str]) -> str | None:
    """The ranked row with the highest mean ToW over the cells that all of them have."""
    table = frame[frame["method"].isin(ranked)].pivot_table(
        index=CELL, columns="method", values="tow"
    )
    common = table.dropna()
    return str(common.mean().idxmax()) if len(common) else None


def support_statement(tests: Sequence[PairedTest]) -> str:
    """What the number of cells can support, in one sentence; empty without tests."""
    counted = [test for test in tests if test.num_cells]
    if not counted:
        return ""
    most = max(test.num_cells for test in counted)
    family = max(1, max(sum(t.other == test.other for t in counted) for test in counted))
    reachable = smallest_p(most)
    cells = "1 cell" if most == 1 else f"{most} cells"
    if reachable > ALPHA:
        return (
            f"With {cells} the smallest p of a paired test is {reachable:.2g}: no difference "
            f"between rows can be called significant at {ALPHA:g}, whatever it is. Add seeds."
        )
    if reachable * family > ALPHA:
        return (
            f"With {cells} the smallest p is {reachable:.2g}, and {family} rows are compared: "
            f"after Holm's correction no single row can be significant at {ALPHA:g}. Add seeds."
        )
    return (
        f"Exact paired tests over {cells} (dataset, forget size and seed), p after Holm's "
        "correction; cells of one dataset share their pictures, so read the p as a lower bound."
    )


def noise_floor(frame: pd.DataFrame) -> dict[tuple[str, int], NoiseFloor]:
    """Retraining against retraining, by dataset and forget size.

    A pair is two retrained models of one cell: the yardstick and every row that retrains again,
    which measured itself against it. Models of other seeds do not count, because they saw another
    split, and what differs then is more than the noise of training.

    Args:
        frame: From ``sweeps.report.results.results_frame``.

    Returns:
        The floors that exist; none for a sweep in which no cell was retrained twice.
    """
    again = frame[(frame["role"] == Role.RETRAIN_AGAIN) & frame["tow"].notna()]
    return {
        (str(dataset), int(str(num_forget))): NoiseFloor(
            num_pairs=len(rows), tow=float(rows["tow"].min())
        )
        for (dataset, num_forget), rows in again.groupby(["dataset", "num_forget"], sort=False)
    }


def is_ranked(rows: pd.DataFrame) -> pd.Series[bool]:
    """Which rows compete, of the results or of the summary.

    Doing nothing and rows with full access are references, and so are rows whose hyperparameters
    were chosen by more than S.
    """
    unlearns = (rows["role"] == Role.METHOD) & (rows["access"] != Access.FULL)
    return unlearns & ~rows["tuning"].isin(BEYOND_SUPPORT)


def names(rows: pd.DataFrame) -> list[str]:
    """The rows' names, each once, in their order."""
    return [str(name) for name in rows["method"].unique()]


def _finite(values: Iterable[float]) -> Array:
    sample = np.asarray(list(values), dtype=np.float64)
    if not np.isfinite(sample).all():
        raise InputError(
            f"expected finite numbers, but {int((~np.isfinite(sample)).sum())} are not"
        )
    return sample
