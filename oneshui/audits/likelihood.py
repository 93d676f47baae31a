"""id-LiRA: can anyone tell a person who was unlearned from one who was never seen?

The likelihood-ratio audit of unlearning (Hayes et al., "Inexact unlearning needs more careful
evaluations to avoid a false sense of privacy", arXiv 2403.01218, there called U-LiRA) with a
person for its unit, because it is people who ask: K models are trained on everybody outside of a
pool of A people and each on another half of the pool; then each is asked to forget some of its
half. phi[k, i] is how sure model k is of the truth about person i, and a person is

    OUT  of a model that never saw them,
    IN   of one that saw them and was not asked to forget them,
    UNL  of one that saw them and was asked to.

Two attacks: "privacy" tells UNL from OUT (at best it guesses), "efficacy" UNL from IN (if it
guesses, nothing was forgotten). OUT and IN are read before any request, so a model that never saw
a person is what retraining would have given, and UNL after it.

The score of a decision is a log likelihood ratio under what the *other* models say:

    phi[k, i] ~ N(m_i, s_0^2) for OUT or IN,     N(m_i + d_i, s_1^2) for UNL,     d_i ~ N(D, t^2)

with s_0, s_1 pooled over people, D and t from the moments of the differences of the means
(DerSimonian and Laird, 1986), m_i flat, and m_i and d_i integrated out. With few models the d_i of
a person is uncertain, and this is the attack that makes the best of it; with t infinite it is the
usual one, with a mean of its own for each person.

Shapes: K models, A people, N images, C attributes or classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.attacks.roc import auc, reportable_fprs
from oneshui.audits.chance import LEVEL, alike
from oneshui.audits.crossed import Decisions, Rate, Side
from oneshui.errors import InputError
from oneshui.metrics.margin import logit_margins
from oneshui.metrics.scores import ArrayLike, as_numpy
from oneshui.seeding import derive_seed
from oneshui.spec import Task

FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

FPRS = (0.01, 0.1)
"""False-positive rates at which the audit looks, where the negatives resolve them."""
FEWEST_MODELS = 4
FEWEST_PEOPLE = 4
_LEAST_VARIANCE = 1e-12
"""Models that answer all alike would divide by zero."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Attack:
    """What one of the two attacks achieved. Fractions are in [0, 1].

    Attributes:
        auc: Over pairs of decisions under the same model, with its 95 % interval.
        tpr: TPR by false-positive rate, for each of ``FPRS``; None where fewer than 10 negatives
            would be at stake.
        epsilon: Lower bound, one-sided 95 %; None where no threshold is resolved.
        curve: The ROC curve with its band: columns fpr, tpr, low, high.
        of_people: AUC among the decisions about each person, [A]; NaN for who has none of a kind.
        positives: Decisions where UNL is right.
        negatives: Decisions where it is wrong.
    """

    auc: Rate
    tpr: dict[float, Rate | None]
    epsilon: float | None
    curve: pd.DataFrame
    of_people: FloatArray
    positives: int
    negatives: int

    @property
    def worst(self) -> float:
        """The largest AUC of a person."""
        return float(np.nanmax(self.of_people))

    @property
    def p95(self) -> float:
        """95th percentile of people's AUC."""
        return float(np.nanpercentile(self.of_people, 95))

    @property
    def worst_by_chance(self) -> float:
        """What ``worst`` stays below in 95 of 100 audits in which nobody can be told.

        By the normal approximation of Mann and Whitney's statistic; 1 with few models, where the
        worst person says nothing.
        """
        from scipy.special import ndtri

        told = int((~np.isnan(self.of_people)).sum())
        first, second = self.positives / told, self.negatives / told
        spread = np.sqrt((first + second + 1) / (12 * first * second))
        return float(min(1.0, 0.5 + ndtri(0.95 ** (1 / told)) * spread))


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """What id-LiRA says of a method.

    Attributes:
        privacy: Unlearned against never seen; an AUC of .5 is perfect.
        efficacy: Unlearned against still trained on; an AUC of .5 is nothing forgotten.
        by_chance: What ``privacy.auc`` stays below in 97.5 % of audits in which nobody can be told
            and models differ as these do; see ``oneshui.audits.chance``.
        shift: Mean over people of phi of UNL minus OUT, in log-odds, with its 95 % interval over
            people and models: above 0 people are still known, below 0 forgetting itself shows.
        memorisation: Mean phi before any request of the models that saw a person minus that of
            those that did not, [A] (Feldman, "Does learning require memorization?", 2020); NaN
            for who is of one kind only.
        forgetting: Mean phi of IN (or of the models that saw the person, where all were asked)
            minus that of UNL, [A]; NaN for whom no model was asked to forget. Where it is
            ``memorisation``, all that was memorised is gone.
        num_models: K.
        num_people: A.
    """

    privacy: Attack
    efficacy: Attack
    by_chance: float
    shift: Rate
    memorisation: FloatArray
    forgetting: FloatArray
    num_models: int
    num_people: int

    def values(self) -> dict[str, float | int | None]:
        """The columns of the results; fractions in [0, 1]."""
        private, first, second = self.privacy, *FPRS
        rate, further = private.tpr[first], private.tpr[second]
        return {
            "lira_auc": private.auc.value,
            "lira_auc_low": private.auc.low,
            "lira_auc_high": private.auc.high,
            "lira_auc_by_chance": self.by_chance,
            "lira_tpr": None if rate is None else rate.value,
            "lira_tpr_low": None if rate is None else rate.low,
            "lira_tpr_high": None if rate is None else rate.high,
            "lira_tpr_10": None if further is None else further.value,
            "lira_efficacy_auc": self.efficacy.auc.value,
            "lira_efficacy_auc_low": self.efficacy.auc.low,
            "lira_efficacy_auc_high": self.efficacy.auc.high,
            "lira_epsilon": private.epsilon,
            "lira_worst": private.worst,
            "lira_worst_by_chance": private.worst_by_chance,
            "lira_p95": private.p95,
            "lira_shift": self.shift.value,
            "lira_shift_low": self.shift.low,
            "lira_shift_high": self.shift.high,
            "lira_positives": private.positives,
            "lira_negatives": private.negatives,
            "lira_people": self.num_people,
            "lira_models": self.num_models,
        }

    def curves(self) -> pd.DataFrame:
        """Both ROC curves: columns attack ("privacy", "efficacy"), fpr, tpr, low, high."""
        parts = {"privacy": self.privacy.curve, "efficacy": self.efficacy.curve}
        found = [part.assign(attack=name) for name, part in parts.items()]
        return pd.concat(found, ignore_index=True)[["attack", *self.privacy.curve.columns]]

    def people(self, identities: ArrayLike) -> pd.DataFrame:
        """A line per person: identity, memorisation, forgetting, privacy_auc, efficacy_auc.

        Args:
            identities: Of the people, [A].
        """
        return pd.DataFrame(
            {
                "identity": as_numpy(identities),
                "memorisation": self.memorisation,
                "forgetting": self.forgetting,
                "privacy_auc": self.privacy.of_people,
                "efficacy_auc": self.efficacy.of_people,
            }
        )


