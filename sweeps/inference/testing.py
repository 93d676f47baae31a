"""Tests of paired differences over seeds: which rows differ, which is best, which are alike.

Pure functions of arrays, every value one seed's. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeps.inference.intervals import Array, finite, t_quantile

ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Paired differences over seeds.

    Attributes:
        num: Pairs.
        mean: Of the differences; NaN without pairs.
        error: Standard error of the mean; NaN with fewer than two pairs, and where all differences
            are equal, which says that the seeds changed nothing and so were not independent.
    """

    num: int
    mean: float
    error: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Difference:
        """What the values say.

        Raises:
            InputError: A value is not finite.
        """
        sample = finite(values)
        if not len(sample):
            return cls(num=0, mean=math.nan, error=math.nan)
        mean = float(sample.mean())
        spread = float(sample.std(ddof=1)) if len(sample) > 1 else 0.0
        is_rounding = spread <= 1e-12 * np.abs(sample).max()
        error = math.nan if is_rounding else spread / math.sqrt(len(sample))
        return cls(num=len(sample), mean=mean, error=error)

    def p(self) -> float:
        """Two-sided p of Student's test of a mean of zero; NaN without a standard error."""
        return capped(2 * (self.p_above(0.0) if self.mean > 0 else self.p_below(0.0)))

    def p_above(self, bound: float) -> float:
        """One-sided p for "the mean is above the bound"."""
        return _upper_tail(np.float64(self.mean - bound) / self.error, self.num)

    def p_below(self, bound: float) -> float:
        """One-sided p for "the mean is below the bound"."""
        return _upper_tail(np.float64(bound - self.mean) / self.error, self.num)

    def p_within(self, margin: float) -> float:
        """P for "the mean is within the margin of zero", by two one-sided tests (TOST).

        Source: Schuirmann (1987), "A comparison of the two one-sided tests procedure and the power
        approach". Large unless it is shown: few seeds never make rows alike.
        """
        return max(self.p_above(-margin), self.p_below(margin))


def capped(p: float) -> float:
    """A corrected p, at most 1; NaN stays NaN."""
    return p if math.isnan(p) else min(1.0, p)


def _upper_tail(statistic: float, num: int) -> float:
    from scipy.special import stdtr

    return float(stdtr(num - 1, -statistic)) if num > 1 else math.nan


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


def p_best(goodness: Array) -> Array:
    """For every row, p for "it is better than every other", corrected for having been picked.

    Multiple comparisons with the best: whichever row is truly best, all others fail to beat it
    together with the level's probability, so that no further correction is owed for choosing the
    row with the highest mean on the same seeds.

    Source: Hsu, "Multiple comparisons: theory and methods" (1996), chapter 4; Bonferroni in place
    of Dunnett's quantile, because differences of different pairs have different variances.

    Args:
        goodness: [seeds, rows], higher is better; NaN is missing, and then a pair of rows is
            compared over the seeds that have both.

    Returns:
        [rows]; NaN for a row that cannot be compared with some other, and with fewer than two
        rows, of which none can be best.
    """
    _, num_rows = goodness.shape
    if num_rows < 2:
        return np.full(num_rows, np.nan)
    pairs = goodness[:, :, None] - goodness[:, None, :]
    num = (~np.isnan(pairs)).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(pairs, axis=0) / num
        square = np.nansum((pairs - mean) ** 2, axis=0) / (num - 1)
        largest = np.abs(np.nan_to_num(pairs)).max(axis=0, initial=0.0)
        error = np.where(square > (1e-12 * largest) ** 2, np.sqrt(square / num), np.nan)
        statistic = mean / error
    from scipy.special import stdtr

    p = np.where(num > 1, stdtr(np.maximum(num - 1, 1), -statistic), np.nan)
    np.fill_diagonal(p, -np.inf)
    # NaN of one pair makes the row's NaN, as it should.
    found: Array = np.minimum(1.0, picked_from(num_rows) * p.max(axis=1))
    return found


def picked_from(num_rows: int) -> int:
    """What a one-sided p is multiplied by when the best of so many rows was picked.

    One less than the rows, but two of two: of two equal rows either could be called best.
    """
    return max(num_rows - 1, 2)


def ranks(goodness: Array) -> npt.NDArray[np.int64]:
    """1 for a row that is shown to be the best, 2 for the best of the rest, 0 for all others.

    Args:
        goodness: As of ``p_best``.
    """
    found = np.zeros(goodness.shape[1], dtype=np.int64)
    rest = np.flatnonzero(~np.isnan(goodness).all(axis=0))
    for rank in (1, 2):
        p = p_best(goodness[:, rest])
        shown = np.flatnonzero(p <= ALPHA)
        if not len(shown):
            break
        found[rest[shown[0]]] = rank
        rest = np.delete(rest, shown[0])
    return found


def cross_fitted_gain(gains: Array) -> float:
    """What choosing the best row gains, on seeds that had no part in the choice.

    For every seed the row with the highest mean over the other seeds is chosen and its gain on
    this seed counted. Of rows without effect it is 0 on average, where the highest of their means
    is not.

    Args:
        gains: [seeds, rows], without missing values.

    Returns:
        The mean over seeds; NaN with fewer than two seeds or without rows.
    """
    num, num_rows = gains.shape
    if num < 2 or not num_rows:
        return math.nan
    others = gains.sum(axis=0) - gains
    return float(gains[np.arange(num), others.argmax(axis=1)].mean())


def detectable(errors: Iterable[float], num_seeds: int, num_rows: int) -> float:
    """The difference that a corrected test finds with probability ``POWER``.

    By the noncentral t: few seeds' standard errors differ so much that adding a quantile of Student
    to the critical value would promise what is found in half the sweeps.

    Args:
        errors: Standard errors of the differences; the median counts, divided by the
            share of the true one that it usually is: most errors of few seeds are too small.
        num_seeds: Pairs of each.
        num_rows: Rows that the correction is for.

    Returns:
        In the unit of the errors; NaN where there is no error.
    """
    known = [error for error in errors if not math.isnan(error)]
    if not known or num_seeds < 2:
        return math.nan
    from scipy.special import chdtri, nctdtrinc

    freedom = num_seeds - 1
    needed = t_quantile(1 - ALPHA / (2 * num_rows), freedom)
    usual = math.sqrt(chdtri(freedom, 0.5) / freedom)
    return float(nctdtrinc(freedom, 1 - POWER, needed) / usual * np.median(known))
