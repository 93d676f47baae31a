from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from reference.analyses import cosine_distance, ranks, share_of_right_attributes

from oneshui.errors import InputError
from oneshui.metrics.divergence import js_divergence
from oneshui.metrics.identities import (
    centroids,
    per_identity,
    retain_drop,
    support_hardness,
)
from oneshui.metrics.trends import Trend
from oneshui.spec import Task

Array = npt.NDArray[Any]

SETS = ["forget", "forget", "retain", "forget", "retain", "support"]
IDENTITIES = [7, 3, 5, 7, 5, 7]


def predictions(seed: int, task: Task = "multilabel") -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    of_data = np.random.default_rng(0)
    labels = of_data.integers(0, 2, size=(len(SETS), 4))
    if task == "multiclass":
        labels = of_data.integers(0, 4, size=(len(SETS), 1))
    return pd.DataFrame(
        {
            "set": SETS,
            "image": np.arange(len(SETS)),
            "identity": IDENTITIES,
            "loss": generator.random(len(SETS)).astype(np.float32),
            "label": list(labels.astype(np.float32)),
            "logits": list(generator.normal(size=(len(SETS), 4)).astype(np.float32)),
        }
    )


def test_a_row_holds_what_its_identity_s_images_say() -> None:
    own, retrained = predictions(1), predictions(2)
    membership = np.arange(len(SETS)) / 10
    table = per_identity(own, retrained, membership, task="multilabel")
    assert list(zip(table["set"], table["identity"], table["images"], strict=True)) == [
        ("forget", 7, 2),
        ("forget", 3, 1),
        ("retain", 5, 2),
        ("support", 7, 1),
    ]
    row = table.iloc[0]
    rows = [0, 3]

    def score(part: pd.DataFrame) -> float:
        return float(
            np.mean([share_of_right_attributes(part["logits"][i], part["label"][i]) for i in rows])
        )

    divergence = js_divergence(
        np.stack(own["logits"].to_list()), np.stack(retrained["logits"].to_list()), "multilabel"
    )
    assert row["score"] == pytest.approx(score(own))
    assert row["retrained_score"] == pytest.approx(score(retrained))
    assert row["gap"] == pytest.approx(score(own) - score(retrained))
    assert row["loss"] == pytest.approx(own["loss"][rows].mean())
    assert row["retrained_loss"] == pytest.approx(retrained["loss"][rows].mean())
    assert row["membership"] == pytest.approx(0.15)
    assert row["js"] == pytest.approx(divergence[rows].mean())


def test_an_attribute_at_a_logit_of_0_is_predicted_absent() -> None:
    own = predictions(1).iloc[[1]]
    own = own.assign(logits=list(np.zeros((1, 4))), label=list(np.eye(1, 4)))
    assert per_identity(own, own, task="multilabel")["score"].tolist() == [0.75]


def test_the_score_of_classes_is_the_accuracy() -> None:
    own = predictions(1, "multiclass")
    table = per_identity(own, own, task="multiclass")
    right = [np.argmax(own["logits"][i]) == own["label"][i][0] for i in (0, 3)]
    assert table["score"][0] == np.mean(right)
    assert (table["gap"] == 0).all()
    assert (table["js"] == 0).all()
    assert table["membership"].isna().all()


def test_the_order_of_images_changes_no_row() -> None:
    order = np.random.default_rng(0).permutation(len(SETS))
    expected, shuffled = (
        per_identity(own, retrained, membership, task="multilabel").sort_values(
            ["set", "identity"], ignore_index=True
        )
        for own, retrained, membership in (
            (predictions(1), predictions(2), np.arange(6)),
            (predictions(1).iloc[order], predictions(2).iloc[order], np.arange(6)[order]),
        )
    )
    pd.testing.assert_frame_equal(shuffled, expected)


def test_tables_that_do_not_fit_are_refused() -> None:
    own = predictions(1)
    with pytest.raises(InputError, match="differ in images"):
        per_identity(own, own.iloc[::-1], task="multilabel")
    with pytest.raises(InputError, match="at least one image"):
        per_identity(own[:0], own[:0], task="multilabel")
    with pytest.raises(InputError, match="6 finite membership scores"):
        per_identity(own, own, np.zeros(5), task="multilabel")
    with pytest.raises(InputError, match="6 finite losses of the model"):
        per_identity(own.assign(loss=np.nan), own, task="multilabel")
    with pytest.raises(InputError, match="labels of a multiclass task"):
        per_identity(own, own, task="multiclass")


def test_centroids_are_means_by_identity() -> None:
    features = torch.tensor([[1.0, 0.0], [5.0, 5.0], [3.0, 2.0]])
    names, centres = centroids(features, [9, 4, 9])
    np.testing.assert_array_equal(names, [4, 9])
    np.testing.assert_array_equal(centres, [[5, 5], [2, 1]])
    with pytest.raises(InputError, match="one identity"):
        centroids(features, [9, 4])


