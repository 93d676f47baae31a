from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.training import loss_of
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.methods import build

PROBLEMS = [TinyProblem("vit"), TinyProblem("batchnorm", "multiclass")]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_it_is_as_far_beyond_the_start_as_what_has_learned_is_before_it(
    problem: TinyProblem,
) -> None:
    request, memory = problem.unlearn_request(), problem.unlearn_request().model
    optimizer = torch.optim.SGD(memory.parameters(), lr=0.2)
    for _ in range(4):
        optimizer.zero_grad()
        logits = memory(request.support.inputs())
        loss_of(logits, request.support.labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    hyper = {"learning_rate": 0.2, "steps": 4, "alpha": 1.5}
    ours = build("extrapolation", hyper).unlearn(request).state_dict()
    start = request.model.state_dict()
    beyond = {
        name: value - 1.5 * (memory.state_dict()[name] - value) for name, value in start.items()
    }
    assert largest_difference(ours, beyond) < 1e-5
    assert largest_difference(ours, start) > 1e-2


def test_one_step_is_gradient_ascent_at_alpha_times_the_rate() -> None:
    request = TinyProblem().unlearn_request()
    hyper: dict[str, Any] = {"steps": 1, "parameters": "classifier"}
    ours = build("extrapolation", {**hyper, "learning_rate": 0.2, "alpha": 3.0}).unlearn(request)
    ascent = build("gradient_ascent", {**hyper, "learning_rate": 0.6}).unlearn(request)
    assert largest_difference(ours.state_dict(), ascent.state_dict()) < 1e-6
    assert largest_difference(ours.state_dict(), request.model.state_dict()) > 1e-3


def test_without_a_way_beyond_the_model_is_as_it_was() -> None:
    request = TinyProblem().unlearn_request()
    ours = build("extrapolation", {"alpha": 0.0}).unlearn(request)
    assert largest_difference(ours.state_dict(), request.model.state_dict()) == 0
