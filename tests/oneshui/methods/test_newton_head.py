from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from reference.newton import gradient, hessian
from scipy.linalg import block_diag
from support.golden import largest_difference
from support.tiny import TinyProblem
from torch import nn
from torch.nn import functional as F

from oneshui.data.images import make_images
from oneshui.methods import build
from oneshui.methods.newton_head import curvature, newton_step, predicted
from oneshui.requests import PrepareRequest, SupportSet, UnlearnRequest
from oneshui.spec import Task
from oneshui.training.models import classifier_of

each_task = pytest.mark.parametrize("task", ["multilabel", "multiclass"])


def targets(labels: torch.Tensor, num_outputs: int) -> torch.Tensor:
    return F.one_hot(labels, num_outputs).float() if labels.ndim == 1 else labels


class Groups(nn.Module):
    """Pictures are of two groups, by their brightness, and the features say which."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.head = nn.Linear(2, len(logits), bias=False)
        self.head.weight.data.copy_(logits)

    def get_classifier(self) -> nn.Linear:
        return self.head

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        bright = images[:, 0, 0, 0] > 0
        return torch.stack([bright, ~bright], 1).float()

    def forward_head(self, features: torch.Tensor, *, pre_logits: bool) -> torch.Tensor:
        assert pre_logits
        return features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.forward_features(images))
        return logits


def best_logits(counts: torch.Tensor, task: Task) -> torch.Tensor:
    """Where the loss of a group's pictures is smallest, [C, 2], from [2, C + 1] counts."""
    ones, number = counts[:, :-1].T, counts[:, -1]
    if task == "multilabel":
        return (ones / (number - ones)).log()
    return (ones / number).log()


def after_leaving_out(task: Task, size: int, taken: int) -> tuple[torch.Tensor, ...]:
    """Probabilities of the first group [C] before, after the step, and after retraining."""
    shares = torch.tensor([[0.3, 0.6, 0.1], [0.2, 0.5, 0.3]])
    rows: list[int] = []
    labels: list[Any] = []
    for group, share in enumerate(shares):
        for number in range(size):
            rows.append(255 * (1 - group))
            place = (number + 0.5) / size
            if task == "multiclass":
                labels.append(int((place > share.cumsum(0)).sum()))
            else:
                labels.append([int(place < s) for s in share])
    pixels = np.array(rows, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=1)
    label: Any = np.array(labels, dtype=np.uint8 if task == "multilabel" else np.int64)
    images = make_images(pixels, label, np.arange(len(rows)), np.arange(len(rows)))
    truth = targets(images.labels, 3).double()

    def counted(left_out: int) -> torch.Tensor:
        kept = [truth[left_out:size], truth[size:]]
        return torch.stack([torch.cat([y.sum(0), torch.tensor([len(y)])]) for y in kept])

    model = Groups(best_logits(counted(0), task))
    retrained = Groups(best_logits(counted(taken), task))
    prepared = build("newton_head", {}).prepare(  # type: ignore[attr-defined]
        PrepareRequest(
            model=model,
            task=task,
            seed=0,
            train=images,
            val=images,
            train_identities=(0,),
            num_forget=taken,
        )
    )
    support = images.select(torch.arange(taken))
    request = UnlearnRequest(
        model=model,
        task=task,
        seed=0,
        support=SupportSet(
            images=support.raw(), labels=support.labels, identities=support.identities
        ),
        prepared=prepared,
    )
    unlearned = build("newton_head", {"ridge": 1e-12}).unlearn(request)
    bright = images.inputs(slice(0, 1))

    def probabilities(network: nn.Module) -> torch.Tensor:
        return predicted(network, bright, task)[1][0]

    return probabilities(model), probabilities(unlearned), probabilities(retrained)


@each_task
def test_it_is_retraining_the_head_where_the_optimum_is_known(task: Task) -> None:
    errors = []
    for size in (100, 1000):
        before, after, retrained = after_leaving_out(task, size, taken=2)
        way = (retrained - before).norm().item()
        errors.append((after - retrained).norm().item())
        assert errors[-1] < 0.1 * way
    # To second order: a tenth of the share that is left out has a hundredth of the error.
    assert errors[1] < errors[0] / 50


@each_task
def test_the_curvature_is_that_of_a_plain_loop(task: Task) -> None:
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(6, 3, generator=draws, dtype=torch.float64)
    weights = torch.randn(4, 3, generator=draws, dtype=torch.float64)
    logits = features @ weights.T
    probabilities = logits.sigmoid() if task == "multilabel" else logits.softmax(1)
    ours = curvature(features, probabilities, task)
    whole = block_diag(*ours)
    theirs = hessian(features.tolist(), weights.tolist(), task)
    assert np.allclose(whole, theirs, atol=1e-12)
    assert len(ours) == (4 if task == "multilabel" else 1)


