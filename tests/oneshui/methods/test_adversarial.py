from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.adversarial import attack as image_by_image
from reference.training import loss_of
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.methods import _adversarial
from oneshui.methods._adversarial import Attack
from oneshui.spec import Task

KINDS = [
    Attack(norm="linf", epsilon=0.05, step=0.02, steps=5),
    Attack(norm="l2", epsilon=1.5, step=0.4, steps=5),
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.norm)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def lengths(change: torch.Tensor, norm: str) -> torch.Tensor:
    flat = change.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)


@each_kind
@pytest.mark.parametrize("towards", [True, False])
@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_it_is_a_plain_loop_and_batches_do_not_matter(
    kind: Attack, towards: bool, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = TinyProblem("batchnorm", task).unlearn_request()
    inputs, labels = request.support.inputs(), request.support.labels
    monkeypatch.setattr(_adversarial, "PASS_SIZE", 2)
    ours = kind(request.model, inputs, labels, task, towards=towards)
    slow = [
        image_by_image(
            request.model,
            image,
            label,
            norm=kind.norm,
            radius=2 * kind.epsilon,
            step=2 * kind.step,
            steps=kind.steps,
            towards=towards,
        )
        for image, label in zip(inputs, labels, strict=True)
    ]
    assert torch.allclose(ours, torch.stack(slow), atol=1e-4)


@each_kind
@pytest.mark.parametrize("reach", [0.1, 100.0])
def test_images_stay_in_their_ball_and_are_images(kind: Attack, reach: float) -> None:
    far = Attack(norm=kind.norm, epsilon=kind.epsilon, step=reach * kind.epsilon, steps=3)
    request = TinyProblem().unlearn_request()
    inputs, labels = request.support.inputs(), request.support.labels
    for draws in (None, generator()):
        moved = far(request.model, inputs, labels, request.task, towards=False, generator=draws)
        assert moved.abs().max() <= 1
        size = lengths(moved - inputs, kind.norm)
        assert (size <= 2 * kind.epsilon * (1 + 1e-5)).all()
        if reach > 1:
            assert (size > 1.5 * kind.epsilon).all()


@each_kind
@pytest.mark.parametrize("towards", [True, False])
def test_every_image_s_loss_goes_where_it_should(kind: Attack, towards: bool) -> None:
    request = TinyProblem("vit", "multiclass").unlearn_request()
    inputs, labels = request.support.inputs(), request.support.labels
    before, states = request.model.state_dict(), torch.get_rng_state()
    weights = {name: value.clone() for name, value in before.items()}
    moved = kind(
        request.model, inputs, labels, request.task, towards=towards, generator=generator()
    )
    assert torch.equal(torch.get_rng_state(), states)
    assert largest_difference(request.model.state_dict(), weights) == 0
    for was, now, label in zip(inputs, moved, labels, strict=True):
        first, last = (
            loss_of(request.model(image[None]), label[None]).item() for image in (was, now)
        )
        assert last < first if towards else last > first


@each_kind
def test_random_starts_differ_and_are_all_over_the_ball(kind: Attack) -> None:
    still: Any = Attack(norm=kind.norm, epsilon=kind.epsilon, step=0.0)
    request = TinyProblem().unlearn_request()
    inputs, labels = request.support.inputs(), request.support.labels
    draws = generator()
    first, second = (
        still(request.model, inputs, labels, request.task, towards=True, generator=draws)
        for _ in range(2)
    )
    assert (lengths(first - second, kind.norm) > kind.epsilon).all()
    assert (lengths(first - inputs, kind.norm) > 1.9 * kind.epsilon).all()
    alone = still(request.model, inputs, labels, request.task, towards=True)
    assert torch.equal(alone, inputs)
