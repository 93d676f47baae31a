"""Intervals for means over seeds, for their ratio, and for means over datasets and forget sizes.

Pure functions of arrays. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from oneshui.errors import InputError

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2000
FEWEST_ERRORS = 3.0
"""Standard errors that a denominator must be away from zero."""


def t_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's interval for the mean of independent values, one per seed.

    Its coverage is exact for normal values at any number of them. A percentile bootstrap of so few
    is too short: it covers 75 % at three values and says 95 %.

    Args:
        values: Finite numbers.
        confidence: In (0, 1).

    Returns:
        Lower and upper end; NaN with fewer than two values.

    Raises:
        InputError: A value is not finite.
    """
    sample = finite(values)
    if len(sample) < 2:
        return math.nan, math.nan
    half = t_quantile((1 + confidence) / 2, len(sample) - 1) * _standard_error(sample)
    return float(sample.mean() - half), float(sample.mean() + half)


def t_intervals(table: Array) -> Array:
    """``t_interval`` of many samples at once.

    Args:
        table: [samples, seeds]; NaN is missing.

    Returns:
        Lower and upper ends, [samples, 2]; NaN with fewer than two values.
    """
    counts = (~np.isnan(table)).sum(axis=1)
    enough = counts >= 2
    found = np.full((len(table), 2), np.nan)
    some = table[enough]
    means = np.nanmean(some, axis=1)
    errors = np.nanstd(some, axis=1, ddof=1) / np.sqrt(counts[enough])
    half = t_quantile((1 + CONFIDENCE) / 2, counts[enough] - 1) * errors
    found[enough] = np.stack([means - half, means + half], axis=1)
    return found


def t_quantile(level: float, freedom: float | npt.NDArray[np.int64]) -> float | Array:
    """Quantile of Student's distribution at this many degrees of freedom."""
    from scipy.special import stdtrit

    found: float | Array = stdtrit(freedom, level)
    return found


def interquartile_mean(values: Iterable[float]) -> float:
    """Mean of the middle half: a quarter of the values is cut off at each end.

    With fewer than four values nothing can be cut off and it is the mean; NaN without values.

    Raises:
        InputError: A value is not finite.
    """
    sample = np.sort(finite(values))
    return float(_middle(sample).mean()) if len(sample) else math.nan


def _middle(ordered: Array) -> Array:
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut]


def ratio_of_means(
    numerators: Iterable[float], denominators: Iterable[float]
) -> tuple[float, float, float]:
    """Mean numerator over mean denominator, with Fieller's interval.

    A mean of ratios would be ruled by the pair whose denominator happens to be small.

    Source: Fieller (1954), "Some problems in interval estimation", with pairs from one seed each.

    Args:
        numerators: One per seed, finite.
        denominators: Of the same seeds, finite.

    Returns:
        The ratio and the ends of its interval. All NaN unless the mean denominator is more than
        ``FEWEST_ERRORS`` of its standard errors above zero (fewer than two seeds have none); the
        ends are NaN too where the interval is not bounded.

    Raises:
        InputError: A value is not finite.
    """
    top, bottom = finite(numerators), finite(denominators)
    count = len(top)
    if count < 2 or bottom.mean() <= FEWEST_ERRORS * _standard_error(bottom):
        return math.nan, math.nan, math.nan
    over, under = top.mean(), bottom.mean()
    (a, b), (_, c) = np.cov(top, bottom, ddof=1) / count
    square = float(t_quantile((1 + CONFIDENCE) / 2, count - 1)) ** 2
    # The r with (over - r under)^2 <= t^2 (a - 2 r b + r^2 c): between the roots of a parabola.
    quadratic = under**2 - square * c
    linear, constant = over * under - square * b, over**2 - square * a
    inside = linear**2 - quadratic * constant
    if quadratic <= 0 or inside < 0:
        return over / under, math.nan, math.nan
    root = math.sqrt(inside)
    return over / under, (linear - root) / quadratic, (linear + root) / quadratic


def stratified_interval(
    strata: Sequence[Sequence[float]],
    statistic: Callable[[Sequence[Array]], Array],
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of a statistic of all values, by resampling seeds within datasets and forget sizes.

    Source: Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice"
    (NeurIPS 2021), whose percentile interval of so few seeds is too short. So distances from the
    estimate are stretched: by sqrt(n / (n - 1)), because a resample of n varies that much less than
    the values do, and from the normal to Student's quantile at Satterthwaite's degrees of freedom.

    Args:
        strata: Values of each dataset and forget size, one per seed, at least two of each.
        statistic: Of the values of each of the strata, [resamples, values].
        seed: Of the resampling.

    Returns:
        Lower and upper end at ``CONFIDENCE``; NaN if a stratum has fewer than two values.

    Raises:
        InputError: A value is not finite.
    """
    samples = [finite(stratum) for stratum in strata]
    if not samples or min(map(len, samples)) < 2:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    parts = []
    for sample in samples:
        drawn = sample[generator.integers(len(sample), size=(RESAMPLES, len(sample)))]
        stretched = math.sqrt(len(sample) / (len(sample) - 1))
        parts.append(sample.mean() + stretched * (drawn - sample.mean()))
    estimate = float(statistic([sample[None, :] for sample in samples])[0])
    found = statistic(parts)
    level = (1 + CONFIDENCE) / 2
    ends = np.quantile(found, [1 - level, level]) - found.mean()
    variances = np.array([sample.var(ddof=1) / len(sample) for sample in samples])
    freedom = np.array([len(sample) - 1 for sample in samples])
    if not variances.any():
        return estimate, estimate
    satterthwaite = variances.sum() ** 2 / (variances**2 / freedom).sum()
    ends *= t_quantile(level, satterthwaite) / t_quantile(level, np.inf)
    return estimate + float(ends[0]), estimate + float(ends[1])


def mean_of(parts: Sequence[Array]) -> Array:
    """Mean of the means of all parts, [resamples, values], each part weighing alike."""
    found: Array = np.mean([part.mean(axis=1) for part in parts], axis=0)
    return found


def interquartile_mean_of(parts: Sequence[Array]) -> Array:
    """``interquartile_mean`` of the values of all parts, [resamples, values], together."""
    together = np.sort(np.concatenate(parts, axis=1), axis=1)
    found: Array = _middle(together).mean(axis=1)
    return found


def finite(values: Iterable[float]) -> Array:
    """The values as an array.

    Raises:
        InputError: A value is not finite.
    """
    sample = np.asarray(list(values), dtype=np.float64)
    if not np.isfinite(sample).all():
        raise InputError(
            f"expected finite numbers, but {int((~np.isfinite(sample)).sum())} are not"
        )
    return sample


def _standard_error(sample: Array) -> float:
    return float(sample.std(ddof=1) / math.sqrt(len(sample)))
