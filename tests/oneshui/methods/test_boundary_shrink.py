from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from reference.adversarial import attack
from reference.passes import descend
from reference.training import loss_of
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.methods import build
from oneshui.spec import Task

STEPS: dict[str, Any] = {
    **{"epochs": 3, "batch_size": 2, "learning_rate": 0.05, "momentum": 0.6},
    "weight_decay": 0.01,
}
PROBLEMS = [TinyProblem("vit"), TinyProblem("convnext", "multiclass")]


def nearest(problem: TinyProblem, epsilon: float) -> torch.Tensor:
    """What the pretrained model says a step of signs away, an image at a time."""
    request = problem.unlearn_request()
    model, said = request.model, []
    for image, label in zip(request.support.inputs(), request.support.labels, strict=True):
        kind = {"norm": "linf", "radius": 2 * epsilon, "step": 2 * epsilon, "steps": 1}
        across = attack(model, image, label, **kind, towards=False)  # type: ignore[arg-type]
        logits = model(across[None])[0].detach()
        said.append(logits.argmax() if label.ndim == 0 else (logits > 0).float())
    return torch.stack(said)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_whole_method_is_a_plain_loop(problem: TinyProblem) -> None:
    request = problem.unlearn_request()
    inputs, labels = request.support.inputs(), nearest(problem, 0.2)
    assert not torch.equal(labels, request.support.labels)
    student = copy.deepcopy(request.model)

    def loss(batch: list[int]) -> torch.Tensor:
        parts = [loss_of(student(inputs[i : i + 1]), labels[i : i + 1]) for i in batch]
        return torch.stack(parts).mean()

    draws = request.generator("boundary_shrink batches")
    descend(student, len(inputs), loss, draws, **STEPS)
    ours = build("boundary_shrink", {**STEPS, "epsilon": 0.2}).unlearn(request).state_dict()
    assert largest_difference(ours, student.state_dict()) < 1e-5
    assert largest_difference(ours, request.model.state_dict()) > 1e-3


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_in_the_end_the_model_says_what_lies_across(task: Task) -> None:
    problem = TinyProblem("convnext", task)
    request = problem.unlearn_request()
    hyper = {"learning_rate": 0.1, "epochs": 40, "epsilon": 0.1}
    logits = build("boundary_shrink", hyper).unlearn(request)(request.support.inputs())
    said = logits.argmax(1) if logits.shape != request.support.labels.shape else logits > 0
    assert torch.equal(said.to(request.support.labels), nearest(problem, 0.1))


def test_where_nothing_moves_it_learns_what_the_model_says() -> None:
    """Without a way across a boundary the labels are the model's own."""
    request = TinyProblem().unlearn_request()
    own = (request.model(request.support.inputs()) > 0).float()
    assert torch.equal(nearest(TinyProblem(), 0.0), own)
    ours = build("boundary_shrink", {**STEPS, "epsilon": 0.0}).unlearn(request)
    with torch.no_grad():
        before, after = (loss_of(m(request.support.inputs()), own) for m in (request.model, ours))
    assert after < before
