"""The length of the first step as a hyperparameter, of every method that steps along gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import pytest
import torch
from support.tiny import Network, TinyProblem
from torch import nn

from oneshui import methods
from oneshui.errors import NumericalError
from oneshui.methods import jit
from oneshui.methods._sgd import StepRate
from oneshui.methods.base import PreparedMethod, field_types
from oneshui.spec import Access

NETWORKS: tuple[Network, ...] = ("vit", "convnext", "batchnorm")
ONE_STEP: Mapping[str, dict[str, Any]] = {
    "bad_teacher": {"epochs": 1, "batch_size": 1000},
    "bad_teacher_support": {"epochs": 1},
    "boundary_shrink": {"epochs": 1},
    "delete": {"epochs": 1},
    "extrapolation": {"steps": 1},
    "finetune": {"epochs": 1, "batch_size": 1000},
    "gradient_ascent": {"steps": 1},
    "jit": {},
    "l2ul": {"epochs": 1, "num_adversarial": 2, "attack_steps": 2},
    "metaunlearn": {"epochs": 1, "hidden_size": 8, "dropout": 0.0},
    "mumis": {"steps": 1},
    "neggrad_plus": {"epochs": 1, "batch_size": 1000},
    "newton_head": {},
    "pgu": {"epochs": 1, "gamma": 0.5},
    "random_label": {"steps": 1},
    "salun": {"epochs": 1, "batch_size": 1000},
    "spotter": {"epochs": 1},
}
"""Hyperparameters at which a method takes a single step; SCRUB's first one is special."""


@cache
def prepared_by(name: str, network: Network) -> Mapping[str, torch.Tensor]:
    if methods.get(name).access is not Access.PREPARED:
        return {}
    method = cast("PreparedMethod", methods.build(name, ONE_STEP[name]))
    return method.prepare(TinyProblem(network).prepare_request())


def unlearned(name: str, network: Network = "vit", **values: Any) -> dict[str, torch.Tensor]:
    """How far every weight moved, float64."""
    method, problem = (
        methods.build(name, {**ONE_STEP.get(name, {}), **values}),
        TinyProblem(network),
    )
    if method.access is Access.FULL:
        request: Any = problem.full_request()
    else:
        request = problem.unlearn_request(prepared_by(name, network))
    before = dict(request.model.named_parameters())
    after = dict(method.unlearn(request).named_parameters())
    return {name: (after[name] - before[name]).detach().double() for name in before}


def norm(values: Mapping[str, torch.Tensor]) -> float:
    return math.sqrt(
        sum(float(value.detach().double().square().sum()) for value in values.values())
    )


def weights_that_move(name: str, model: nn.Module, moved: Mapping[str, torch.Tensor]) -> Any:
    weights = {n: p.detach().double() for n, p in model.named_parameters()}
    if name == "salun":
        return {n: weight * (moved[n] != 0) for n, weight in weights.items()}
    layers = dict(model.named_modules())
    if name == "pgu":
        kept = [n for n in weights if n.endswith(".weight")]
        projected = (nn.Linear, nn.Conv2d)
        return {n: weights[n] for n in kept if isinstance(layers[n[: -len(".weight")]], projected)}
    if name == "newton_head":
        return {n: weight for n, weight in weights.items() if moved[n].any()}
    if name == "metaunlearn":
        return {n: weight for n, weight in weights.items() if "." in n}
    return weights


def test_every_method_that_steps_along_gradients_is_here() -> None:
    stepping = {name for name in methods.names() if "step" in field_types(methods.get(name))}
    assert stepping == {*ONE_STEP, "scrub", "scrub_support"}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ONE_STEP)
@pytest.mark.parametrize("step", [1e-3, 0.1])
def test_the_first_step_is_as_long_as_asked(name: str, network: Network, step: float) -> None:
    rates = {} if name in ("metaunlearn", "newton_head") else {"learning_rate": 1e9}
    moved = unlearned(name, network, step=step, **rates)
    weights = weights_that_move(name, TinyProblem(network).unlearn_request().model, moved)
    assert norm(moved) == pytest.approx(step * norm(weights), rel=2e-3)


@pytest.mark.parametrize("network", NETWORKS)
def test_with_the_classifier_alone_it_is_a_share_of_the_classifier(network: Network) -> None:
    moved = unlearned("gradient_ascent", network, parameters="classifier", step=0.02)
    classifier: Any = TinyProblem(network).unlearn_request().model.get_classifier()  # type: ignore[operator]
    weights = dict(classifier.named_parameters())
    assert norm(moved) == pytest.approx(0.02 * norm(weights), rel=2e-3)