def check_line(trend: Trend, outcome: str) -> None:
    x, y = trend.points["distance"].to_numpy(), trend.points[outcome].to_numpy()
    assert (trend.slope, trend.intercept) == pytest.approx(tuple(np.polyfit(x, y, 1)))
    assert trend.pearson == pytest.approx(np.corrcoef(x, y)[0, 1])
    by_rank = np.corrcoef(ranks(x.tolist()), ranks(y.tolist()))[0, 1]
    assert trend.spearman == pytest.approx(by_rank)
    assert trend.num_points == len(x)


def test_support_hardness_is_distance_against_gap() -> None:
    generator = np.random.default_rng(0)
    support, centres = generator.normal(size=(2, 12, 5))
    gaps = generator.normal(size=12).round(1)
    trend = support_hardness(support, centres, gaps, identities=range(20, 32))
    expected = [cosine_distance(u, v) for u, v in zip(support, centres, strict=True)]
    np.testing.assert_allclose(trend.points["distance"], expected)
    np.testing.assert_array_equal(trend.points["gap"], gaps)
    np.testing.assert_array_equal(trend.points["identity"], range(20, 32))
    check_line(trend, "gap")
    euclidean = support_hardness(support, centres, gaps, distance="euclidean")
    distances = [math.dist(u, v) for u, v in zip(support, centres, strict=True)]
    np.testing.assert_allclose(euclidean.points["distance"], distances)


@pytest.mark.parametrize(("to", "reduce"), [("nearest", min), ("mean", np.mean)])
def test_retain_drop_is_drop_against_distance_to_the_forgotten(
    to: Any, reduce: Callable[[list[float]], float]
) -> None:
    generator = np.random.default_rng(0)
    retain, forget = generator.normal(size=(15, 4)), generator.normal(size=(6, 4))
    drops = generator.normal(size=15)
    for distance, slow in (("cosine", cosine_distance), ("euclidean", math.dist)):
        trend = retain_drop(retain, forget, drops, to=to, distance=distance)  # type: ignore[arg-type]
        expected = [reduce([slow(u, v) for v in forget]) for u in retain]
        np.testing.assert_allclose(trend.points["distance"], expected)
        check_line(trend, "drop")


def test_a_perfect_line_is_found_and_its_direction_told() -> None:
    centres = np.zeros((4, 2))
    support = np.array([[1.0, 0], [2, 0], [3, 0], [4, 0]])
    trend = support_hardness(support, centres, [0.3, 0.5, 0.7, 0.9], distance="euclidean")
    assert (trend.slope, trend.intercept) == pytest.approx((0.2, 0.1))
    assert (trend.pearson, trend.spearman) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize(
    ("positions", "gaps", "has_line"),
    [
        ([1.0], [0.1], False),
        ([1.0, 2], [0.1, 0.2], True),
        ([1.0, 1, 1], [0.1, 0.2, 0.3], False),
        ([1.0, 2, 3], [0.1, 0.1, 0.1], True),
    ],
)
def test_what_too_few_or_equal_points_cannot_say_is_missing(
    positions: list[float], gaps: list[float], has_line: bool
) -> None:
    support = np.array(positions)[:, None]
    trend = support_hardness(support, np.zeros_like(support), gaps, distance="euclidean")
    assert (trend.slope is not None) == (trend.intercept is not None) == has_line
    assert trend.pearson is None
    assert trend.spearman is None
    assert trend.num_points == len(gaps)


GOOD = np.ones((3, 2))


@pytest.mark.parametrize(
    ("support", "centres", "gaps", "options", "message"),
    [
        (GOOD[:2], GOOD, np.zeros(3), {}, "its own identity"),
        (GOOD, GOOD, np.zeros(2), {}, "3 finite gaps"),
        (GOOD, GOOD, np.full(3, np.nan), {}, "3 finite gaps"),
        (GOOD[:0], GOOD[:0], np.zeros(0), {}, "not empty"),
        (np.full((3, 2), np.inf), GOOD, np.zeros(3), {}, "3 of 3 rows of support"),
        (np.zeros((3, 2)), GOOD, np.zeros(3), {}, "length 0"),
        (GOOD, GOOD, np.zeros(3), {"distance": "cosin"}, "did you mean 'cosine'"),
        (GOOD, GOOD, np.zeros(3), {"identities": [1]}, "identities"),
    ],
)
def test_unusable_features_are_refused(
    support: Array, centres: Array, gaps: Array, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        support_hardness(support, centres, gaps, **options)


def test_retain_drop_refuses_other_spaces_and_unknown_distances() -> None:
    with pytest.raises(InputError, match="same feature space"):
        retain_drop(GOOD, np.ones((2, 3)), np.zeros(3))
    with pytest.raises(InputError, match="distance to the forget set 'far'"):
        retain_drop(GOOD, GOOD, np.zeros(3), to="far")  # type: ignore[arg-type]
