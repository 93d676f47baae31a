from __future__ import annotations

import pytest
import torch
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.errors import InputError
from oneshui.methods import build, gradient_ascent
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


def test_chunks_do_not_change_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    request = TinyProblem().unlearn_request()
    method = build("gradient_ascent", {})
    whole = method.unlearn(request).state_dict()
    monkeypatch.setattr(gradient_ascent, "CHUNK_SIZE", 2)
    assert largest_difference(method.unlearn(request).state_dict(), whole) < 1e-7


def test_the_classifier_can_be_moved_alone() -> None:
    request = TinyProblem().unlearn_request()
    unlearned = build("gradient_ascent", {"parameters": "classifier"}).unlearn(request)
    before = request.model.state_dict()
    moved = {n for n, v in unlearned.state_dict().items() if not torch.equal(v, before[n])}
    assert moved == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("field", "value"), [("learning_rate", 0.0), ("steps", 0), ("parameters", "head")]
)
def test_values_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"gradient_ascent.{field} is {value!r}"):
        build("gradient_ascent", {field: value})
