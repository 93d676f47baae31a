"""The one-feature forest beside scikit-learn's, which it must equal exactly."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import RandomForestClassifier

from oneshui.attacks.forest import forest_votes


def by_sklearn(
    values: npt.NDArray[Any],
    is_member: npt.NDArray[Any],
    queries: npt.NDArray[Any],
    criterion: Literal["gini", "entropy"],
    trees: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    forest = RandomForestClassifier(trees, criterion=criterion, random_state=seed, n_jobs=1)
    forest.fit(values[:, None], is_member)
    votes: npt.NDArray[np.float64] = forest.predict_proba(queries[:, None])[:, 1]
    return votes


@pytest.mark.parametrize("criterion", ["gini", "entropy"])
@pytest.mark.parametrize("decimals", [1, 3, 7])
@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_votes_are_those_of_scikit_learn(
    criterion: Literal["gini", "entropy"], decimals: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    values = generator.gamma(2.0, 0.3, size=400).round(decimals).astype(np.float32)
    is_member = (generator.random(400) < 0.8).astype(np.int64)
    queries = np.concatenate([values[:100], generator.gamma(2.0, 0.4, 200).astype(np.float32)])
    ours = forest_votes(values, is_member, queries, trees=20, seed=seed)
    theirs = by_sklearn(values, is_member, queries, criterion, trees=20, seed=seed)
    np.testing.assert_array_equal(ours, theirs)


def test_values_that_are_equal_or_of_one_kind_give_one_leaf() -> None:
    queries = np.array([0.0, 1.0, 2.0])
    alike = forest_votes(np.ones(50), np.ones(50, dtype=np.int64), queries, trees=5, seed=0)
    assert (alike == 1).all()
    mixed = forest_votes(np.ones(50), np.arange(50) % 2, queries, trees=5, seed=0)
    assert len(set(mixed.tolist())) == 1
    assert 0.3 < mixed[0] < 0.7
