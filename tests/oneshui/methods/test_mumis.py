from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from reference.mumis import objective, sensitivity
from support.golden import largest_difference
from support.tiny import TinyProblem
from torch import nn

from oneshui.methods import build, mumis


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_sensitivities_are_those_of_one_pixel_at_a_time() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 3))
    inputs = torch.randn(2, 3, 2, 2)
    own, other = torch.randn(2, 3), torch.randn(2, 3)
    ours = mumis.sensitivities(model, inputs, own, other)
    assert not inputs.requires_grad
    for found, direction in zip(ours, (own, other), strict=True):
        theirs = [
            sensitivity(copy.deepcopy(model), image, weights.tolist())
            for image, weights in zip(inputs, direction, strict=True)
        ]
        assert found.tolist() == pytest.approx(theirs, rel=1e-4)


def test_a_class_has_one_of_the_others_and_attributes_random_signs() -> None:
    labels = torch.arange(5).repeat(40)
    own, other = mumis.directions(labels, 5, generator())
    assert torch.equal(own.argmax(1), labels)
    for direction in (own, other):
        assert torch.equal(direction.sort(1).values, torch.tensor([0.0] * 4 + [1]).expand(200, 5))
    drawn = other.argmax(1)
    assert not (drawn == labels).any()
    assert all(len(set(drawn[labels == c].tolist())) == 4 for c in range(5))

    attributes = torch.tensor([[1.0, 0.0, 0.0, 1.0]]).repeat(200, 1)
    own, other = mumis.directions(attributes, 4, generator())
    assert torch.equal(own, torch.tensor([[0.25, -0.25, -0.25, 0.25]]).expand(200, 4))
    signs = {tuple(row) for row in other.tolist()}
    assert {number for row in signs for number in row} == {-0.25, 0.25}
    assert len(signs) == 16


@pytest.mark.parametrize(
    "problem", [TinyProblem("vit"), TinyProblem("convnext", "multiclass")], ids=str
)
def test_the_whole_method_is_a_plain_loop(problem: TinyProblem) -> None:
    request = problem.unlearn_request()
    model, draws = copy.deepcopy(request.model), request.generator("mumis directions")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(3):
        own, other = mumis.directions(request.support.labels, 5, draws)
        mine, theirs = objective(model, request.support.inputs(), own, other)
        optimizer.zero_grad()
        (mine - theirs).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    method = build("mumis", {"learning_rate": 0.5, "steps": 3, "recovery": 1e9})
    unlearned = method.unlearn(request).state_dict()
    assert largest_difference(unlearned, model.state_dict()) < 1e-5
    assert largest_difference(unlearned, request.model.state_dict()) > 1e-4


def test_pieces_of_a_large_support_set_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    request = TinyProblem().unlearn_request()
    method = build("mumis", {"steps": 2, "step": 1e-3})
    whole = method.unlearn(request).state_dict()
    monkeypatch.setattr("oneshui.methods._sgd.CHUNK_SIZE", 2)
    assert largest_difference(method.unlearn(request).state_dict(), whole) < 1e-6


@pytest.mark.parametrize(
    "problem", [TinyProblem("convnext"), TinyProblem("vit", "multiclass")], ids=str
)
def test_it_lowers_the_sensitivity_it_names_against_the_others(problem: TinyProblem) -> None:
    request = problem.unlearn_request()

    def mean(model: nn.Module) -> tuple[float, float]:
        draws = generator()
        found = []
        for _ in range(10):
            pair = mumis.directions(request.support.labels, 5, draws)
            found.append([s.detach().mean() for s in mumis.sensitivities(model, inputs, *pair)])
        own, other = torch.tensor(found).mean(0).tolist()
        return own, own - other

    inputs = request.support.inputs()
    unlearned = build("mumis", {"step": 3e-3, "steps": 10, "recovery": 1e9}).unlearn(request)
    before, after = mean(request.model), mean(unlearned)
    assert after[0] < 0.8 * before[0]
    assert after[1] < before[1] - 0.1 * before[0]


@pytest.mark.parametrize(
    ("share", "numbers", "stops"),
    [
        (1.0, [4, 3, 2, 3, 3.9, 4], 5),
        (0.5, [4, 3, 1, 1.5, 2], 4),
        (0.5, [4, 3, 2.5, 2.6], 3),
        (2.0, [4, 5, 7, 8], 3),
        (1.0, [4, 4, 4], None),
        (0.1, [4, 3, 2, 1, 0.5], None),
    ],
)
def test_it_stops_once_what_fell_has_come_back(
    share: float, numbers: list[float], stops: int | None
) -> None:
    stop = mumis.Recovery(share)
    said = [stop(number) for number in numbers]
    assert said == [place == stops for place in range(len(numbers))]


def test_no_step_is_taken_after_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    request = TinyProblem().unlearn_request()

    def unlearned(**values: Any) -> dict[str, torch.Tensor]:
        return build("mumis", {"learning_rate": 0.05, **values}).unlearn(request).state_dict()

    two = unlearned(steps=2, recovery=1e9)
    heard: list[float] = []

    class AtTheThird:
        def __init__(self, share: float) -> None:
            assert share == 0.7

        def __call__(self, number: float) -> bool:
            heard.append(number)
            return len(heard) == 3

    monkeypatch.setattr(mumis, "Recovery", AtTheThird)
    assert largest_difference(unlearned(steps=9, recovery=0.7), two) == 0
    assert len(heard) == 3
    first = mumis.directions(request.support.labels, 5, request.generator("mumis directions"))
    expected = objective(request.model, request.support.inputs(), *first)[1].item()
    assert heard[0] == pytest.approx(expected, rel=1e-5)
