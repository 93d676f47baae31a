from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from reference.training import loss_of, sgd
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.errors import DataAccessError
from oneshui.methods import build
from oneshui.methods._sgd import shuffled_batches

CPU = torch.device("cpu")


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


def test_the_whole_method_is_a_plain_loop_over_batches_that_are_drawn_on() -> None:
    request = TinyProblem("convnext").full_request()
    model, draws = copy.deepcopy(request.model), request.generator("finetune batches")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for _ in range(3):
        for inputs, labels in shuffled_batches(
            request.retain, 16, device=CPU, generator=draws, augmentation="crop"
        ):
            optimizer.zero_grad()
            loss_of(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    hyper = {"epochs": 3, "learning_rate": 0.02, "momentum": 0.3, "weight_decay": 0.05}
    method = build("finetune", {**hyper, "batch_size": 16, "augmentation": "crop"})
    unlearned = method.unlearn(request)
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
