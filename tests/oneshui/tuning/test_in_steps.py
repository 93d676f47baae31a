"""A request served so many people at a time: what every step is handed."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from support.tiny import TinyProblem
from torch import nn

from oneshui.requests import UnlearnRequest
from oneshui.seeding import derive_seed
from oneshui.spec import Access
from oneshui.tuning.in_steps import unlearned_in_steps


@dataclass
class Remembers:
    """Adds one to a bias for every person who asks, and says what it was handed."""

    name = "remembers"
    access = Access.SUPPORT
    asked: list[UnlearnRequest] = field(default_factory=list)
    biases: list[float] = field(default_factory=list)

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        self.asked.append(request)
        model: Any = copy.deepcopy(request.model)
        bias = model.get_classifier().bias
        self.biases.append(bias_of(model))
        bias.data.add_(len(request.support))
        model.mark = "left behind"
        model.requires_grad_(False)
        found: nn.Module = model
        return found


def bias_of(model: Any) -> float:
    return float(model.get_classifier().bias[0].detach())


def test_each_step_works_on_what_the_one_before_left_and_sees_its_own_people() -> None:
    request = TinyProblem().unlearn_request(prepared={"kept": torch.ones(2)})
    method: Any = Remembers()
    first = bias_of(request.model)
    model: Any = unlearned_in_steps(method, request, 2)
    assert [len(step.support) for step in method.asked] == [2, 1]
    identities = torch.cat([step.support.identities for step in method.asked])
    assert torch.equal(identities, request.support.identities)
    assert torch.equal(method.asked[1].support.images, request.support.images[2:])
    assert torch.equal(method.asked[1].support.labels, request.support.labels[2:])
    assert method.biases == [first, first + 2]
    assert bias_of(model) == first + 3
    assert [step.seed for step in method.asked] == [7, derive_seed(7, "step", 1)]
    assert all(step.prepared is request.prepared for step in method.asked)
    # As from the store: what a method leaves on a model beside its weights is gone.
    for step in (method.asked[1].model, model):
        assert not hasattr(step, "mark")
        assert all(weight.requires_grad for weight in step.parameters())
    assert bias_of(request.model) == first


def test_one_step_for_all_is_the_request_itself() -> None:
    request = TinyProblem().unlearn_request()
    method: Any = Remembers()
    unlearned_in_steps(method, request, 3)
    (step,) = method.asked
    assert step.seed == request.seed
    assert torch.equal(step.support.images, request.support.images)