@each_task
def test_the_whole_method_is_a_plain_loop(task: Task) -> None:
    problem = TinyProblem("convnext", task)
    method: Any = build("newton_head", {"rank": 3, "ridge": 0.01, "step_scale": 0.5})
    request = problem.prepare_request()
    prepared = method.prepare(request)
    people = len(set(request.train.identities.tolist()))
    assert (prepared["num_images"].item(), prepared["num_people"].item()) == (
        len(request.train),
        people,
    )
    asked = problem.unlearn_request(prepared)
    features, _ = predicted(request.model, request.train.inputs(), task)
    _, _, right = np.linalg.svd(features.numpy(), full_matrices=False)
    leading = right[:3].T
    classifier = classifier_of(request.model)
    rows = torch.cat([classifier.weight, classifier.bias[:, None]], 1).detach().double().numpy()
    seen, _ = predicted(request.model, asked.support.inputs(), task)
    labels = targets(asked.support.labels, 5).tolist()

    # The loops of D-dimensional features along three directions: the chain rule, spelt out.
    expand = np.kron(np.eye(5), leading)
    full = hessian(features.tolist(), rows.tolist(), task)
    times = len(request.train) / people
    own = hessian(seen.tolist(), rows.tolist(), task)
    g = times * gradient(seen.tolist(), labels, rows.tolist(), task)
    reduced = expand.T @ (full - times * own) @ expand
    values, vectors = np.linalg.eigh(reduced)
    positive = vectors @ np.diag(values.clip(0)) @ vectors.T
    solved = np.linalg.solve(positive + 0.01 * len(request.train) * np.eye(15), expand.T @ g)
    expected = rows + 0.5 * (expand @ solved).reshape(rows.shape)

    after = method.unlearn(asked)
    head = classifier_of(after)
    ours = torch.cat([head.weight, head.bias[:, None]], 1).detach().numpy()
    assert np.abs(ours - expected).max() < 1e-5
    assert np.abs(ours - rows).max() > 1e-4
    others = {n for n, p in after.named_parameters() if "weight" in n or "bias" in n}
    moved = {
        name
        for name, value in after.state_dict().items()
        if not torch.equal(value, asked.model.state_dict()[name])
    }
    assert moved <= others
    assert {name.rpartition(".")[0] for name in moved} == {
        name for name, module in after.named_modules() if module is head
    }


def test_a_picture_stands_for_as_many_as_a_person_has_unless_said_otherwise() -> None:
    problem = TinyProblem()
    method: Any = build("newton_head", {})
    prepared = method.prepare(problem.prepare_request())
    mean = prepared["num_images"].item() / prepared["num_people"].item()
    asked = problem.unlearn_request(prepared)

    def weights(multiplicity: float) -> dict[str, torch.Tensor]:
        unlearned: nn.Module = dataclasses.replace(method, multiplicity=multiplicity).unlearn(asked)
        return unlearned.state_dict()

    assert largest_difference(weights(0.0), weights(mean)) == 0
    assert largest_difference(weights(mean), weights(1.0)) > 1e-6


def test_many_classes_are_solved_in_fewer_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneshui.methods.newton_head.MAX_ROWS", 12)
    for task, directions, rows in (("multiclass", 2, 10), ("multilabel", 9, 9)):
        request = TinyProblem("vit", task).prepare_request()  # type: ignore[arg-type]
        prepared = build("newton_head", {"rank": 9}).prepare(request)  # type: ignore[attr-defined]
        assert prepared["basis"].shape == (17, directions)
        assert prepared["hessian"].shape[1:] == (rows, rows)


def test_negative_curvature_is_none_and_the_ridge_bounds_the_step() -> None:
    matrix = torch.diag(torch.tensor([4.0, -3.0], dtype=torch.float64))[None]
    step = newton_step(matrix, torch.tensor([[2.0, 1.0]], dtype=torch.float64), 0.5)
    assert step.tolist() == [[pytest.approx(2 / 4.5), pytest.approx(1 / 0.5)]]


def test_step_is_the_length_of_the_way_of_the_classifier() -> None:
    problem = TinyProblem("convnext")
    prepared = build("newton_head", {}).prepare(problem.prepare_request())  # type: ignore[attr-defined]
    asked = problem.unlearn_request(prepared)
    after = build("newton_head", {"step": 0.3}).unlearn(asked)
    before = classifier_of(asked.model)
    way = [
        p - q for p, q in zip(before.parameters(), classifier_of(after).parameters(), strict=True)
    ]
    norms = [
        math.hypot(*(float(p.detach().norm()) for p in kind)) for kind in (way, before.parameters())
    ]
    assert norms[0] == pytest.approx(0.3 * norms[1], rel=1e-4)
