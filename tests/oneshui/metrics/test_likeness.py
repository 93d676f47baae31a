"""What other benchmarks print of two models' answers."""

from __future__ import annotations

import numpy as np
import pytest
from reference.divergence import coin, js, softmax

from oneshui.errors import InputError
from oneshui.metrics.likeness import activation_distance, class_divergence, same_answers, zrf

DRAW = np.random.default_rng(0)
P, Q = DRAW.normal(scale=2, size=(2, 12, 5))


def test_activation_distance_is_that_of_probabilities() -> None:
    expected = [
        np.linalg.norm(np.subtract(softmax(p), softmax(q))) for p, q in zip(P, Q, strict=True)
    ]
    np.testing.assert_allclose(activation_distance(P, Q, "multiclass"), expected)
    expected = [
        np.mean([np.linalg.norm(np.subtract(coin(a), coin(b))) for a, b in zip(p, q, strict=True)])
        for p, q in zip(P, Q, strict=True)
    ]
    np.testing.assert_allclose(activation_distance(P, Q, "multilabel"), expected)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_models_that_are_sure_of_different_answers_are_farthest_apart(task: str) -> None:
    far = activation_distance([[900.0, -900.0]], [[-900.0, 900.0]], task)  # type: ignore[arg-type]
    assert far.tolist() == pytest.approx([np.sqrt(2)])


def test_answers_are_the_same_class_or_the_same_attributes() -> None:
    first, second = [[1.0, 2.0, -1.0], [3.0, 0.5, 1.0]], [[0.1, 5.0, 2.0], [0.0, -1.0, 4.0]]
    assert same_answers(first, second, "multiclass").tolist() == [1.0, 0.0]
    assert same_answers(first, second, "multilabel").tolist() == pytest.approx([2 / 3, 1 / 3])


def test_zrf_is_one_less_the_divergence_from_ignorance() -> None:
    expected = 1 - np.mean([js(softmax(p), softmax(q)) for p, q in zip(P, Q, strict=True)])
    assert zrf(P, Q, "multiclass") == pytest.approx(expected)
    assert zrf(P, P, "multilabel") == 1


def test_lotus_compares_mean_probabilities_class_by_class() -> None:
    own, other = np.array([0, 0, 1, 2, 2, 2, 0, 1, 1, 2, 0, 0]), np.array([0, 3, 3, 1, 1] + [4] * 7)
    expected = []
    for label in (0, 1):
        means = [
            np.mean([softmax(row) for row in scores[labels == label]], axis=0)
            for scores, labels in ((P, own), (Q, other))
        ]
        expected.append(js(*means))
    found = class_divergence(P, own, Q, other[:, None], "multiclass")
    assert found == pytest.approx(np.mean(expected))
    assert class_divergence(P, np.full(12, 1), Q, np.full(12, 2), "multiclass") is None


def test_lotus_takes_each_value_of_an_attribute_for_a_class() -> None:
    scores, others = np.array([[1.0], [2.0], [-1.0]]), np.array([[0.5], [3.0]])

    def mean(values: list[float]) -> list[float]:
        return list(np.mean([coin(value) for value in values], axis=0))

    both = class_divergence(scores, [[1], [0], [0]], others, [[0], [1]], "multilabel")
    expected = [js(mean([2.0, -1.0]), mean([0.5])), js(mean([1.0]), mean([3.0]))]
    assert both == pytest.approx(np.mean(expected))
    one = class_divergence(scores, [[1], [1], [1]], others, [[0], [1]], "multilabel")
    assert one == pytest.approx(js(mean([1.0, 2.0, -1.0]), mean([3.0])))
    assert class_divergence(scores[:2], [[1], [1]], others, [[1], [1]], "multilabel") > 0  # type: ignore[operator]


def test_models_of_other_images_are_not_compared() -> None:
    with pytest.raises(InputError, match="same images and outputs"):
        activation_distance(P, Q[:3], "multiclass")