def person_scores(
    logits: ArrayLike, labels: ArrayLike, identities: ArrayLike, task: Task
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """How sure one model is of each person, phi: the mean logit margin over the person's images.

    Args:
        logits: [N, C].
        labels: 0/1 [N, C], or class index [N] or [N, 1].
        identities: Of every image, [N].
        task: What the logits mean.

    Returns:
        The people in ascending order, int64 [A], and phi in log-odds, float64 [A].

    Raises:
        InputError: As ``oneshui.metrics.margin.logit_margins``.
    """
    margins = logit_margins(logits, labels, task)
    people, person = np.unique(as_numpy(identities), return_inverse=True)
    sums = np.bincount(person, weights=margins, minlength=len(people))
    return people.astype(np.int64), sums / np.bincount(person, minlength=len(people))


def memorisation(before: ArrayLike, seen: ArrayLike) -> FloatArray:
    """Mean phi of the models that saw a person minus that of those that did not, [A].

    Args:
        before: phi, [K, A].
        seen: Whether the model was trained on the person, [K, A].

    Returns:
        NaN for who is of one kind only.
    """
    phi, was_seen = as_numpy(before).astype(np.float64), as_numpy(seen).astype(bool)
    return _column_means(phi, was_seen) - _column_means(phi, ~was_seen)


def audit(
    before: ArrayLike,
    after: ArrayLike,
    seen: ArrayLike,
    asked: ArrayLike,
    *,
    seed: int,
    delta: float = 1e-5,
) -> Audit:
    """Both attacks on the models of a pool.

    Args:
        before: phi of each person under each model before any request, float [K, A].
        after: The same after the model's request; read only where ``asked``, NaN elsewhere.
        seen: Whether the model was trained on the person, bool [K, A].
        asked: Whether it was asked to forget the person, bool [K, A].
        seed: Of the resamples.
        delta: Of (epsilon, delta).

    Raises:
        InputError: Shapes differ, there are fewer than 4 models or people, a score is not finite,
            a model was asked to forget somebody it never saw, or no two models are of the same
            kind to some person.
    """
    first, then, was_seen, was_asked = _checked(before, after, seen, asked)
    unlearned = np.where(was_asked, then, np.nan)
    never = np.where(was_seen, np.nan, first)
    still = np.where(was_seen & ~was_asked, first, np.nan)
    known = _column_means(first, was_seen & ~was_asked)
    known = np.where(np.isnan(known), _column_means(first, was_seen), known)
    left = _column_means(then, was_asked)
    return Audit(
        privacy=_attack(unlearned, never, "OUT", seed=seed, delta=delta),
        efficacy=_attack(unlearned, still, "IN", seed=seed, delta=delta),
        by_chance=_by_chance(unlearned, never, seed=seed),
        shift=_shift(unlearned, never, seed=seed),
        memorisation=memorisation(first, was_seen),
        forgetting=known - left,
        num_models=first.shape[0],
        num_people=first.shape[1],
    )


def privacy_decisions(
    before: ArrayLike, after: ArrayLike, seen: ArrayLike, asked: ArrayLike, *, seed: int
) -> Decisions:
    """The scored decisions of the first attack; arguments and errors are those of ``audit``."""
    first, then, was_seen, was_asked = _checked(before, after, seen, asked)
    pair = np.where(was_asked, then, np.nan), np.where(was_seen, np.nan, first)
    return _decisions(*pair, ("UNL", "OUT"), seed=seed)


def log_ratios(
    positives: FloatArray, negatives: FloatArray, kinds: tuple[str, str], *, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Log likelihood ratio of every decision, its own model left out of what is said of people.

    D and t, two numbers about everybody, are of all models. Were they refitted for every model, the
    attack on nothing, whose D is 0 but for noise, would take its side against each model's noise,
    and be far below guessing now and then; so its AUC is above .5 by less than a standard error,
    and its interval holds .5 as often as it says.

    A decision of one kind has lost a model of that kind, so one of the other kind, drawn by the
    seed, is left out of what is said of the person too: estimates of unequal worth would set
    positives apart from negatives by themselves, and below guessing where there is nothing.

    Args:
        positives: phi of UNL, [K, A]; NaN where the model is not of this kind to the person.
        negatives: phi of OUT or IN, [K, A], likewise.
        kinds: What the two are called in an error.
        seed: Of who else is left out.

    Returns:
        Of the positives and of the negatives, [K, A], NaN where there was NaN, and where no other
        model says anything of the person.

    Raises:
        InputError: No two models are of the same kind to anybody once one is left out.
    """
    both = np.concatenate([positives, negatives])
    centre = _column_means(both, ~np.isnan(both))
    phi = positives - centre, negatives - centre
    one, other = (_Kind.of(*pair) for pair in zip(phi, kinds, strict=True))
    population = _population(*_gaps(*phi))
    generator = np.random.default_rng(derive_seed(seed, "id-LiRA", "left out", *kinds))
    fewer = [kind.fewer(values, generator) for kind, values in zip((one, other), phi, strict=True)]
    return (
        _ratio(phi[0], one, fewer[1], *population),
        _ratio(phi[1], fewer[0], other, *population),
    )


def _ratio(
    phi: FloatArray, one: _Kind, other: _Kind, mean: FloatArray, spread: FloatArray
) -> FloatArray:
    """The difference log p(phi | UNL) - log p(phi | other), both with m_i and d_i integrated out.

    The precision of (m_i, d_i) is [[a + b, b], [b, b + c]] with a = n_0/s_0^2, b = n_1/s_1^2 and
    c = 1/t^2; its determinant a b + c (a + b) is written out, because c may be very large.
    """
    # A spread of nothing would be an infinite precision.
    c = 1 / np.maximum(spread, 1e-9 * (one.variance + other.variance))
    a, b = other.counts / other.variance, one.counts / one.variance
    determinant = a * b + c * (a + b)
    both = other.sums / other.variance + one.sums / one.variance
    shifted = one.sums / one.variance + mean * c
    with np.errstate(divide="ignore", invalid="ignore"):
        base = (both * (b + c) - shifted * b) / determinant
        gap = (shifted * (a + b) - both * b) / determinant
        of_other = other.variance + (b + c) / determinant
        of_one = one.variance + (a + c) / determinant
        found = _log_normal(phi, base + gap, of_one) - _log_normal(phi, base, of_other)
    return np.where(determinant > 0, found, np.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kind:
    """What the models but one say of people: counts and sums of phi [K, A], variance [K, 1]."""

    counts: FloatArray
    sums: FloatArray
    variance: FloatArray

    @classmethod
    def of(cls, phi: FloatArray, name: str) -> _Kind:
        there = ~np.isnan(phi)
        filled = np.where(there, phi, 0.0)
        counts = (there.sum(axis=0) - there).astype(np.float64)
        sums = filled.sum(axis=0) - filled
        squares = (filled**2).sum(axis=0) - filled**2
        within = np.maximum(squares - sums**2 / np.maximum(counts, 1), 0).sum(axis=1)
        freedom = np.maximum(counts - 1, 0).sum(axis=1)
        if not (freedom > 0).all():
            raise InputError(
                f"the audit has too few models that are {name} to the same person to know how far "
                "models differ: train more models, or ask each to forget more people"
            )
        variance = np.maximum(within / freedom, _LEAST_VARIANCE)
        return cls(counts=counts, sums=sums, variance=variance[:, None])

    def fewer(self, phi: FloatArray, generator: np.random.Generator) -> _Kind:
        """The same without one more model of this kind to the person, where there is one."""
        there = ~np.isnan(phi)
        # The same one for all decisions about a person, whichever models there are beside it.
        chosen = np.where(there, generator.random(phi.shape), 2.0).argmin(axis=0)
        lost = np.where(there, phi, 0.0)[chosen, np.arange(phi.shape[1])]
        counts = np.maximum(self.counts - 1, 0)
        sums = np.where(self.counts > 0, self.sums - lost, 0.0)
        return _Kind(counts=counts, sums=sums, variance=self.variance)


def _gaps(one: FloatArray, other: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Difference of every person's two means, and its variance, each [1, A]; NaN without one."""
    means, errors = [], []
    for phi in (one, other):
        there = ~np.isnan(phi)
        counts = there.sum(axis=0)
        mean = _column_means(phi, there)
        within = (np.where(there, phi - mean, 0.0) ** 2).sum() / np.maximum(counts - 1, 0).sum()
        within = max(within, _LEAST_VARIANCE)
        means.append(mean)
        errors.append(np.where(counts > 0, within / np.maximum(counts, 1), np.nan))
    return (means[0] - means[1])[None], (errors[0] + errors[1])[None]


def _population(gaps: FloatArray, noise: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance over people of the true gaps, each [K, 1] of [K, A]."""
    there = np.isfinite(gaps) & np.isfinite(noise)
    weights = np.where(there, 1 / np.where(there, noise, 1.0), 0.0)
    values = np.where(there, gaps, 0.0)
    total = weights.sum(axis=1, keepdims=True)
    if not (total > 0).all():
        raise InputError("the audit has nobody whom some models forgot and others did not")
    mean = (weights * values).sum(axis=1, keepdims=True) / total
    excess = (weights * (values - mean) ** 2).sum(axis=1, keepdims=True)
    excess -= there.sum(axis=1, keepdims=True) - 1
    scale = total - (weights**2).sum(axis=1, keepdims=True) / total
    spread = np.maximum(excess, 0) / np.where(scale > 0, scale, 1.0)
    weights = np.where(there, 1 / (np.where(there, noise, 1.0) + spread), 0.0)
    mean = (weights * values).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    return mean, spread


def _decisions(
    positives: FloatArray, negatives: FloatArray, kinds: tuple[str, str], *, seed: int
) -> Decisions:
    """The decisions between two kinds, given phi of each as of ``log_ratios``."""
    ratios = log_ratios(positives, negatives, kinds, seed=seed)
    return Decisions(
        positives=_side(ratios[0]),
        negatives=_side(ratios[1]),
        num_people=positives.shape[1],
        num_models=len(positives),
        seed=seed,
    )


def _attack(
    unlearned: FloatArray, others: FloatArray, kind: str, *, seed: int, delta: float
) -> Attack:
    decisions = _decisions(unlearned, others, ("UNL", kind), seed=seed)
    resolved = reportable_fprs(len(decisions.negatives), FPRS)
    rates = dict(zip(resolved, decisions.rates_at(resolved), strict=True))
    return Attack(
        auc=decisions.auc(),
        tpr={fpr: rates.get(fpr) for fpr in FPRS},
        epsilon=decisions.epsilon(FPRS, delta=delta),
        curve=decisions.curve(),
        of_people=_aucs_of_people(decisions),
        positives=len(decisions.positives),
        negatives=len(decisions.negatives),
    )


def _by_chance(unlearned: FloatArray, never: FloatArray, *, seed: int) -> float:
    kinds = ("UNL", "OUT")
    found = [
        _decisions(*drawn, kinds, seed=seed).point() for drawn in alike(unlearned, never, seed=seed)
    ]
    return float(np.quantile(found, LEVEL))


def _shift(unlearned: FloatArray, never: FloatArray, *, seed: int) -> Rate:
    """How much higher UNL is than OUT, in log-odds, person by person."""
    # People differ far more than a person's two means do; when models are drawn anew, the two do
    # not have the same people any more.
    both = np.concatenate([unlearned, never])
    centre = _column_means(both, ~np.isnan(both))
    return Decisions(
        positives=_side(unlearned - centre),
        negatives=_side(never - centre),
        num_people=unlearned.shape[1],
        num_models=len(unlearned),
        seed=seed,
    ).difference()


def _side(ratios: FloatArray) -> Side:
    models, people = np.nonzero(~np.isnan(ratios))
    return Side(scores=ratios[models, people], people=people, models=models)


def _aucs_of_people(decisions: Decisions) -> FloatArray:
    found = np.full(decisions.num_people, np.nan)
    for person in range(decisions.num_people):
        sides = (decisions.positives, decisions.negatives)
        yes, no = (side.scores[side.people == person] for side in sides)
        if len(yes) and len(no):
            found[person] = auc(yes, no)
    return found


def _log_normal(values: FloatArray, mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Log density but for a constant."""
    found: FloatArray = -0.5 * (np.log(variance) + (values - mean) ** 2 / variance)
    return found


def _column_means(values: FloatArray, chosen: BoolArray) -> FloatArray:
    counts = chosen.sum(axis=0)
    sums = np.where(chosen, values, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _checked(
    before: ArrayLike, after: ArrayLike, seen: ArrayLike, asked: ArrayLike
) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray]:
    first, then = (as_numpy(values).astype(np.float64) for values in (before, after))
    was_seen, was_asked = (as_numpy(values).astype(bool) for values in (seen, asked))
    shapes = {array.shape for array in (first, then, was_seen, was_asked)}
    if len(shapes) != 1 or first.ndim != 2:
        raise InputError(f"the audit's arrays have shapes {sorted(shapes)}, but all must be [K, A]")
    if first.shape[0] < FEWEST_MODELS or first.shape[1] < FEWEST_PEOPLE:
        raise InputError(
            f"the audit has {first.shape[0]} models and {first.shape[1]} people, but needs "
            f"at least {FEWEST_MODELS} models and {FEWEST_PEOPLE} people"
        )
    if (was_asked & ~was_seen).any():
        raise InputError("the audit has models that were asked to forget people they never saw")
    bad = int((~np.isfinite(first)).sum() + (~np.isfinite(then[was_asked])).sum())
    if bad:
        raise InputError(f"{bad} of the audit's scores are not finite")
    return first, then, was_seen, was_asked
