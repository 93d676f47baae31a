from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from reference import masked as reference
from reference.passes import descend
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.methods import build
from oneshui.methods._masked import masked
from oneshui.methods._sgd import label_prior
from oneshui.spec import Task

STEPS: dict[str, Any] = {
    **{"epochs": 3, "batch_size": 2, "learning_rate": 0.05, "momentum": 0.6},
    "weight_decay": 0.01,
}
PROBLEMS = [TinyProblem("vit"), TinyProblem("batchnorm", "multiclass")]


def test_the_true_class_is_masked_and_the_others_keep_their_ratios() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0], [5.0, -1.0, 1.0]])
    target = masked(logits, torch.tensor([1, 0]), None)
    assert torch.equal(target[0, 1], torch.tensor(0.0))
    assert torch.allclose(target.sum(1), torch.ones(2))
    assert (target[0, 0] / target[0, 2]).log().item() == pytest.approx(1.0)
    assert (target[1, 2] / target[1, 1]).log().item() == pytest.approx(2.0)


def test_attributes_that_are_not_known_keep_their_probability() -> None:
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0, 0.0]])
    labels = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0]])
    common = torch.tensor([0.25, 0.75, 0.25, 0.75, 0.6])
    right, wrong = torch.split(masked(logits, labels, common)[0], [2, 3])
    assert right.tolist() == [0.25, 0.75]
    assert wrong.tolist() == pytest.approx([0.8808, 0.1192, 0.6], abs=1e-4)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_whole_method_is_a_plain_loop(problem: TinyProblem) -> None:
    request = problem.unlearn_request()
    inputs, labels = request.support.inputs(), request.support.labels
    with torch.no_grad():
        wanted = reference.targets(request.model(inputs), labels)
    assert torch.allclose(
        masked(request.model(inputs), labels, label_prior(labels)).detach(), wanted, atol=1e-6
    )
    student = copy.deepcopy(request.model)

    def loss(batch: list[int]) -> torch.Tensor:
        parts = [
            reference.distance(student(inputs[i : i + 1])[0], wanted[i], classes=labels.ndim == 1)
            for i in batch
        ]
        return torch.stack(parts).mean()

    descend(student, len(inputs), loss, request.generator("delete batches"), **STEPS)
    ours = build("delete", STEPS).unlearn(request).state_dict()
    assert largest_difference(ours, student.state_dict()) < 1e-5
    assert largest_difference(ours, request.model.state_dict()) > 1e-3


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_in_the_end_the_model_says_what_the_target_says(task: Task) -> None:
    request = TinyProblem("convnext", task).unlearn_request()
    inputs, labels = request.support.inputs(), request.support.labels
    unlearned = build("delete", {"learning_rate": 0.1, "epochs": 60}).unlearn(request)
    with torch.no_grad():
        before, after = request.model(inputs), unlearned(inputs)
    if labels.ndim == 1:
        own = torch.arange(len(labels)), labels
        assert (after.softmax(1)[own] < 0.1 * before.softmax(1)[own]).all()
        return
    was_wrong = (before > 0) != (labels > 0.5)
    assert 0 < was_wrong.sum() < was_wrong.numel()
    left = (after.sigmoid() - before.sigmoid()).abs()[was_wrong]
    assert left.max() < 0.01
    prior = (labels.sum(0) + 1) / (len(labels) + 2)
    assert (after.sigmoid() - prior).abs()[~was_wrong].max() < 0.01