@pytest.mark.parametrize("name", ["scrub", "scrub_support"])
def test_scrub_takes_a_gradient_at_its_clipping_norm_for_the_first(name: str) -> None:
    weights = dict(TinyProblem().unlearn_request().model.named_parameters())
    rate = 0.02 * norm(weights)
    moved = unlearned(name, step=0.02, epochs=2, learning_rate=1e9)
    same = unlearned(name, epochs=2, learning_rate=rate)
    for key, value in moved.items():
        assert torch.allclose(value, same[key], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "longer"),
    [
        ("bad_teacher_support", {"epochs": 3}),
        ("delete", {"epochs": 3}),
        ("finetune", {"epochs": 3}),
        ("gradient_ascent", {"steps": 3}),
        ("metaunlearn", {"forget_epochs": 3}),
        ("neggrad_plus", {"epochs": 3}),
        ("pgu", {"epochs": 3}),
        ("salun", {"epochs": 3}),
    ],
)
def test_the_rate_of_the_first_step_serves_the_later_ones(
    name: str, longer: dict[str, Any]
) -> None:
    own = "step_scale" if name == "metaunlearn" else "learning_rate"
    model = TinyProblem().unlearn_request().model
    once = unlearned(name, "vit", **{own: 0.05})
    rate = 0.05 * 0.01 / (norm(once) / norm(weights_that_move(name, model, once)))
    moved = unlearned(name, "vit", **longer, step=0.01)
    same = unlearned(name, "vit", **longer, **{own: rate})
    assert norm(moved) > 1.1 * 0.01 * norm(weights_that_move(name, model, once))
    difference = {key: value - same[key] for key, value in moved.items()}
    assert norm(difference) < 0.01 * norm(moved)


def test_jit_finds_one_rate_for_all_batches() -> None:
    def smoothed(**values: Any) -> dict[str, torch.Tensor]:
        model = nn.Linear(2, 2, bias=False)
        model.weight.data = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
        batches = [(torch.eye(2)[i:], [torch.zeros(2 - i, 2)]) for i in range(2)]
        jit.smooth(model, batches, accumulate=False, **values)
        return model.state_dict()

    # The first gradient is the identity, of length sqrt 2; the weights' norm is 5.
    given = smoothed(learning_rate=0.1 * 5 / math.sqrt(2))
    found = smoothed(learning_rate=1e9, step=0.1)
    assert all(torch.allclose(found[name], given[name]) for name in given)
    assert not torch.equal(given["weight"], torch.tensor([[3.0, 0.0], [0.0, 4.0]]))


def test_a_rate_is_found_from_the_first_step_that_moves_anything() -> None:
    rate = StepRate([torch.tensor([3.0]), torch.tensor([[4.0]])], learning_rate=7.0, step=0.1)
    assert rate([torch.zeros(1), torch.zeros(1, 1)]) == 0
    assert rate([torch.tensor([0.3]), torch.tensor([[0.4]])]) == pytest.approx(1.0)
    assert rate([torch.tensor([30.0]), torch.tensor([[40.0]])]) == pytest.approx(1.0)
    assert StepRate([torch.ones(4)], learning_rate=7.0, step=0.0)([torch.zeros(4)]) == 7
    fixed = StepRate([torch.ones(4)], learning_rate=7.0, step=0.1, length=4.0)
    assert fixed([torch.zeros(4)]) == 0.1 * 2 / 4


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite_gives_no_rate(value: float) -> None:
    rate = StepRate([torch.ones(2)], learning_rate=7.0, step=0.1)
    with pytest.raises(NumericalError, match="set step to 0 and give a learning_rate"):
        rate([torch.tensor([1.0, value])])


def test_a_model_without_a_gradient_stays_as_it_is() -> None:
    request = TinyProblem().unlearn_request()
    classifier: Any = request.model.get_classifier()  # type: ignore[operator]
    classifier.weight.data.zero_()
    classifier.bias.data.zero_()
    before = {name: value.clone() for name, value in request.model.state_dict().items()}
    # All logits are the same whatever the noise, so there is nothing to smooth.
    after = methods.build("jit", {"step": 0.1}).unlearn(request).state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
