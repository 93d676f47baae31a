from __future__ import annotations

from typing import Any

import pytest
import torch
from reference import l2ul as reference
from reference.adversarial import attack, inside
from reference.training import loss_of
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.methods import build
from oneshui.methods.l2ul import L2UL, wrong_labels
from oneshui.requests import UnlearnRequest

HYPER: dict[str, Any] = {
    **{"num_adversarial": 2, "epsilon": 2.0, "attack_step": 0.5, "attack_steps": 4},
    **{"flips": 0.4, "batch_size": 4},
}
PROBLEMS = [TinyProblem("convnext"), TinyProblem("batchnorm", "multiclass")]


def known_by_heart(problem: TinyProblem) -> UnlearnRequest:
    """A request whose model has learned S, so that there is something to lose."""
    request = problem.unlearn_request()
    optimizer = torch.optim.SGD(request.model.parameters(), lr=0.02, momentum=0.9)
    while (loss := loss_of(request.model(request.support.inputs()), request.support.labels)) > 0.25:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    request.model.zero_grad()
    return request


def others(request: UnlearnRequest) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Adversarial images one at a time, from the method's own draws."""
    inputs, labels = request.support.inputs(), request.support.labels
    centres = torch.cat([inputs, inputs])
    true = torch.cat([labels, labels])
    draws = request.generator("l2ul labels")
    if true.ndim == 1:
        shifts = torch.randint(1, 5, true.shape, generator=draws)
        wrong = torch.stack([(y + s) % 5 for y, s in zip(true, shifts, strict=True)])
    else:
        wrong = true.clone()
        for row, numbers in zip(wrong, torch.rand(true.shape, generator=draws), strict=True):
            for at in numbers.argsort()[:2].tolist():
                row[at] = 1 - row[at]
    noise = torch.rand(centres.shape, generator=request.generator("l2ul images")) * 2 - 1
    found = []
    for image, label, start in zip(centres, wrong, noise, strict=True):
        kind: dict[str, Any] = {"norm": "l2", "radius": 4.0, "step": 1.0, "steps": 4}
        start = inside(start, image, "l2", 4.0)
        moved = attack(request.model, image, label, **kind, towards=True, start=start)
        found.append((moved, label))
    return found


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_whole_method_is_a_plain_loop_and_stops_when_the_images_are_lost(
    problem: TinyProblem,
) -> None:
    request = known_by_heart(problem)
    images = list(zip(request.support.inputs(), request.support.labels, strict=True))
    slow: dict[str, Any] = {"batch_size": 4, "learning_rate": 0.01, "hold": 0.7}
    theirs, steps = reference.unlearn(request.model, images, others(request), rounds=60, **slow)
    assert 4 < steps < 60
    ours = build("l2ul", {**HYPER, **slow, "epochs": 60}).unlearn(request).state_dict()
    assert largest_difference(ours, theirs.state_dict()) < 2e-4
    # Two steps a pass, and no image is lost before the last.
    early = build("l2ul", {**HYPER, **slow, "epochs": 1}).unlearn(request).state_dict()
    assert largest_difference(ours, early) > 1e-2
    assert largest_difference(early, request.model.state_dict()) > 1e-4


@pytest.mark.parametrize("problem", PROBLEMS)
def test_adversarial_images_are_in_their_ball_and_more_like_their_wrong_labels(
    problem: TinyProblem,
) -> None:
    request = known_by_heart(problem)
    inputs, labels = request.support.inputs(), request.support.labels
    method = L2UL(epsilon=1.0, attack_steps=20, num_adversarial=4)
    near, wrong = method._adversarial(request.model, inputs, labels, request)
    centres = inputs.repeat(4, 1, 1, 1)
    assert ((near - centres).flatten(1).norm(dim=1) <= 2.0 * (1 + 1e-5)).all()
    assert near.abs().max() <= 1
    with torch.no_grad():
        before, after = (loss_of(request.model(x), wrong) for x in (centres, near))
    assert after < 0.9 * before


def test_wrong_labels_are_wrong_in_as_many_places_as_asked() -> None:
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (50, 10), generator=draws).float()
    for share, count in ((0.2, 2), (0.0, 1), (1.0, 10)):
        wrong = wrong_labels(labels, 10, share, draws)
        assert ((wrong != labels).sum(1) == count).all()
    assert len({tuple(row.tolist()) for row in wrong_labels(labels, 10, 0.2, draws) != labels}) > 20
    classes = torch.arange(300) % 3
    wrong = wrong_labels(classes, 3, 0.2, draws)
    assert ((wrong - classes) % 3).bincount().tolist()[0] == 0
    assert set(wrong.tolist()) == {0, 1, 2}


def test_weights_that_the_images_do_not_hang_on_are_held() -> None:
    request = known_by_heart(TinyProblem("convnext"))
    importance = reference.importances(request.model, request.support.inputs())

    def moved(hold: float) -> tuple[float, float]:
        hyper = {**HYPER, "learning_rate": 0.01, "epochs": 7, "batch_size": 6, "hold": hold}
        after = dict(build("l2ul", hyper).unlearn(request).named_parameters())
        unimportant = important = 0.0
        for name, before in request.model.named_parameters():
            change = (after[name] - before).abs().detach()
            unimportant += change[importance[name] < 0.2].sum().item()
            important += change[importance[name] > 0.8].sum().item()
        return unimportant, important

    free, held = moved(0.0), moved(20.0)
    assert held[0] < 0.7 * free[0]
    assert held[1] / held[0] > 1.2 * free[1] / free[0]
