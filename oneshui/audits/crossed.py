"""What an attack achieved where each of its decisions is about one person and under one model.

Decisions about a person are alike, and so are decisions under a model: neither people nor models
alone may be resampled. A variance has the part of people, of models and of single decisions, and
V = V(people) + V(models) - V(decisions), each from a bootstrap of its own (Cameron, Gelbach and
Miller, "Robust inference with multiway clustering", JBES 29, 2011); resampling people and models
at a time would count the third part three times (Owen, "The pigeonhole bootstrap", 2007). Degrees
of freedom are Satterthwaite's. Rates have the interval of Clopper and Pearson with as many
independent decisions as would have this variance (Korn and Graubard, "Confidence intervals for
proportions with small expected number of positive counts estimated from survey data", 1998).

Shapes: n positives, m negatives, B resamples, G rates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.attacks.roc import FEWEST_FALSE_POSITIVES, reportable_fprs
from oneshui.errors import InputError
from oneshui.metrics.resampling import resampled_aucs
from oneshui.seeding import derive_seed

Array: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int32]
Places: TypeAlias = npt.NDArray[np.int64]
Part = Literal["people", "models", "decisions"]

NUM_RESAMPLES = 400
CURVE_POINTS = 60
_ROUNDING = 1e-9
_COUNTS_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A number, if nothing else is said a fraction in [0, 1], with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """Decisions of which the truth is the same.

    Attributes:
        scores: Larger for positives, float64 [n], finite.
        people: Whom each is about, from 0 on, int [n].
        models: Under which model each was made, from 0 on, int [n].
    """

    scores: Array
    people: Places
    models: Places

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decisions:
    """Scores of an attack on people under models.

    Attributes:
        positives: Where "yes" is right.
        negatives: Where it is wrong.
        num_people: Of the pool.
        num_models: That were trained.
        seed: Of the resamples.
    """

    positives: Side
    negatives: Side
    num_people: int
    num_models: int
    seed: int

    @cached_property
    def fewest(self) -> int:
        """Independent decisions that there are at the very least."""
        return min(self.num_people, self.num_models)

    def auc(self) -> Rate:
        """Of the pairs of a positive and a negative under the same model, those in right order.

        Somebody who attacks a model compares people under it. Pairs of two models would mix in how
        estimates that leave out one model differ from those that leave out another, which costs
        an attack on nothing some percent of its AUC.

        Raises:
            InputError: No model has decisions of both kinds.
        """
        from scipy.special import expit, logit, stdtrit

        value = self.point()
        resamples = {
            part: np.concatenate([self._aucs(*drawn) for drawn in self._draws(part)])[:, None]
            for part in _PARTS
        }
        variance = self._variances(resamples)[0]
        if not 0 < value < 1 or variance == 0:
            return self._rate(value, variance, len(self.positives))
        # On the scale of the logit an interval stays within [0, 1].
        half = stdtrit(self._freedom, 0.975) * np.sqrt(variance) / (value * (1 - value))
        low, high = (float(expit(logit(value) + step)) for step in (-half, half))
        return Rate(value=value, low=low, high=high)

    def difference(self) -> Rate:
        """Mean over people of how much more their positives score than their negatives.

        Everybody counts alike who has decisions of both kinds. In units of the scores.

        Raises:
            InputError: Nobody has.
        """
        from scipy.special import stdtrit

        both = np.intersect1d(self.positives.people, self.negatives.people)
        if len(both) == 0:
            raise InputError("nobody of the audit has decisions of both kinds to compare")
        weights = [_per_person(side.people, both) for side in self._sides]

        def compared(counts: Sequence[Integers]) -> Array:
            first, second = (
                _weighted(count * weight, side.scores)
                for count, weight, side in zip(counts, weights, self._sides, strict=True)
            )
            return first - second

        once = [np.ones((1, len(side)), dtype=np.int32) for side in self._sides]
        value = float(compared(once)[0])
        resamples = {
            part: np.concatenate([compared(drawn[:2]) for drawn in self._draws(part)])[:, None]
            for part in _PARTS
        }
        half = float(stdtrit(self._freedom, 0.975) * np.sqrt(self._variances(resamples)[0]))
        return Rate(value=value, low=value - half, high=value + half)

    @cached_property
    def _freedom(self) -> int:
        return max(1, self.fewest - 1)

    def point(self) -> float:
        """The AUC without an interval."""
        once = [np.ones((1, len(side)), dtype=np.int32) for side in self._sides]
        ones = np.ones((1, self.num_models), dtype=np.int32)
        return float(self._aucs(once[0], once[1], ones)[0])

    @cached_property
    def _sides(self) -> tuple[Side, Side]:
        return self.positives, self.negatives

    @cached_property
    def _kept(self) -> dict[Part, tuple[Integers, Integers, Integers]]:
        """Resamples that are small enough to be kept: every rate takes the same."""
        return {}

    @cached_property
    def _of_models(self) -> list[tuple[Places, Places]]:
        """Places of each model's positives and negatives, of those that have both."""
        places = [
            [np.flatnonzero(side.models == model) for side in self._sides]
            for model in range(self.num_models)
        ]
        found = [(own, others) for own, others in places if len(own) and len(others)]
        if not found:
            raise InputError("no model of the audit has people of both kinds to tell apart")
        return found

    def _aucs(self, positive_counts: Integers, negative_counts: Integers, times: Integers) -> Array:
        """AUC of every resample, [B], NaN where it has no pair.

        Args:
            positive_counts: How often each positive counts, [B, n].
            negative_counts: The same of negatives, [B, m].
            times: How often each model was drawn, [B, K], which is in both counts.
        """
        right = np.zeros(len(times))
        pairs = np.zeros(len(times))
        for own, others in self._of_models:
            counts = positive_counts[:, own], negative_counts[:, others]
            weights = counts[0].sum(axis=1) * counts[1].sum(axis=1)
            # A model that was drawn twice has its pairs twice, and not four times.
            weights = weights / np.maximum(times[:, self.positives.models[own[0]]], 1)
            with np.errstate(invalid="ignore", divide="ignore"):
                areas = resampled_aucs(
                    self.positives.scores[own], self.negatives.scores[others], *counts
                )
            right += np.where(weights > 0, areas, 0.0) * weights
            pairs += weights
        with np.errstate(invalid="ignore"):
            found: Array = right / pairs
        return found

    def rates_at(self, fprs: Sequence[float]) -> list[Rate]:
        """True-positive rates at these false-positive rates, which must be resolved.

        The variance is that of a threshold that is found anew in every resample.
        """
        wanted = np.asarray(fprs, dtype=np.float64)
        once = [
            np.ones((1, len(side)), dtype=np.int32) for side in (self.positives, self.negatives)
        ]
        values = self._tprs(wanted, *once)[0]
        resamples = {
            part: np.concatenate([self._tprs(wanted, *drawn[:2]) for drawn in self._draws(part)])
            for part in _PARTS
        }
        variances = self._variances(resamples)
        return [
            self._rate(float(value), variance, len(self.positives))
            for value, variance in zip(values, variances, strict=True)
        ]

    def curve(self) -> pd.DataFrame:
        """The ROC curve with its band.

        Returns:
            Columns ``fpr`` (from 10/m to 1, evenly over its logarithm), ``tpr``, ``low`` and
            ``high`` (of each point by itself, 95 %), fractions in float64; without a line where
            there are fewer than 10 negatives.
        """
        m = len(self.negatives)
        if m < FEWEST_FALSE_POSITIVES:
            return pd.DataFrame(columns=list(CURVE), dtype=np.float64)
        counts = np.geomspace(FEWEST_FALSE_POSITIVES, m, CURVE_POINTS).round()
        fprs = (np.unique(counts) / m).tolist()
        rates = self.rates_at(fprs)
        columns = {name: [getattr(rate, name) for rate in rates] for name in ("low", "high")}
        values = {"fpr": fprs, "tpr": [rate.value for rate in rates], **columns}
        return pd.DataFrame(values, columns=list(CURVE))

    def epsilon(self, fprs: Sequence[float], *, delta: float) -> float | None:
        """A lower bound of epsilon that holds in 95 of 100 audits, at least 0.

        An attack on something that is (epsilon, delta)-close to its ideal has TPR <= exp(epsilon)
        FPR + delta and TNR <= exp(epsilon) FNR + delta (Kairouz, Oh and Viswanath, "The
        composition theorem for differential privacy", 2015). Thresholds are those of ``fprs`` on
        either side as far as decisions resolve them, all named before anything is seen; each of
        the two rates of each has its own part of the 5 %.

        Returns:
            None where no threshold is resolved.
        """
        swapped = Decisions(
            positives=Side(**{**vars(self.negatives), "scores": -self.negatives.scores}),
            negatives=Side(**{**vars(self.positives), "scores": -self.positives.scores}),
            num_people=self.num_people,
            num_models=self.num_models,
            seed=self.seed,
        )
        tests = [
            (side, fpr)
            for side in (self, swapped)
            for fpr in reportable_fprs(len(side.negatives), fprs)
        ]
        if not tests:
            return None
        # Twice as many: on which side the scores of positives lie was found on the same decisions.
        level = 1 - 0.05 / (2 * 2 * len(tests))
        bounds = [0.0]
        for side, fpr in tests:
            tpr, highest = side._bounds_at(fpr, level)
            if tpr > delta:
                bounds.append(float(np.log((tpr - delta) / highest)))
        return max(bounds)

    def _bounds_at(self, fpr: float, level: float) -> tuple[float, float]:
        """Lower bound of the TPR and upper one of the FPR at the threshold of an FPR."""
        ordered = np.sort(self.negatives.scores)[::-1]
        allowed = int(np.floor(fpr * len(ordered) + _ROUNDING))
        threshold = ordered[allowed] if allowed < len(ordered) else -np.inf
        said = [side.scores > threshold for side in self._sides]
        found = []
        for place, (yes, side) in enumerate(zip(said, self._sides, strict=True)):
            resamples = {
                part: np.concatenate([_shares(yes, drawn[place]) for drawn in self._draws(part)])[
                    :, None
                ]
                for part in _PARTS
            }
            variance = self._variances(resamples)[0]
            size = self._effective(float(yes.mean()), variance, len(side), level)
            found.append(_clopper_pearson(float(yes.mean()), size, level)[place])
        return found[0], found[1]

    def _rate(self, value: float, variance: float, decisions: int) -> Rate:
        size = self._effective(value, variance, decisions, 0.975)
        low, high = _clopper_pearson(value, size, 0.975)
        return Rate(value=value, low=low, high=high)

    def _effective(self, value: float, variance: float, decisions: int, level: float) -> float:
        """How many independent decisions say as much."""
        from scipy.special import stdtrit

        if not 0 < value < 1 or variance == 0:
            return float(self.fewest)
        size = value * (1 - value) / variance
        size *= (stdtrit(decisions - 1, level) / stdtrit(self._freedom, level)) ** 2
        return float(np.clip(size, 1, decisions))

    def _tprs(self, fprs: Array, positive_counts: Integers, negative_counts: Integers) -> Array:
        """TPR in every resample, [B, G]."""
        order = np.argsort(-self.negatives.scores)
        passed = negative_counts[:, order].cumsum(axis=1)
        ascending = np.argsort(self.positives.scores)
        # The first negative that must stay outside is the threshold; its equals stay outside.
        thresholds = np.append(self.negatives.scores[order], -np.inf)
        above = len(ascending) - np.searchsorted(
            self.positives.scores[ascending], thresholds, side="right"
        )
        reached = np.zeros((len(positive_counts), len(ascending) + 1))
        np.cumsum(positive_counts[:, ascending[::-1]], axis=1, out=reached[:, 1:])
        found = np.empty((len(passed), len(fprs)))
        with np.errstate(invalid="ignore"):
            for line, (of_negatives, of_positives) in enumerate(zip(passed, reached, strict=True)):
                allowed = fprs * of_negatives[-1] + _ROUNDING
                first = np.searchsorted(of_negatives, allowed, side="right")
                found[line] = of_positives[above[first]] / of_positives[-1]
        return found

    def _draws(self, part: Part) -> Iterator[tuple[Integers, Integers, Integers]]:
        """Resamples, a few at a time.

        One fewer is drawn than there are, as in ``oneshui.metrics.resampling``.

        Yields:
            How often every positive [B, n], every negative [B, m] and every model [B, K] counts.
        """
        if part in self._kept:
            yield self._kept[part]
            return
        generator = np.random.default_rng(derive_seed(self.seed, "crossed", part))
        step = max(1, _COUNTS_AT_ONCE // max(map(len, self._sides)))
        for start in range(0, NUM_RESAMPLES, step):
            size = min(step, NUM_RESAMPLES - start)
            models = np.ones((size, self.num_models), dtype=np.int32)
            if part == "decisions":
                counts = [_drawn(generator, len(side), size) for side in self._sides]
            elif part == "people":
                people = _drawn(generator, self.num_people, size)
                counts = [people[:, side.people] for side in self._sides]
            else:
                models = _drawn(generator, self.num_models, size)
                counts = [models[:, side.models] for side in self._sides]
            if size == NUM_RESAMPLES:
                self._kept[part] = counts[0], counts[1], models
            yield counts[0], counts[1], models

    def _variances(self, resamples: dict[Part, Array]) -> list[float]:
        """Of every estimate, from its resamples [B, G] by what was drawn."""
        parts = {part: np.nanvar(values, axis=0, ddof=1) for part, values in resamples.items()}
        totals = parts["people"] + parts["models"] - parts["decisions"]
        return [float(total) for total in np.maximum(totals, parts["decisions"])]


CURVE = ("fpr", "tpr", "low", "high")
_PARTS: tuple[Part, ...] = ("people", "models", "decisions")


def _drawn(generator: np.random.Generator, number: int, size: int) -> Integers:
    drawn = generator.integers(number, size=(size, max(number - 1, 1)))
    places = drawn + number * np.arange(size)[:, None]
    times = np.bincount(places.ravel(), minlength=size * number)
    return times.reshape(size, number).astype(np.int32)


def _per_person(people: Places, counted: Places) -> Array:
    """Weight of every decision: one for each person, divided among the person's; 0 of others."""
    of_person = np.bincount(people)
    return np.isin(people, counted) / of_person[people]


def _weighted(weights: Array, scores: Array) -> Array:
    """Mean of scores by weights [B, n], NaN where all are 0."""
    with np.errstate(invalid="ignore"):
        found: Array = weights @ scores / weights.sum(axis=1)
    return found


def _shares(yes: npt.NDArray[np.bool_], counts: Integers) -> Array:
    with np.errstate(invalid="ignore"):
        found: Array = counts @ yes / counts.sum(axis=1)
    return found


def _clopper_pearson(value: float, size: float, level: float) -> tuple[float, float]:
    """One-sided bounds of a share of ``size`` independent decisions, which need not be whole."""
    from scipy.special import betaincinv

    yes = value * size
    low = 0.0 if yes <= 0 else float(betaincinv(yes, size - yes + 1, 1 - level))
    high = 1.0 if yes >= size else float(betaincinv(yes + 1, size - yes, level))
    return low, high
