from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from reference.divergence import coin, js, softmax

from oneshui.errors import InputError
from oneshui.metrics.divergence import js_divergence, js_forget, js_test, weight_distance
from oneshui.metrics.registry import Predicted

GENERATOR = np.random.default_rng(0)
P, Q = GENERATOR.normal(scale=3, size=(2, 12, 5))


def test_classes_diverge_as_their_distributions_do() -> None:
    expected = [js(softmax(p), softmax(q)) for p, q in zip(P, Q, strict=True)]
    np.testing.assert_allclose(js_divergence(P, Q, "multiclass"), expected, atol=1e-12)


def test_attributes_diverge_as_independent_coins() -> None:
    expected = [
        np.mean([js(coin(a), coin(b)) for a, b in zip(p, q, strict=True)])
        for p, q in zip(P, Q, strict=True)
    ]
    np.testing.assert_allclose(js_divergence(P, Q, "multilabel"), expected, atol=1e-12)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_divergence_is_0_for_equal_and_1_for_opposite_certainty(task: Any) -> None:
    sure = np.array([[800.0, -800.0]])
    assert js_divergence(P, P, task).max() == 0.0
    assert js_divergence(sure, -sure, task) == pytest.approx(1.0)
    np.testing.assert_array_equal(js_divergence(P, Q, task), js_divergence(Q, P, task))


def test_a_constant_added_to_all_logits_of_classes_changes_nothing() -> None:
    moved = js_divergence(P + 7, Q, "multiclass")
    np.testing.assert_allclose(moved, js_divergence(P, Q, "multiclass"), atol=1e-12)


@pytest.mark.parametrize(
    ("other", "message"),
    [(P[:3], "have shapes"), (np.full(P.shape, np.nan), "12 of 12 images"), (P[:0], "empty set")],
)
def test_unusable_predictions_are_refused(other: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        js_divergence(P, other, "multilabel")


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_the_measures_are_means_over_their_own_set(task: Any) -> None:
    names = ["forget"] * 5 + ["test"] * 7
    own, theirs = (pd.DataFrame({"set": names, "logits": list(logits)}) for logits in (P, Q))
    outcome = Predicted(predictions=own, retrained=theirs, task=task)
    each = js_divergence(P, Q, task)
    assert js_forget(outcome) == pytest.approx(each[:5].mean())
    assert js_test(outcome) == pytest.approx(each[5:].mean())
    assert abs(each[:5].mean() - each[5:].mean()) > 1e-3


def test_squares_of_weights_do_not_overflow() -> None:
    state, other = (torch.full((3,), size, dtype=torch.float32) for size in (1e30, 2e30))
    assert weight_distance({"w": state}, {"w": other}) == pytest.approx(0.5)


def test_weight_distance_is_relative_and_leaves_counters_out() -> None:
    other = {"w": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0]), "n": torch.tensor(1)}
    state = {"w": torch.tensor([3.0, 3.0]), "b": torch.tensor([8.0]), "n": torch.tensor(9)}
    assert weight_distance(state, other) == pytest.approx(5 / 5)
    assert weight_distance(other, other) == 0.0
    halves = {name: value.bfloat16() for name, value in state.items() if name != "n"}
    arrays = {name: value.numpy() for name, value in other.items() if name != "n"}
    assert weight_distance(halves, arrays) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"v": np.ones(2)}, "different weights"),
        ({"w": np.ones(3)}, "has shapes"),
        ({"w": np.array([np.nan, 1.0])}, "not finite"),
    ],
)
def test_unlike_models_are_refused(state: dict[str, npt.NDArray[Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        weight_distance(state, {"w": np.ones(2)})


def test_a_model_without_weights_is_no_measure() -> None:
    for nothing in ({}, {"w": np.zeros(2)}):
        with pytest.raises(InputError, match="no weight"):
            weight_distance(nothing, nothing)
