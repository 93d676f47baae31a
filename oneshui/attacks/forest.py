"""The random forest of the loss attack, for its single feature, to the bit what sklearn fits.

A fully grown tree on one feature needs no search: the best split of a node lies between two
neighbouring values of different label shares (Fayyad and Irani, 1992), whatever concave impurity
is used, so in the end the tree has cut the line at all those places, and gini and entropy give
the same tree. Sorting once for all trees and cutting with array operations costs a few
milliseconds a tree where sklearn's recursion costs hundreds (160,000 losses).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_CANNOT_SPLIT = np.float32(1e-7)
"""sklearn never cuts between values as near as this (its FEATURE_THRESHOLD)."""


def forest_votes(
    values: npt.NDArray[Any],
    is_member: npt.NDArray[Any],
    queries: npt.NDArray[Any],
    *,
    trees: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    """Mean over trees of the share of members in the leaf of every query, [q] in [0, 1].

    Equal to ``RandomForestClassifier(trees, random_state=seed).fit(...).predict_proba(...)[:, 1]``
    of scikit-learn 1.6 and 1.9, bootstrap samples included.

    Args:
        values: The feature, [n].
        is_member: 0/1, [n].
        queries: [q].
        trees: How many.
        seed: In [0, 2**32).
    """
    order = np.argsort(values.astype(np.float32), kind="stable")
    ordered, labels = values.astype(np.float32)[order], is_member[order]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    asked = queries.astype(np.float32).astype(np.float64)
    # sklearn draws with numpy's old generator, which is the only one that gives its samples.
    of_forest = np.random.RandomState(seed)
    total = np.zeros(len(queries))
    for _ in range(trees):
        of_tree = np.random.RandomState(of_forest.randint(np.iinfo(np.int32).max))
        drawn = of_tree.randint(0, len(order), len(order), dtype=np.int32)
        times = np.bincount(place[drawn], minlength=len(order))
        total += _tree_votes(ordered, labels, times, asked)
    return total / trees


def _tree_votes(
    ordered: npt.NDArray[np.float32],
    labels: npt.NDArray[Any],
    times: npt.NDArray[np.int64],
    queries: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    present = np.flatnonzero(times)
    values, weights = ordered[present], times[present]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] > values[:-1] + _CANNOT_SPLIT]))
    members = np.add.reduceat(weights * labels[present], starts)
    share = members / np.add.reduceat(weights, starts)
    is_pure = (share == 0) | (share == 1)
    cuts = np.flatnonzero((share[1:] != share[:-1]) | ~is_pure[1:])
    low, high = values[starts[1:] - 1][cuts], values[starts[1:]][cuts]
    thresholds = low.astype(np.float64) / 2 + high.astype(np.float64) / 2
    leaf = np.searchsorted(thresholds, queries, side="left")
    votes: npt.NDArray[np.float64] = share[np.concatenate([[0], cuts + 1])][leaf]
    return votes
