"""Intervals of decisions that are about people and under models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score, roc_curve

from oneshui.attacks.roc import tpr_at_fpr
from oneshui.audits import crossed
from oneshui.audits.crossed import Decisions, Side
from oneshui.errors import InputError


def decisions(
    seed: int,
    *,
    people: int = 40,
    models: int = 40,
    of_person: float = 0.0,
    of_model: float = 0.0,
    shift: float = 1.0,
) -> Decisions:
    """Each model decides about half of the people, and about a third of these it is right to."""
    draw = np.random.default_rng(seed)
    kinds = np.stack([draw.permutation(np.arange(people) % 3) for _ in range(models)])
    own = of_person * draw.standard_normal(people), of_model * draw.standard_normal((2, models))
    sides = []
    for kind in (0, 1):
        which, whom = np.nonzero(kinds == kind)
        noise = draw.standard_normal(len(which))
        scores = noise + (shift if kind == 0 else 0.0) + own[0][whom] + own[1][kind][which]
        sides.append(Side(scores=scores, people=whom, models=which))
    return Decisions(
        positives=sides[0], negatives=sides[1], num_people=people, num_models=models, seed=seed
    )


def test_the_auc_is_the_mean_over_models_weighted_by_their_pairs() -> None:
    made = decisions(0, people=12, models=5)
    total = pairs = 0.0
    for model in range(5):
        sides = [side.scores[side.models == model] for side in (made.positives, made.negatives)]
        truth = np.repeat([1, 0], [len(side) for side in sides])
        number = len(sides[0]) * len(sides[1])
        total += number * float(roc_auc_score(truth, np.concatenate(sides)))
        pairs += number
    assert made.auc().value == pytest.approx(total / pairs)


def test_rates_are_those_of_one_threshold_for_all_models() -> None:
    made = decisions(1)
    rates = made.rates_at([0.05, 0.2])
    for fpr, rate in zip((0.05, 0.2), rates, strict=True):
        expected = tpr_at_fpr(made.positives.scores, made.negatives.scores, fpr=fpr)
        assert rate.value == expected
    truth = np.repeat([1, 0], [len(made.positives), len(made.negatives)])
    scores = np.concatenate([made.positives.scores, made.negatives.scores])
    false, true, _ = roc_curve(truth, scores)
    curve = made.curve()
    highest = [true[false <= fpr + 1e-12].max() for fpr in curve["fpr"]]
    assert curve["tpr"].tolist() == pytest.approx(highest)
    assert curve["fpr"].iloc[-1] == 1


@pytest.mark.parametrize(
    "effects", [{}, {"of_person": 0.7}, {"of_model": 0.5}, {"of_person": 0.5, "of_model": 0.5}]
)
def test_intervals_hold_the_truth_whatever_makes_decisions_alike(
    effects: dict[str, Any],
) -> None:
    aucs, rates = [], []
    for seed in range(60):
        made = decisions(seed, **effects)
        found, (rate,) = made.auc(), made.rates_at([0.1])
        aucs.append((found.value, found.low, found.high))
        rates.append((rate.value, rate.low, rate.high))
    for each in (aucs, rates):
        value, low, high = np.array(each).T
        # Of 60 at 95 %, 52 or fewer come once in a hundred; wider than twice would hold all.
        assert ((low <= value.mean()) & (value.mean() <= high)).sum() >= 52
        assert (high - low).mean() < 2 * 2 * 1.96 * value.std()


def test_a_difference_is_the_mean_over_people_who_have_both_kinds() -> None:
    positives = Side(
        scores=np.array([1.0, 3.0, 7.0, 50.0]),
        people=np.array([0, 0, 1, 2]),
        models=np.array([0, 1, 2, 0]),
    )
    negatives = Side(
        scores=np.array([0.5, 1.0, 3.0, 90.0]),
        people=np.array([0, 1, 1, 3]),
        models=np.array([2, 0, 1, 3]),
    )
    made = Decisions(positives=positives, negatives=negatives, num_people=4, num_models=4, seed=0)
    found = made.difference()
    assert found.value == pytest.approx(((2.0 - 0.5) + (7.0 - 2.0)) / 2)
    assert found.low < found.value < found.high
    assert found.value - found.low == pytest.approx(found.high - found.value)
    apart = Side(scores=np.array([1.0]), people=np.array([3]), models=np.array([0]))
    alone = Decisions(positives=positives, negatives=apart, num_people=4, num_models=4, seed=0)
    with pytest.raises(InputError, match="nobody of the audit has decisions of both kinds"):
        alone.difference()


@pytest.mark.parametrize("effects", [{}, {"of_model": 0.5}])
def test_intervals_of_differences_hold_the_truth(effects: dict[str, Any]) -> None:
    found = [decisions(seed, shift=0.3, **effects).difference() for seed in range(100)]
    value, low, high = np.array([(one.value, one.low, one.high) for one in found]).T
    # Of 100 at 95 %, 88 or fewer come once in 200.
    assert ((low <= 0.3) & (high >= 0.3)).sum() >= 89
    assert (high - low).mean() < 2 * 2 * 1.96 * value.std()
    # Models count as what they are: taken one decision at a time, as long intervals would be wrong.
    assert value.std() > (0.1 if effects else 0.06)


def test_a_share_of_independent_decisions_has_clopper_and_pearson_s_bounds() -> None:
    for yes, of in ((3, 40), (0, 7), (7, 7)):
        expected = binomtest(yes, of).proportion_ci(0.95, method="exact")
        found = crossed._clopper_pearson(yes / of, of, 0.975)
        assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_perfect_attacks_know_no_more_than_there_are_models() -> None:
    made = decisions(2, people=24, models=30, shift=100.0)
    found = made.auc()
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 24))
    bound = made.epsilon([0.1, 0.5], delta=0.0)
    assert bound is not None
    assert 0 < bound < np.log(1 / 0.1)


def test_epsilon_looks_at_both_kinds_of_error_and_never_below_zero() -> None:
    made = decisions(3, shift=2.0)
    turned = Decisions(
        positives=Side(**{**vars(made.negatives), "scores": -made.negatives.scores}),
        negatives=Side(**{**vars(made.positives), "scores": -made.positives.scores}),
        num_people=40,
        num_models=40,
        seed=3,
    )
    both = [one.epsilon([0.05], delta=0.0) for one in (made, turned)]
    assert both[0] == pytest.approx(both[1], abs=0.1)
    assert both[0] is not None
    assert both[0] > 0.5
    assert decisions(4, shift=0.0).epsilon([0.05], delta=0.0) == 0
    assert decisions(4, people=9, models=4).epsilon([0.01], delta=0.0) is None


def test_few_decisions_have_no_curve_and_no_pair_is_an_error() -> None:
    assert decisions(5, people=6, models=4).curve().empty
    some = decisions(6, people=6, models=4)
    apart = Decisions(
        positives=Side(**{**vars(some.positives), "models": some.positives.models * 0}),
        negatives=Side(**{**vars(some.negatives), "models": some.negatives.models * 0 + 1}),
        num_people=6,
        num_models=4,
        seed=0,
    )
    with pytest.raises(InputError, match="both kinds"):
        apart.auc()
