from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from oneshui.errors import InputError
from oneshui.metrics.margin import (
    forget_loss_gap,
    forget_margin,
    forget_margin_gap,
    logit_margins,
)
from oneshui.metrics.registry import Predicted


def test_an_attribute_s_margin_is_the_log_odds_of_the_truth() -> None:
    logits, labels = [[2.0, -1.0, 0.5], [-3.0, 0.0, 4.0]], [[1, 0, 0], [0, 1, 1]]
    expected = []
    for z, y in zip(logits, labels, strict=True):
        truth = [1 / (1 + math.exp(-a if b else a)) for a, b in zip(z, y, strict=True)]
        expected.append(sum(math.log(p / (1 - p)) for p in truth) / 3)
    assert expected == pytest.approx([(2 + 1 - 0.5) / 3, (3 + 0 + 4) / 3])
    assert logit_margins(logits, labels, "multilabel").tolist() == pytest.approx(expected)


@pytest.mark.parametrize("labels", [[1, 0], [[1], [0]]])
def test_a_class_s_margin_is_the_log_odds_against_all_others(labels: Any) -> None:
    logits = [[0.5, 2.0, -1.0], [3.0, 3.0, 1.0]]
    expected = []
    for z, y in zip(logits, (1, 0), strict=True):
        p = math.exp(z[y]) / sum(map(math.exp, z))
        expected.append(math.log(p / (1 - p)))
    assert logit_margins(logits, labels, "multiclass").tolist() == pytest.approx(expected)


def test_certainty_has_a_finite_margin() -> None:
    assert logit_margins([[900.0, -900.0]], [[0]], "multiclass").tolist() == [1800.0]
    assert logit_margins([[900.0, -900.0]], [[1, 0]], "multilabel").tolist() == [900.0]


@pytest.mark.parametrize(
    ("logits", "labels", "task", "says"),
    [
        ([[1.0, 2.0]], [[1]], "multilabel", "one label of 0 or 1"),
        ([[1.0, 2.0]], [[1, 2]], "multilabel", "one label of 0 or 1"),
        ([[1.0, 2.0]], [[2]], "multiclass", "one class index"),
        ([[1.0, 2.0]], [[1], [0]], "multiclass", "one class index"),
        ([[1.0]], [[0]], "multiclass", "at least two classes"),
        ([[math.inf, 1.0]], [[0]], "multiclass", "not finite"),
    ],
)
def test_unusable_predictions_are_refused(logits: Any, labels: Any, task: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        logit_margins(logits, labels, task)


def test_gaps_are_the_model_s_own_minus_the_retrained_model_s_on_the_forget_set() -> None:
    def frame(logits: list[float], losses: list[float]) -> pd.DataFrame:
        rows = {"set": ["forget", "test", "forget"], "loss": np.array(losses, dtype=np.float32)}
        return pd.DataFrame(
            {**rows, "label": [[1.0], [1.0], [0.0]], "logits": [[logit] for logit in logits]}
        )

    own, theirs = frame([3.0, 50.0, -1.0], [0.1, 9.0, 0.3]), frame([1.0, 60.0, 0.5], [0.4, 7.0, 1])
    outcome = Predicted(predictions=own, retrained=theirs, task="multilabel")
    assert forget_margin(outcome) == (3 + 1) / 2
    assert forget_margin_gap(outcome) == (3 + 1) / 2 - (1 - 0.5) / 2
    assert forget_loss_gap(outcome) == pytest.approx(0.2 - 0.7)
