from __future__ import annotations

import pytest
import torch
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.methods import build
from oneshui.training.losses import task_loss


@pytest.mark.parametrize("problem", [TinyProblem("vit"), TinyProblem("convnext", "multiclass")])
def test_two_steps_are_two_sgd_steps_uphill(problem: TinyProblem) -> None:
    request = problem.unlearn_request()
    model = problem.unlearn_request().model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, maximize=True)
    for _ in range(2):
        optimizer.zero_grad()
        loss = task_loss(model(request.support.inputs()), request.support.labels, problem.task)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    unlearned = build("gradient_ascent", {"learning_rate": 0.5, "steps": 2}).unlearn(request)
    assert largest_difference(unlearned.state_dict(), model.state_dict()) < 1e-6
