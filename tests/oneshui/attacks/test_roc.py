from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import auc as slow_auc
from reference.tpr import tpr_at_fpr as slow_tpr_at_fpr
from sklearn.metrics import roc_auc_score, roc_curve

from oneshui.attacks.roc import (
    auc,
    log_log_points,
    reportable_fprs,
    roc,
    tpr_at_fpr,
)
from oneshui.errors import InputError

GENERATOR = np.random.default_rng(0)
MEMBERS = GENERATOR.normal(1.0, size=80).round(1)
OTHERS = GENERATOR.normal(0.0, size=300).round(1)

SCORES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=20)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(SCORES, SCORES)
def test_auc_and_tpr_are_their_definitions_with_ties(
    members: list[float], others: list[float]
) -> None:
    assert auc(members, others) == pytest.approx(slow_auc.auc(members, others))
    for count in range(1, len(others) + 1):
        fpr = count / len(others)
        expected = slow_tpr_at_fpr(members, others, fpr)
        assert tpr_at_fpr(members, others, fpr=fpr) == pytest.approx(expected)


def test_the_curve_is_sklearn_s() -> None:
    truth = np.repeat([1, 0], [len(MEMBERS), len(OTHERS)])
    scores = np.concatenate([MEMBERS, OTHERS])
    fpr, tpr, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    curve = roc(MEMBERS, OTHERS)
    np.testing.assert_allclose(curve.fpr, fpr)
    np.testing.assert_allclose(curve.tpr, tpr)
    np.testing.assert_allclose(curve.thresholds, thresholds)
    assert auc(MEMBERS, OTHERS) == pytest.approx(roc_auc_score(truth, scores))


def test_an_fpr_below_one_non_member_is_refused_and_the_smallest_is_named() -> None:
    with pytest.raises(InputError, match=r"smallest FPR that they resolve is 0\.00333"):
        tpr_at_fpr(MEMBERS, OTHERS, fpr=1e-4)
    for fpr in (0.0, 1.1, np.nan):
        with pytest.raises(InputError, match="cannot be measured"):
            tpr_at_fpr(MEMBERS, OTHERS, fpr=fpr)


def test_a_rate_is_reported_from_ten_non_members_on() -> None:
    assert [reportable_fprs(number) for number in (99, 100, 999)] == [(), (0.1,), (0.1,)]
    assert reportable_fprs(1000) == reportable_fprs(3000) == (0.01, 0.1)
    assert reportable_fprs(10_000) == (0.001, 0.01, 0.1)
    with pytest.raises(InputError, match="without a non-member"):
        reportable_fprs(0)


def test_log_log_points_are_observable_points_of_the_curve() -> None:
    points = log_log_points(MEMBERS, OTHERS, num_points=50)
    assert len(points) <= 50
    assert points["fpr"].iloc[-1] == points["tpr"].iloc[-1] == 1.0
    for fpr, tpr in points.itertuples(index=False):
        assert tpr == tpr_at_fpr(MEMBERS, OTHERS, fpr=fpr) > 0
    assert list(log_log_points([0.0], [1.0])["fpr"]) == [1.0]
    with pytest.raises(InputError, match="at least 2"):
        log_log_points(MEMBERS, OTHERS, num_points=1)


def test_neither_order_nor_a_constant_matters() -> None:
    shuffled = GENERATOR.permutation(MEMBERS), GENERATOR.permutation(OTHERS)
    assert auc(*shuffled) == auc(MEMBERS, OTHERS)
    assert auc(MEMBERS + 4, OTHERS + 4) == auc(MEMBERS, OTHERS)


@pytest.mark.parametrize("bad", [[], [[0.1]], [0.1, np.nan], [np.inf]])
def test_unusable_scores_are_refused(bad: Any) -> None:
    with pytest.raises(InputError, match="scores of the members"):
        auc(bad, OTHERS)
    with pytest.raises(InputError, match="scores of the non-members"):
        roc(MEMBERS, bad)
