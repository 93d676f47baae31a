"""Straight lines through people's points: one slope, an intercept for every seed.

Seeds differ in their people and their training, and a difference between seeds is no trend among
people: every seed has its own intercept (the within estimator of fixed effects). A person in
several seeds is one person: intervals come from resampling people, each with all points.

Source of the slope's interval: the pairs cluster bootstrap of the standard error in A. C. Cameron,
J. B. Gelbach and D. L. Miller, "Bootstrap-based improvements for inference with clustered errors",
Review of Economics and Statistics 90(3), 2008, times a quantile of t. Of the correlation's: the
expanded percentiles in T. C. Hesterberg, "What teachers should know about the bootstrap", The
American Statistician 69(4), 2015. Others cover less where a few people lie far out: bootstrap-t
holds the slope of 20 people with log-normal distances in 90 %, percentiles in 91 %, this in 96 %.

Shapes: K points, P people, S seeds, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.errors import InputError
from oneshui.metrics.scores import ArrayLike, as_numpy, finite
from oneshui.seeding import derive_seed

Array: TypeAlias = npt.NDArray[np.float64]
Names: TypeAlias = Sequence[int] | npt.NDArray[Any]
Codes: TypeAlias = npt.NDArray[np.int64]

RESAMPLES = 1000
CONFIDENCE = 0.95
FEWEST_PEOPLE = 10
"""Of 5 people a tenth of the resamples hold only two or one, whose slope means nothing; of 10 one
in 1,400 holds three or fewer."""
FEWEST_POINTS_OF_A_CORRELATION = 3
"""Through two points every correlation is 1 or -1."""
MOST_WITHOUT_A_LINE = 0.05
"""Share of resamples in which nobody differs in distance; with more, a few people are the line."""
ROUNDING = 1e-12
"""Of the largest value: how far float64 sums of equal numbers may lie apart."""
_AT_ONCE = 50
"""Resamples in memory: 4 MB for 10,000 people, which a processor's cache holds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trend:
    """Points of a scatter plot and what a straight line makes of them.

    What the points cannot say is None: all of it where nobody differs in distance from others of
    the same seed; correlations and intervals where the outcome does not vary within a seed, as of
    a row that is measured against itself; correlations where a line with its intercepts leaves
    nothing to scatter; intervals of fewer than ``FEWEST_PEOPLE`` people who share a seed with
    somebody, or where over 5 % of the resamples have no line.

    Attributes:
        points: One row per identity and seed: ``identity``, ``seed``, ``distance``, and the
            outcome (``gap`` or ``drop``).
        num_people: Distinct identities.
        num_points: Identities of all seeds.
        num_seeds: Distinct seeds.
        slope: Of the least-squares line outcome = slope * distance + intercept of the seed.
            Outcome per unit of distance.
        slope_low: Lower end of its 95 % interval over people.
        slope_high: Upper end.
        intercept: Of the line through the mean of all points.
        pearson: Correlation in [-1, 1] of what the means of each seed leave.
        pearson_low: Lower end of its 95 % interval over people.
        pearson_high: Upper end.
        spearman: Correlation of ranks within each seed (as shares of its points, equals sharing
            their mean rank). It describes the points and has no interval.
    """

    points: pd.DataFrame
    num_people: int
    num_points: int
    num_seeds: int
    slope: float | None = None
    slope_low: float | None = None
    slope_high: float | None = None
    intercept: float | None = None
    pearson: float | None = None
    pearson_low: float | None = None
    pearson_high: float | None = None
    spearman: float | None = None


def trend(
    distances: ArrayLike,
    outcomes: ArrayLike,
    outcome: str,
    identities: Names | None = None,
    seeds: Names | None = None,
) -> Trend:
    """A straight line and correlations, with intervals over people.

    Resamples depend on the number of people alone, so outcomes of the same people meet the same
    ones. A slope is linear in the outcome: of a difference of two outcomes it is the difference of
    their slopes, and its interval the paired one.

    Args:
        distances: [K].
        outcomes: [K].
        outcome: What they are, a column of the points.
        identities: Whose they are, [K]; 0 to K - 1 by default.
        seeds: In which seed, [K]; all in one by default.

    Raises:
        InputError: Shapes do not fit, there is no point, or a number is not finite.
    """
    x = as_numpy(distances).astype(np.float64)
    y = finite(outcomes, x.shape, f"{outcome}s, one per identity")
    if y.size == 0:
        raise InputError("a trend needs at least one point")
    finite(x, x.shape, "distances, one per identity")
    names = np.arange(len(y)) if identities is None else np.asarray(identities)
    own_seeds = np.zeros(len(y), dtype=np.int64) if seeds is None else np.asarray(seeds)
    for what, found in (("identities", names), ("seeds", own_seeds)):
        if found.shape != y.shape:
            raise InputError(f"got {found.shape} {what} for {y.shape} {outcome}s")
    people, person = np.unique(names, return_inverse=True)
    cells, seed = np.unique(own_seeds, return_inverse=True)
    return Trend(
        points=pd.DataFrame({"identity": names, "seed": own_seeds, "distance": x, outcome: y}),
        num_people=len(people),
        num_points=len(y),
        num_seeds=len(cells),
        **_line(x, y, person, seed),
    )


