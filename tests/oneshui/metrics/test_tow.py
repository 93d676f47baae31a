from __future__ import annotations

import math

import pytest
from golden import GoldenCase, each_case

from oneshui.errors import InputError
from oneshui.metrics.scores import score
from oneshui.metrics.tow import tow

RETRAINED = {"retain": 0.95, "forget": 0.7, "test": 0.75}


def test_the_retrained_model_has_tow_one() -> None:
    assert tow(RETRAINED, RETRAINED) == 1.0


def test_gaps_multiply_whatever_their_sign() -> None:
    scores = {"retain": 0.85, "forget": 0.9, "test": 0.85, "val": 0.1}
    assert tow(scores, RETRAINED) == pytest.approx(0.9 * 0.8 * 0.9)


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1, math.inf, 90])
def test_a_score_that_is_no_fraction_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="of retraining on forget"):
        tow(RETRAINED, {**RETRAINED, "forget": value})


def test_an_absent_set_is_refused() -> None:
    with pytest.raises(InputError, match=r"of the model .* but test is absent"):
        tow({"retain": 0.5, "forget": 0.5}, RETRAINED)


@each_case
@pytest.mark.parametrize("weights", ["before", "retrain", "scrub", "meta"])
def test_tow_is_the_reference_s(case: GoldenCase, weights: str) -> None:
    metrics = case.expected["metrics"]
    scores = {name: metrics[weights][name]["acc"] / 100 for name in RETRAINED}
    retrained = {name: metrics["retrain"][name]["acc"] / 100 for name in RETRAINED}
    assert 100 * tow(scores, retrained) == pytest.approx(case.expected["tow"][weights], abs=1e-4)


@each_case
def test_tow_from_logits_is_the_reference_s(case: GoldenCase) -> None:
    logits = case.tensors("metrics", "logits.")
    before, retrained = (
        {
            name: score(
                logits[f"{weights}.{name}"],
                case.labels[case.rows(name)],
                case.task,
            )
            for name in RETRAINED
        }
        for weights in ("before", "retrain")
    )
    assert 100 * tow(before, retrained) == pytest.approx(case.expected["tow"]["before"], abs=1e-4)
