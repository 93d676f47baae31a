from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from reference.lfssd import sample_importances as sample_by_sample
from support.golden import largest_difference
from support.tiny import TinyProblem, tiny_model

from oneshui.methods import build
from oneshui.methods._importance import (
    batch_importances,
    dampen,
    sample_importances,
    squared_norm,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("problem", [TinyProblem("vit", "multiclass"), TinyProblem("convnext")])
@pytest.mark.parametrize("power", [1, 2])
def test_importances_are_those_of_a_plain_loop(problem: TinyProblem, power: int) -> None:
    model, data = tiny_model(problem.network), problem.images("val")
    theirs = sample_by_sample(tiny_model(problem.network), data.inputs(), power)
    for ours in (
        sample_importances(model, data.batches(5, CPU), squared_norm, power=power),
        batch_importances(model, data.batches(1, CPU), squared_norm, power=power),
    ):
        assert ours.keys() == theirs.keys()
        for name, expected in theirs.items():
            tolerance = 1e-5 * expected.abs().max().item() + 1e-9
            torch.testing.assert_close(ours[name], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("importance", ["batch", "sample"])
def test_labels_do_not_matter(importance: str) -> None:
    problem = TinyProblem()
    method: Any = build("lfssd", {"importance": importance, "alpha": 1.0, "dampening": 0.5})
    request = problem.prepare_request()
    train = dataclasses.replace(request.train, labels=1 - request.train.labels)
    prepared = method.prepare(request)
    blind = method.prepare(dataclasses.replace(request, train=train))
    assert largest_difference(prepared, blind) == 0

    asked = problem.unlearn_request(prepared)
    unlearned = method.unlearn(asked).state_dict()
    asked.support.labels.zero_()
    assert largest_difference(method.unlearn(asked).state_dict(), unlearned) == 0
    assert largest_difference(asked.model.state_dict(), unlearned) > 0


@pytest.mark.parametrize("importance", ["batch", "sample"])
def test_the_power_reaches_both_measurements(importance: str) -> None:
    problem = TinyProblem("convnext")
    method: Any = build("lfssd", {"importance": importance, "power": 1, "share": 0.1})
    prepared = method.prepare(problem.prepare_request())
    squared = dataclasses.replace(method, power=2).prepare(problem.prepare_request())
    assert largest_difference(prepared, squared) > 0
    asked = problem.unlearn_request(prepared)
    forget = batch_importances(
        asked.model, [(asked.support.inputs(), asked.support.labels)], squared_norm, power=1
    )
    if importance == "sample":
        forget = sample_by_sample(asked.model, asked.support.inputs(), 1)
    expected = tiny_model("convnext")
    dampen(expected, forget, prepared, alpha=0, share=0.1, dampening=method.dampening)
    assert largest_difference(method.unlearn(asked).state_dict(), expected.state_dict()) < 1e-5
