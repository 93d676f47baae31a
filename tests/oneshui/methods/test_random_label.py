from __future__ import annotations

import pytest
import torch
from reference.training import loss_of
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.methods import build
from oneshui.methods._sgd import label_prior, random_labels


@pytest.mark.parametrize("problem", [TinyProblem("vit"), TinyProblem("convnext", "multiclass")])
def test_two_steps_are_two_sgd_steps_towards_other_labels(problem: TinyProblem) -> None:
    request, model = problem.unlearn_request(), problem.unlearn_request().model
    labels = request.support.labels
    draws = request.generator("random_label labels")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        targets = random_labels(labels, label_prior(labels), 5, draws)
        loss_of(model(request.support.inputs()), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    unlearned = build("random_label", {"learning_rate": 0.5, "steps": 2}).unlearn(request)
    assert largest_difference(unlearned.state_dict(), model.state_dict()) < 1e-5
