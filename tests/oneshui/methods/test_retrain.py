"""The yardstick and doing nothing: the rows that all others are compared with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.errors import DataAccessError
from oneshui.methods import build
from oneshui.methods.base import role_of
from oneshui.spec import Role
from oneshui.training.train import train


@pytest.mark.parametrize("reseed", [0, 3])
@pytest.mark.parametrize("problem", [TinyProblem("vit"), TinyProblem("vit", "multiclass")])
def test_retraining_is_pretraining_s_recipe_on_the_retain_set(
    problem: TinyProblem, reseed: int
) -> None:
    request = problem.full_request()
    expected = problem.full_request().fresh_model
    train(
        expected,
        request.retain,
        request.val,
        request.training,
        task=problem.task,
        seed=request.seed + reseed,
        device=torch.device("cpu"),
    )
    method: Any = build("retrain", {"reseed": reseed})
    retrained = method.unlearn(request).state_dict()
    assert largest_difference(retrained, expected.state_dict()) == 0
    assert largest_difference(retrained, request.model.state_dict()) > 0
    assert not method.unlearn(request).training


def test_retraining_needs_the_retain_set() -> None:
    with pytest.raises(DataAccessError, match="retrain needs the retain set"):
        build("retrain", {}).unlearn(TinyProblem().unlearn_request())


@pytest.mark.parametrize(
    ("name", "values", "role"),
    [
        ("pretrain", {}, Role.PRETRAIN),
        ("retrain", {}, Role.RETRAIN),
        ("retrain", {"reseed": 1}, Role.RETRAIN_AGAIN),
        ("finetune", {}, Role.METHOD),
        ("ssd", {}, Role.METHOD),
    ],
)
def test_rows_stand_for_these_roles(name: str, values: dict[str, Any], role: Role) -> None:
    assert role_of(build(name, values)) is role


def test_doing_nothing_is_a_copy_of_the_pretrained_model() -> None:
    request = TinyProblem().unlearn_request()
    model = build("pretrain", {}).unlearn(request)
    assert model is not request.model
    assert largest_difference(model.state_dict(), request.model.state_dict()) == 0
