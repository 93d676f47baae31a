from __future__ import annotations

import math

import pytest
from support.golden import GoldenCase, each_case

from oneshui.errors import InputError
from oneshui.metrics.scores import score
from oneshui.metrics.tow import normalised_tow, signed_gaps, tow, tow_with_mia

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


def test_signed_gaps_tell_forgetting_too_much_from_too_little() -> None:
    scores = {"retain": 0.95, "forget": 0.9, "test": 0.70, "val": 0.1}
    assert signed_gaps(scores, RETRAINED) == pytest.approx(
        {"retain": 0.0, "forget": 0.2, "test": -0.05}
    )
    gaps = signed_gaps(scores, {**RETRAINED, "val": 0.3}, sets=("val",))
    assert gaps == pytest.approx({"val": -0.2})
    with pytest.raises(InputError, match="of retraining on every set, but val is absent"):
        signed_gaps(scores, RETRAINED, sets=("val",))


def test_normalised_tow_is_0_for_doing_nothing_and_1_for_retraining() -> None:
    assert normalised_tow(0.8, 0.8) == 0.0
    assert normalised_tow(1.0, 0.8) == 1.0
    assert normalised_tow(0.9, 0.8) == pytest.approx(0.5)
    assert normalised_tow(0.6, 0.8) == pytest.approx(-1.0)


def test_normalised_tow_is_missing_where_doing_nothing_is_retraining() -> None:
    assert normalised_tow(0.5, 1.0) is None
    assert normalised_tow(0.5, 1 - 1e-10) is None
    assert normalised_tow(1.0, 1 - 1e-8) == 1.0


def test_the_mia_is_a_fourth_factor() -> None:
    assert tow_with_mia(RETRAINED, RETRAINED, 0.5, 0.5) == 1.0
    scores = {"retain": 0.85, "forget": 0.9, "test": 0.85}
    with_mia = tow_with_mia(scores, RETRAINED, 0.8, 0.55)
    assert with_mia == pytest.approx(0.9 * 0.8 * 0.9 * 0.75)
    # An attack that does worse than on the retrained model is a gap too, not a bonus.
    assert tow_with_mia(RETRAINED, RETRAINED, 0.3, 0.55) == pytest.approx(0.75)
    assert tow_with_mia(scores, RETRAINED, 0.3, 0.55) == pytest.approx(with_mia)


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
def test_a_figure_that_is_no_fraction_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="ToW of the model"):
        normalised_tow(bad, 0.5)
    with pytest.raises(InputError, match="ToW of the pretrained model"):
        normalised_tow(0.5, bad)
    with pytest.raises(InputError, match="MIA of the model"):
        tow_with_mia(RETRAINED, RETRAINED, bad, 0.5)
    with pytest.raises(InputError, match="MIA of retraining"):
        tow_with_mia(RETRAINED, RETRAINED, 0.5, bad)


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