def _line(x: Array, y: Array, person: Codes, seed: Codes) -> dict[str, float]:
    """The fields of a trend that exist."""
    sizes = np.bincount(seed)
    inner_x, inner_y = _within(x, seed, sizes), _within(y, seed, sizes)
    if not _varies(inner_x, x):
        return {}
    # Somebody alone in a seed is the seed's mean, and says nothing of a slope.
    shared = sizes[seed] > 1
    sums = _sums(person[shared], seed[shared], inner_x[shared], inner_y[shared])
    slope, pearson = _slopes(sums.sum(axis=0, keepdims=True))[0]
    found = {"slope": slope, "intercept": y.mean() - slope * x.mean()}
    if not _varies(inner_y, y):
        return found
    if len(x) - len(sizes) + 1 >= FEWEST_POINTS_OF_A_CORRELATION:
        ranks = pd.DataFrame([x, y]).T.groupby(seed).rank(pct=True).to_numpy()
        by_x, by_y = (_within(column, seed, sizes) for column in ranks.T)
        spearman = np.corrcoef(by_x, by_y)[0, 1]
        found |= {"pearson": pearson, "spearman": spearman}
    if len(sums) >= FEWEST_PEOPLE:
        found |= _intervals(slope, _resampled(sums), len(sums))
    return {name: float(value) for name, value in found.items()}


def _within(values: Array, seed: Codes, sizes: Codes) -> Array:
    """What the mean of its seed leaves of every value, [K]."""
    left: Array = values - (np.bincount(seed, weights=values) / sizes)[seed]
    return left


def _varies(within: Array, values: Array) -> bool:
    """Whether values differ within a seed by more than rounding, which would mean nothing."""
    return bool(np.ptp(within) > ROUNDING * np.abs(values).max())


def _sums(person: Codes, seed: Codes, x: Array, y: Array) -> Array:
    """Number and sums of x, y, xx, xy and yy by person and seed, [P, S, 6].

    A resample's line needs no more, so that all resamples are one product of matrices.
    """
    _, whose = np.unique(person, return_inverse=True)
    shape = (int(whose.max()) + 1, int(seed.max()) + 1)
    places = np.ravel_multi_index((whose, seed), shape)
    terms = (np.ones_like(x), x, y, x * x, x * y, y * y)
    sums: Array = np.empty((*shape, len(terms)))
    for place, term in enumerate(terms):
        sums[..., place] = np.bincount(places, term, sums[..., 0].size).reshape(shape)
    return sums


def _slopes(sums: Array) -> Array:
    """Slope and correlation within seeds, [B, 2], of sums [B, S, 6]; NaN where there is none."""
    number, x, y, xx, xy, yy = np.moveaxis(sums, -1, 0)
    share = 1 / np.maximum(number, 1)
    spread_x, product, spread_y = (
        (whole - share * a * b).sum(axis=1) for whole, a, b in ((xx, x, x), (xy, x, y), (yy, y, y))
    )
    spread_x, spread_y = (
        np.where(spread > ROUNDING * whole.sum(axis=1), spread, np.nan)
        for spread, whole in ((spread_x, xx), (spread_y, yy))
    )
    return np.stack([product / spread_x, product / np.sqrt(spread_x * spread_y)], axis=1)


def _resampled(sums: Array) -> Array:
    """Slope and correlation of every resample of the people, [B, 2]."""
    people = len(sums)
    generator = np.random.default_rng(derive_seed("people of a trend"))
    found = []
    for _ in range(RESAMPLES // _AT_ONCE):
        picks = generator.integers(people, size=(_AT_ONCE, people))
        picks += people * np.arange(_AT_ONCE)[:, None]
        times = np.bincount(picks.ravel(), minlength=people * _AT_ONCE).reshape(_AT_ONCE, people)
        drawn = times.astype(np.float64) @ sums.reshape(people, -1)
        found.append(_slopes(drawn.reshape(_AT_ONCE, *sums.shape[1:])))
    return np.concatenate(found)


def _intervals(slope: float, resampled: Array, people: int) -> dict[str, float]:
    """All ends by their fields' names, if enough of the resamples have a line."""
    known = resampled[np.isfinite(resampled).all(axis=1)]
    if len(known) < (1 - MOST_WITHOUT_A_LINE) * len(resampled):
        return {}
    from scipy.special import ndtr, stdtrit

    # A resample of few people spreads less than people do: variances by the factor (P - 1) / P.
    errors = stdtrit(people - 1, (1 + CONFIDENCE) / 2) * np.sqrt(people / (people - 1))
    reach = errors * known[:, 0].std(ddof=1)
    tail = ndtr(-errors)
    low, high = np.quantile(known[:, 1], [tail, 1 - tail])
    return {
        "slope_low": slope - reach,
        "slope_high": slope + reach,
        "pearson_low": low,
        "pearson_high": high,
    }
