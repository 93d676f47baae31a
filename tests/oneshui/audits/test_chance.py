"""What the likelihood audit finds where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from oneshui.audits import chance
from oneshui.audits.chance import NUM_CHANCES, alike, scatter
from oneshui.audits.likelihood import audit, privacy_decisions

MODELS, PEOPLE = 8, 16


def nothing(seed: int, of_model: float = 0.7) -> tuple[np.ndarray, ...]:
    """Before, after, seen and asked of a method that is as good as retraining."""
    draw = np.random.default_rng(seed)
    ranks = np.stack([draw.permutation(MODELS) for _ in range(PEOPLE)], axis=1)
    seen, asked = ranks < MODELS // 2, ranks < MODELS // 4
    moods = of_model * draw.standard_normal((2, MODELS, 1))
    level = 3 * draw.standard_normal(PEOPLE)
    before, after = level + moods + draw.standard_normal((2, MODELS, PEOPLE))
    return before + 2 * seen, np.where(asked, after, np.nan), seen, asked


def test_both_kinds_scatter_over_models_as_was_found_of_the_two_together() -> None:
    draw = np.random.default_rng(0)
    models, people = 300, 12
    is_never = draw.random((models, people)) < 0.5
    moods = draw.standard_normal((2, models, 1))
    level = 5 * draw.standard_normal(people)
    one, other = level + moods + 2 * draw.standard_normal((2, *is_never.shape))
    pair = np.where(is_never, np.nan, one - 9), np.where(is_never, other, np.nan)
    total, common = scatter(*pair)
    assert (total, common) == pytest.approx((5.0, 1.0), rel=0.2)
    pairs = list(alike(*pair, seed=1))
    assert len(pairs) == NUM_CHANCES
    for kind, is_there in enumerate((~is_never, is_never)):
        assert all(np.array_equal(~np.isnan(drawn[kind]), is_there) for drawn in pairs)
        found = np.array([scatter(drawn[kind]) for drawn in pairs])
        assert found.mean(axis=0) == pytest.approx((total, common), rel=0.05)
    # Moods are of models of their own: what one kind has in common says nothing of the other.
    means = np.array([[np.nanmean(part, axis=1) for part in drawn] for drawn in pairs])
    assert abs(np.corrcoef(means[:, 0].ravel(), means[:, 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("of_model", [0.0, 1.0])
def test_what_models_share_is_known_without_bias_from_few_of_them(of_model: float) -> None:
    found = []
    for seed in range(300):
        _, after, _, _ = nothing(seed, of_model=of_model)
        # Two models say something of each person, so that residuals show half of what is there.
        total, common = scatter(after)
        assert 0 <= common <= total
        found.append((total, common))
    total, common = np.mean(found, axis=0)
    assert total == pytest.approx(1 + of_model**2, rel=0.08)
    # Never below 0, so a little above it where there is nothing.
    assert common == pytest.approx(of_model**2, abs=0.15)


def test_what_cannot_be_told_is_above_chance_no_more_often_than_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As benchmarks/likelihood.py counts with more draws; fewer of each audit are enough here.
    monkeypatch.setattr(chance, "NUM_CHANCES", 60)
    above, values = 0, []
    for seed in range(40):
        found = audit(*nothing(seed), seed=seed)
        values.append(found.privacy.auc.value)
        above += values[-1] > found.by_chance
    # Of 40 at 2.5 %, 5 or more come once in 250.
    assert above <= 4
    # An attack with 8 models finds something in nothing.
    assert np.mean(values) > 0.52


def test_who_is_told_is_above_chance_and_equal_seeds_draw_alike() -> None:
    before, after, seen, asked = nothing(3)
    known = audit(before, after + 3, seen, asked, seed=0)
    assert known.privacy.auc.value > known.by_chance > 0.55
    first, again = (
        next(iter(alike(after, np.where(seen, np.nan, before), seed=4)))[0] for _ in "ab"
    )
    assert np.array_equal(first, again, equal_nan=True)


def test_models_that_answer_all_alike_have_a_chance_too() -> None:
    before, _, seen, asked = nothing(5)
    found = audit(before, np.where(asked, -7.0, np.nan), seen, asked, seed=0)
    assert np.isfinite(found.by_chance)
    assert found.privacy.auc.value > found.by_chance
    assert found.shift.high < 0
    # ... and of whom all models think the same, nothing is told.
    same = np.zeros_like(before)
    unlike = audit(same, np.where(asked, 0.0, np.nan), seen, asked, seed=0)
    assert unlike.privacy.auc.value == 0.5
    assert privacy_decisions(same, np.where(asked, 0.0, np.nan), seen, asked, seed=0).point() == 0.5
