"""What every attack must say of two models whose membership is known by construction."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from oneshui.attacks.loss_mia import loss_mia, threshold_auc
from oneshui.attacks.rmia import Signals, rmia

Losses = dict[str, npt.NDArray[np.float64]]
"""Losses [views, n] of a set, by set."""

SIZES = {"retain": 600, "val": 400, "forget": 150, "test": 400}
VIEWS = 4


def losses(members: tuple[str, ...], seed: int) -> Losses:
    """A model that fits its members twenty times better than other images of the same kind."""
    difficulty = np.random.default_rng(0)
    noise = np.random.default_rng(seed)
    return {
        name: difficulty.gamma(4.0, 0.25, size=size)
        * noise.gamma(10.0, 0.1, size=(VIEWS, size))
        * (0.05 if name in members else 1.0)
        for name, size in SIZES.items()
    }


def forest(target: Losses, _: Losses) -> float:
    return loss_mia(**{name: part[0] for name, part in target.items()}, seed=0).auc


def threshold(target: Losses, _: Losses) -> float:
    return threshold_auc(target["forget"][0], target["test"][0])


def relative(target: Losses, reference: Losses) -> float:
    forget, test, val = (
        Signals(target=target[name], references=reference[name][None])
        for name in ("forget", "test", "val")
    )
    return rmia(forget=forget, nonmembers=test, population=val).auc


each_attack = pytest.mark.parametrize("attack", [forest, threshold, relative])
Attack = Callable[[Losses, Losses], float]


@each_attack
def test_a_memorising_model_is_found_out(attack: Attack) -> None:
    memorising = losses(("retain", "forget"), seed=1)
    assert attack(memorising, losses(("retain",), seed=2)) > 0.9


@each_attack
def test_a_retrained_model_is_not(attack: Attack) -> None:
    n, m = SIZES["forget"], SIZES["test"]
    # Of an attack that knows nothing, 95 % of the AUCs are as near to one half as this.
    width = 1.96 * math.sqrt((n + m + 1) / (12 * n * m))
    retrained = losses(("retain",), seed=1)
    assert attack(retrained, losses(("retain",), seed=2)) == pytest.approx(0.5, abs=width)


@each_attack
def test_the_order_of_the_images_changes_nothing(attack: Attack) -> None:
    target, reference = losses(("retain", "forget"), seed=1), losses(("retain",), seed=2)
    order = {n: np.random.default_rng(3).permutation(size) for n, size in SIZES.items()}
    # A forest draws its bootstrap samples by row, so what it is fitted on keeps its order.
    fitted = ("retain", "val") if attack is forest else ()
    shuffled, shuffled_reference = (
        {n: part if n in fitted else part[:, order[n]] for n, part in losses_of.items()}
        for losses_of in (target, reference)
    )
    assert attack(shuffled, shuffled_reference) == attack(target, reference)
