from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from reference.training import loss_of, sgd
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.errors import DataAccessError
from oneshui.methods import build


@pytest.mark.parametrize("problem", [TinyProblem("vit"), TinyProblem("convnext", "multiclass")])
def test_it_trains_on_with_the_retain_set_alone(problem: TinyProblem) -> None:
    request = problem.full_request()
    retain = request.retain
    model = problem.full_request().model
    sgd(
        model,
        [lambda: loss_of(model(retain.inputs()), retain.labels)],
        epochs=3,
        learning_rate=0.1,
    )
    whole = {"epochs": 3, "learning_rate": 0.1, "batch_size": len(retain)}
    blind = dataclasses.replace(request, forget=retain)
    unlearned = build("finetune", whole).unlearn(blind)
    assert largest_difference(unlearned.state_dict(), model.state_dict()) < 1e-5


@pytest.mark.parametrize("changes", [{"augmentation": "flip"}, {"epochs": 2}, {"batch_size": 8}])
def test_every_hyperparameter_changes_the_result(changes: dict[str, Any]) -> None:
    request = TinyProblem().full_request()
    plain, changed = (build("finetune", {"epochs": 1} | c).unlearn(request) for c in ({}, changes))
    assert largest_difference(plain.state_dict(), changed.state_dict()) > 0


def test_the_support_set_alone_is_refused() -> None:
    with pytest.raises(DataAccessError, match="finetune needs forget and retain set"):
        build("finetune", {}).unlearn(TinyProblem().unlearn_request())


def test_frozen_weights_stay() -> None:
    request = TinyProblem().full_request()
    request.model.get_submodule("blocks").requires_grad_(False)
    after = build("finetune", {"epochs": 1}).unlearn(request).state_dict()
    before = request.model.state_dict()
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert moved
    assert not any(name.startswith("blocks") for name in moved)
