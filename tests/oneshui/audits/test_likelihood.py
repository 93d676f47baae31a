"""id-LiRA where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from reference.likelihood import log_ratio
from scipy.stats import norm

from oneshui.attacks.roc import auc
from oneshui.audits import likelihood
from oneshui.audits.likelihood import (
    FPRS,
    Audit,
    audit,
    log_ratios,
    memorisation,
    person_scores,
    privacy_decisions,
)
from oneshui.errors import InputError


def toy(
    seed: int,
    models: int = 32,
    people: int = 64,
    *,
    shift: float = 0.0,
    memorised: float = 2.0,
    unlike: float = 0.0,
) -> tuple[np.ndarray, ...]:
    """Before, after, seen and asked of people whose phi has variance 1 over models.

    Unlearned people are ``shift`` above never seen ones, give or take ``unlike``.
    """
    draw = np.random.default_rng(seed)
    seen = np.stack([draw.permutation(models) < models // 2 for _ in range(people)], axis=1)
    asked = np.zeros_like(seen)
    for person in range(people):
        those = draw.permutation(np.flatnonzero(seen[:, person]))
        asked[those[: len(those) // 2], person] = True
    level = 3 * draw.standard_normal(people)
    gap = shift + unlike * draw.standard_normal(people)
    before = level + memorised * seen + draw.standard_normal((models, people))
    after = level + gap + draw.standard_normal((models, people))
    return before, np.where(asked, after, np.nan), seen, asked


def _auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    sides = [ratios[~np.isnan(ratios)] for ratios in (positives, negatives)]
    return auc(*sides)


@pytest.fixture(scope="module")
def told() -> Audit:
    return audit(*toy(0, shift=1.0), seed=0)


@pytest.mark.parametrize("shift", [0.0, 1.0, -1.0])
def test_the_auc_is_that_of_the_likelihood_ratio_in_closed_form(shift: float) -> None:
    truth = norm.cdf(abs(shift) / np.sqrt(2))
    values, held = [], 0
    for seed in range(40):
        found = privacy_decisions(*toy(seed, shift=shift), seed=seed).auc()
        values.append(found.value)
        held += found.low <= truth <= found.high
    # 200 draws are in benchmarks/likelihood.py; of 40 at 95 %, 33 or fewer come once in 1,400.
    assert held >= 34
    assert np.mean(values) == pytest.approx(truth, abs=0.012)


def test_a_decision_is_scored_as_the_joint_distribution_of_all_models_says() -> None:
    before, after, seen, asked = toy(3, models=8, people=6, shift=1.0)
    positives, negatives = after, np.where(seen, np.nan, before)
    kinds = [
        likelihood._Kind.of(values, name) for values, name in ((positives, "a"), (negatives, "b"))
    ]
    gaps = kinds[0].sums / kinds[0].counts - kinds[1].sums / kinds[1].counts
    noise = kinds[0].variance / kinds[0].counts + kinds[1].variance / kinds[1].counts
    mean, spread = likelihood._population(gaps, noise)
    ratios = likelihood._ratio(positives, kinds[0], kinds[1], mean, spread)
    assert spread.max() > 0
    for model, person in zip(*np.nonzero(asked), strict=True):
        others = np.arange(8) != model
        expected = log_ratio(
            positives[model, person],
            positives[others & asked[:, person], person],
            negatives[others & ~seen[:, person], person],
            variance_one=kinds[0].variance[model, 0],
            variance_other=kinds[1].variance[model, 0],
            mean=mean[model, 0],
            spread=spread[model, 0],
        )
        assert ratios[model, person] == pytest.approx(expected, abs=1e-4)


def test_what_is_said_of_people_leaves_the_decisions_own_model_out() -> None:
    _, after, _, asked = toy(4, models=8, people=8, shift=1.0)
    changed = after.copy()
    changed[2] += 50.0
    first, again = (likelihood._Kind.of(values, "UNL") for values in (after, changed))
    for name in ("counts", "sums", "variance"):
        own, others = (getattr(kind, name) for kind in (first, again))
        np.testing.assert_allclose(own[2], others[2])
    person = int(np.flatnonzero(asked[2])[0])
    assert (first.sums[3] != again.sums[3])[person]


def test_of_each_side_equally_many_models_are_left_out() -> None:
    _, after, _, _ = toy(5, models=8, people=8)
    kind = likelihood._Kind.of(after, "UNL")
    fewer = kind.fewer(after, np.random.default_rng(0))
    elsewhere = np.isnan(after)
    assert (fewer.counts[elsewhere] == kind.counts[elsewhere] - 1).all()
    gone = np.round((kind.sums - fewer.sums)[elsewhere], 9)
    assert np.isin(gone, np.round(after[~elsewhere], 9)).all()


def test_doing_nothing_is_found_out_and_forgets_nothing() -> None:
    before, _, seen, asked = toy(1, shift=0.0)
    found = audit(before, np.where(asked, before, np.nan), seen, asked, seed=1)
    assert found.privacy.auc.low > 0.85
    assert found.privacy.epsilon is not None
    assert found.privacy.epsilon > 1
    assert found.efficacy.auc.low <= 0.5 <= found.efficacy.auc.high
    left = np.nanmean(np.where(asked, before, np.nan), axis=0)
    never = np.nanmean(np.where(seen, np.nan, before), axis=0)
    assert found.shift.value == pytest.approx((left - never).mean())
    assert 1.5 < found.shift.low < 2 < found.shift.high < 2.5
    assert np.abs(found.forgetting).mean() < 0.6


def test_what_never_saw_them_is_found_guilty_of_nothing() -> None:
    found = audit(*toy(2, shift=0.0), seed=2)
    assert found.privacy.auc.low <= 0.5 <= found.privacy.auc.high
    assert found.privacy.epsilon == 0
    assert found.privacy.worst < 1
    assert found.privacy.worst <= found.privacy.worst_by_chance
    assert found.efficacy.auc.low > 0.85
    assert np.corrcoef(found.memorisation, found.forgetting)[0, 1] > -1


def test_the_bound_of_epsilon_stays_below_the_truth() -> None:
    # Of two normal distributions one apart, epsilon at TPR t and FPR f is log(t / f) at most there.
    for seed in range(5):
        found = privacy_decisions(*toy(seed, shift=1.0), seed=seed).epsilon(FPRS, delta=0.0)
        truth = max(np.log(norm.sf(norm.isf(fpr) - 1) / fpr) for fpr in FPRS)
        assert found is not None
        assert 0 < found < truth


def test_no_rate_is_given_that_too_few_negatives_resolve() -> None:
    small = audit(*toy(0, models=8, people=16, shift=1.0), seed=0)
    assert small.privacy.negatives == 64
    assert small.privacy.tpr == {0.01: None, 0.1: None}
    assert small.values()["lira_tpr"] is None
    middle = audit(*toy(0, models=16, people=16, shift=1.0), seed=0).privacy
    assert middle.negatives == 128
    assert middle.tpr[0.01] is None
    assert middle.tpr[0.1] is not None
    assert middle.curve["fpr"].iloc[0] == 10 / 128


def test_rates_and_curves_have_bands_around_them(told: Audit) -> None:
    rate = told.privacy.tpr[0.01]
    assert rate is not None
    assert rate.low < norm.sf(norm.isf(0.01) - 1) < rate.high
    curve = told.curves()
    assert set(curve["attack"]) == {"privacy", "efficacy"}
    own = curve[curve["attack"] == "privacy"]
    assert (own["low"] <= own["tpr"]).all()
    assert (own["tpr"] <= own["high"]).all()
    assert own["fpr"].is_monotonic_increasing
    truth = norm.sf(norm.isf(own["fpr"].clip(upper=1 - 1e-9)) - 1)
    inside = ((own["low"] <= truth) & (truth <= own["high"])).mean()
    assert inside > 0.8


def test_the_attack_is_stronger_than_with_means_of_each_person_alone() -> None:
    differences = []
    for seed in range(6):
        before, after, seen, _ = toy(seed, models=8, people=16, shift=1.0)
        negatives = np.where(seen, np.nan, before)
        found = log_ratios(after, negatives, ("UNL", "OUT"), seed=seed)
        kinds = [likelihood._Kind.of(values, "x") for values in (after, negatives)]
        mean, wide = np.zeros((8, 1)), np.full((8, 1), 1e6)
        alone = [
            likelihood._ratio(values, kinds[0], kinds[1], mean, wide)
            for values in (after, negatives)
        ]
        own, plain = (_auc(*each) for each in (found, alone))
        differences.append(own - plain)
    assert np.mean(differences) > 0.03


def test_memorisation_is_what_seeing_a_person_adds() -> None:
    before = np.array([[3.0, 1.0], [1.0, 2.0], [5.0, 4.0], [2.0, 8.0]])
    seen = np.array([[True, False], [False, True], [True, False], [False, False]])
    found = memorisation(before, seen)
    assert found.tolist() == [4 - 1.5, 2 - 13 / 3]
    alone = memorisation(before, np.ones_like(seen))
    assert np.isnan(alone).all()


def test_a_persons_score_is_the_mean_over_pictures_and_attributes() -> None:
    people, phi = person_scores(
        [[1.0, -2.0], [3.0, 1.0], [0.5, 0.5]], [[1, 0], [1, 1], [0, 1]], [7, 7, 2], "multilabel"
    )
    assert people.tolist() == [2, 7]
    assert phi.tolist() == [0.0, (1.5 + 2.0) / 2]


def test_results_are_columns_of_numbers_and_people_lines(told: Audit) -> None:
    values = told.values()
    assert values["lira_auc"] == told.privacy.auc.value
    assert values["lira_efficacy_auc"] == told.efficacy.auc.value
    assert (values["lira_positives"], values["lira_negatives"]) == (512, 1024)
    assert values["lira_worst"] >= values["lira_p95"] >= values["lira_auc"]  # type: ignore[operator]
    table = told.people(range(100, 164))
    assert table["identity"].tolist() == list(range(100, 164))
    assert table["privacy_auc"].max() == values["lira_worst"]
    assert table["memorisation"].mean() == pytest.approx(2, abs=0.3)


def test_a_direction_is_shown_only_where_people_deviate_to_the_same_side() -> None:
    # Half of the people are known still, the others more strange than strangers.
    before, after, seen, asked = toy(6)
    both_ways = np.where(np.arange(64) % 2, 1.5, -1.5)
    found = audit(before, after + both_ways, seen, asked, seed=6)
    assert found.privacy.auc.low > 0.5
    assert found.privacy.auc.value > found.by_chance
    assert found.shift.low < 0 < found.shift.high
    assert audit(before, after + 1.5, seen, asked, seed=6).shift.low > 0
    assert audit(before, after - 1.5, seen, asked, seed=6).shift.high < 0


def test_the_same_seed_gives_the_same_audit(told: Audit) -> None:
    assert audit(*toy(0, shift=1.0), seed=0).values() == told.values()
    assert audit(*toy(0, shift=1.0), seed=1).values() != told.values()


def test_what_cannot_be_audited_is_refused() -> None:
    before, after, seen, asked = toy(0, models=8, people=16)
    with pytest.raises(InputError, match="all must be"):
        audit(before, after[:4], seen, asked, seed=0)
    with pytest.raises(InputError, match="never saw"):
        audit(before, after, ~seen, asked, seed=0)
    with pytest.raises(InputError, match="1 of the audit's scores are not finite"):
        audit(np.where(before == before[0, 0], np.inf, before), after, seen, asked, seed=0)
    with pytest.raises(InputError, match="3 models"):
        audit(before[:3], after[:3], seen[:3], asked[:3], seed=0)
    once = np.zeros_like(asked)
    for person in range(16):
        once[np.flatnonzero(asked[:, person])[0], person] = True
    with pytest.raises(InputError, match="too few models that are UNL"):
        audit(before, np.where(once, 0.0, np.nan), seen, once, seed=0)
