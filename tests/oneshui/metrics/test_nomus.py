from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from oneshui.errors import InputError
from oneshui.metrics.nomus import attack_accuracy, nomus, nomus_of
from oneshui.metrics.registry import Predicted


def test_nomus_is_that_of_mufac_s_table() -> None:
    assert nomus(0.5951, 0.5 + 0.2136) == pytest.approx(0.5839, abs=1e-4)
    assert nomus(0.4880, 0.5 - 0.0445) == pytest.approx(0.6995, abs=1e-4)


def test_nomus_is_1_without_errors_and_leaks_and_0_with_nothing_but() -> None:
    assert nomus(1.0, 0.5) == 1.0
    assert nomus(0.0, 1.0) == nomus(0.0, 0.0) == 0.0


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1, 60])
def test_numbers_that_are_no_fractions_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="as the accuracy"):
        nomus(bad, 0.5)
    with pytest.raises(InputError, match="attack's accuracy"):
        nomus(0.5, bad)


def test_the_attack_finds_a_memorising_model_and_not_a_retrained_one() -> None:
    generator = np.random.default_rng(0)
    forget, unseen = generator.gamma(2, 0.01, size=300), generator.gamma(2, 2, size=900)
    assert attack_accuracy(forget, unseen, seed=0) > 0.9
    assert attack_accuracy(unseen[:300], unseen[300:], seed=0) == pytest.approx(0.5, abs=0.1)


def test_the_attack_depends_on_neither_order_nor_global_state() -> None:
    generator = np.random.default_rng(0)
    forget, unseen = generator.gamma(2, 1, size=40), generator.gamma(2, 2, size=60)
    first = attack_accuracy(forget, unseen, seed=3)
    assert first == attack_accuracy(forget[::-1], generator.permutation(unseen), seed=3)


@pytest.mark.parametrize("bad", [np.zeros(9), np.zeros((10, 1)), np.full(10, np.nan)])
def test_unusable_losses_are_refused(bad: Any) -> None:
    with pytest.raises(InputError, match="the forgotten images"):
        attack_accuracy(bad, np.zeros(10), seed=0)
    with pytest.raises(InputError, match="the unseen images"):
        attack_accuracy(np.zeros(10), bad, seed=0)


@pytest.mark.parametrize(("forget", "test"), [(9, 30), (30, 9), (10, 10), (12, 30)])
def test_the_measure_is_defined_from_ten_images_of_both_sets_on(forget: int, test: int) -> None:
    generator, number = np.random.default_rng(0), forget + test
    frame = pd.DataFrame(
        {
            "set": ["forget"] * forget + ["test"] * test,
            "loss": generator.exponential(size=number),
            "label": list(generator.integers(0, 3, size=(number, 1)).astype(np.float32)),
            "logits": list(generator.normal(size=(number, 3))),
        }
    )
    found = nomus_of(Predicted(predictions=frame, retrained=frame, task="multiclass"))
    if min(forget, test) < 10:
        assert found is None
        return
    of_test = frame[forget:]
    right = [z.argmax() == y[0] for z, y in zip(of_test["logits"], of_test["label"], strict=True)]
    attack = attack_accuracy(frame["loss"][:forget], frame["loss"][forget:], seed=0)
    assert found == pytest.approx(nomus(sum(right) / test, attack))
