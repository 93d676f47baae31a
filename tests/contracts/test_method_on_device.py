"""Every method on an accelerator: played where there is none, and compared with the processor."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
import torch
from support import played_device
from support.tiny import Network, TinyProblem

from oneshui import methods
from oneshui.methods.base import Method, PreparedMethod
from oneshui.requests import UnlearnRequest
from oneshui.spec import Access, Task

CPU = torch.device("cpu")
PROBLEMS: list[tuple[Network, Task]] = [
    ("vit", "multilabel"),
    ("convnext", "multiclass"),
    ("batchnorm", "multilabel"),
]
QUICK: Mapping[str, Mapping[str, Any]] = {"l2ul": {"num_adversarial": 2, "attack_steps": 5}}

NEAR = 2e-3
"""Of the way that a method's weights went on the processor: how far off they may end."""

FURTHER: Mapping[str, float] = {
    **dict.fromkeys(["retrain", "scrub"], 0.05),  # validate or train in bfloat16, which rounds
    **dict.fromkeys(["ssd", "assd", "lfssd"], 0.1),  # a weight is dampened or it is not
    "pgu": 0.2,  # ranks follow the last digits of sums that are made in float32
    "metaunlearn": 0.05,  # Adam's first steps go by a gradient's sign
    "spotter": 0.05,  # looks for noise by gradients' signs
}

every_method = pytest.mark.parametrize("name", methods.names())


def computed(
    name: str, problem: TinyProblem, device: torch.device
) -> tuple[Mapping[str, torch.Tensor], dict[str, torch.Tensor], UnlearnRequest]:
    """What the method prepares, and the weights it ends with, and what it was asked."""
    method: Method = methods.build(name, QUICK.get(name, {}))
    prepared: Mapping[str, torch.Tensor] = {}
    if method.access is Access.PREPARED:
        asked = dataclasses.replace(problem.prepare_request(), device=device)
        prepared = cast("PreparedMethod", method).prepare(asked)
    base = problem.full_request() if method.access is Access.FULL else problem.unlearn_request()
    request = dataclasses.replace(base, prepared=prepared, device=device)
    model = method.unlearn(request)
    if name != "pretrain":
        assert {value.device.type for value in model.state_dict().values()} == {device.type}
    return prepared, {n: v.detach().cpu() for n, v in model.state_dict().items()}, request


@cache
def on_the_processor(name: str, network: Network, task: Task) -> dict[str, torch.Tensor]:
    return computed(name, TinyProblem(network, task), CPU)[1]


def distance(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> float:
    """L2, over all weights together."""
    assert ours.keys() == theirs.keys()
    return math.sqrt(
        sum(float((ours[n].double() - theirs[n].double()).square().sum()) for n in ours)
    )


def random_states() -> tuple[str, bytes, Any]:
    return repr(np.random.get_state()), torch.get_rng_state().numpy().tobytes(), random.getstate()  # noqa: NPY002


def check_near(name: str, network: Network, task: Task, device: torch.device) -> None:
    expected = on_the_processor(name, network, task)
    problem = TinyProblem(network, task)
    before = problem.unlearn_request().model.state_dict()
    states = random_states()
    prepared, found, request = computed(name, problem, device)
    assert random_states() == states
    assert all(value.device.type == "cpu" for value in prepared.values())
    assert {n: v.dtype for n, v in found.items()} == {n: v.dtype for n, v in expected.items()}
    # What was handed over is where and as it was.
    given = request.model.state_dict()
    assert all(torch.equal(given[n], value) for n, value in before.items())
    way = distance(expected, before)
    assert distance(found, expected) <= FURTHER.get(name, NEAR) * way


@every_method
@pytest.mark.parametrize(("network", "task"), PROBLEMS)
def test_a_method_computes_on_a_device_what_it_computes_on_the_processor(
    name: str, network: Network, task: Task, accelerator: torch.device
) -> None:
    check_near(name, network, task, accelerator)
    if accelerator.type == played_device.NAME and name != "pretrain":
        assert played_device.operators() > 20


@pytest.fixture
def without_float64() -> Iterator[torch.device]:
    with played_device.played(has_float64=False) as device:
        yield device


@every_method
@played_device.needed
def test_a_method_needs_no_float64_of_its_device(name: str, without_float64: torch.device) -> None:
    check_near(name, "convnext", "multiclass", without_float64)


@pytest.mark.parametrize("name", ["ssd", "gradient_ascent", "jit"])
def test_a_method_computes_twice_the_same_on_a_device(name: str, accelerator: torch.device) -> None:
    first = computed(name, TinyProblem("convnext"), accelerator)[1]
    again = computed(name, TinyProblem("convnext"), accelerator)[1]
    assert all(torch.equal(first[n], again[n]) for n in first)
