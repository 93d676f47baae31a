from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.ap import average_precision
from sklearn.metrics import average_precision_score
from support.golden import GoldenCase, each_case

from oneshui.errors import InputError
from oneshui.metrics.scores import (
    accuracy,
    average_precisions,
    mean_average_precision,
    num_attributes_counted,
    score,
)

Array = npt.NDArray[Any]


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), min_size=1, max_size=25))
def test_average_precision_is_its_definition_with_ties(images: list[tuple[int, int]]) -> None:
    scores, labels = zip(*images, strict=True)
    ours = average_precisions(np.array(scores)[:, None], np.array(labels)[:, None])
    assert ours[0] == pytest.approx(average_precision(scores, labels), nan_ok=True)


def test_average_precision_agrees_with_sklearn_on_every_attribute() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(300, 40)).round(1)
    labels = (generator.random((300, 40)) < 0.2).astype(np.int64)
    theirs = [average_precision_score(labels[:, c], logits[:, c]) for c in range(40)]
    np.testing.assert_allclose(average_precisions(logits, labels), theirs)


def test_images_with_equal_scores_may_come_in_any_order() -> None:
    labels = np.array([[1], [0], [1], [0]])
    logits = np.zeros((4, 1), dtype=np.float32)
    assert mean_average_precision(logits, labels) == mean_average_precision(logits, labels[::-1])
    assert mean_average_precision(logits, labels) == 0.5


def test_an_attribute_nobody_has_is_left_out_of_the_mean() -> None:
    logits = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert math.isnan(average_precisions(logits, labels)[1])
    assert mean_average_precision(logits, labels) == 1.0


@pytest.mark.parametrize("name", ["forget", "val", "test"])
def test_counting_absent_attributes_as_0_moves_the_map_by_ten_points(name: str) -> None:
    case = GoldenCase("multilabel")
    logits = case.tensors("metrics")[f"logits.before.{name}"]
    labels = case.labels[case.rows(name)]
    counted = num_attributes_counted(labels)
    ours = 100 * mean_average_precision(logits, labels)
    # Plain arithmetic: the same sum divided by all attributes is what torchmetrics 1.9 gives.
    counting_all = ours * counted / labels.shape[1]
    expected = case.expected["metrics"]["before"][name]
    assert counted == sum(ap is not None for ap in expected["ap_per_attribute_sklearn"])
    assert ours == pytest.approx(expected["map_absent_ignored"], abs=1e-4)
    assert counting_all == pytest.approx(expected["map_absent_counted_zero"], abs=1e-4)
    assert ours - counting_all > 8


def test_the_attributes_that_count_are_those_that_somebody_has() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0]])
    assert num_attributes_counted(labels) == 2
    assert num_attributes_counted(np.zeros((2, 3))) == 0


@pytest.mark.parametrize("labels", [np.zeros((0, 3)), np.zeros(3), np.full((2, 2), np.nan)])
def test_attributes_that_cannot_be_counted_are_refused(labels: Array) -> None:
    with pytest.raises(InputError):
        num_attributes_counted(labels)


@pytest.mark.parametrize("constant", [-3.0, 5.0])
def test_neither_order_nor_a_constant_changes_a_score(constant: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.integers(-8, 8, size=(60, 5)) / 4
    labels, classes = generator.integers(0, 2, size=(60, 5)), generator.integers(0, 5, size=60)
    order = generator.permutation(60)
    for measure, truth in ((mean_average_precision, labels), (accuracy, classes)):
        expected = measure(logits, truth)
        assert measure(logits + constant, truth) == expected
        assert measure(logits[order], truth[order]) == pytest.approx(expected, abs=1e-15)


def test_accuracy_counts_the_largest_logit() -> None:
    logits = torch.tensor([[2.0, 1.0], [1.0, 2.0], [0.0, 3.0]])
    assert accuracy(logits, torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)


def test_tensors_with_gradients_are_accepted() -> None:
    logits = torch.tensor([[2.0], [1.0]], requires_grad=True)
    assert score(logits, torch.tensor([[1.0], [0.0]]), "multilabel") == 1.0


def test_logits_in_bfloat16_count_as_what_they_hold() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.5, 0.25], [1.0, 3.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    for measure, truth in ((mean_average_precision, labels), (accuracy, torch.tensor([0, 1, 1]))):
        assert measure(logits.bfloat16(), truth) == measure(logits, truth)


@pytest.mark.parametrize("measure", [mean_average_precision, accuracy])
@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((0, 2)), "empty set"),
        (np.zeros(3), "images by outputs"),
        (np.array([[np.nan, 1.0], [0.0, 1.0]]), "1 of 2 images"),
        (np.array([[np.inf, 1.0], [0.0, 1.0]]), "1 of 2 images"),
    ],
)
def test_unusable_logits_are_refused(
    measure: Callable[[Array, Array], float], logits: Array, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        measure(logits, np.zeros(len(logits), dtype=np.int64))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((3, 2)), "one 0/1 label for every logit"),
        (np.full((2, 2), 0.5), "0 and 1 only"),
        (np.full((2, 2), np.nan), "0 and 1 only"),
        (np.zeros((2, 2)), "none of them has any attribute"),
    ],
)
def test_unusable_attributes_are_refused(labels: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mean_average_precision(np.zeros((2, 2)), labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2)), "one class index"),
        (np.zeros(3), "one class index"),
        (np.array([0, 2]), "class indices 0 to 1"),
        (np.array([0, -1]), "class indices 0 to 1"),
        (np.array([0, np.nan]), "class indices 0 to 1"),
    ],
)
def test_unusable_classes_are_refused(labels: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        accuracy(np.zeros((2, 2)), labels)


@each_case
@pytest.mark.parametrize("weights", ["before", "retrain"])
@pytest.mark.parametrize("name", ["retain", "forget", "val", "test"])
def test_scores_are_the_reference_s(case: GoldenCase, weights: str, name: str) -> None:
    logits = case.tensors("metrics")[f"logits.{weights}.{name}"]
    labels = case.labels[case.rows(name)]
    expected = case.expected["metrics"][weights][name]
    assert 100 * score(logits, labels, case.task) == pytest.approx(expected["acc"], abs=1e-4)
    for ours, theirs in zip(
        average_precisions(logits, labels) if case.task == "multilabel" else [],
        expected.get("ap_per_attribute_sklearn", []),
        strict=True,
    ):
        assert math.isnan(ours) if theirs is None else ours == pytest.approx(theirs)
