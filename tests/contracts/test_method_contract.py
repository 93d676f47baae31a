"""What every method keeps to, whoever wrote it. Methods are found by name; nothing to edit here."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from support.tiny import NUM_OUTPUTS, SPECS, Network, TinyProblem, tiny_model
from torch import nn

from oneshui import methods
from oneshui.methods.base import Method, PreparedMethod, hyperparameters
from oneshui.requests import PrepareRequest, UnlearnRequest
from oneshui.spec import Access, Task
from oneshui.training.models import make_model

PROBLEMS: list[tuple[Network, Task]] = [
    ("vit", "multilabel"),
    ("convnext", "multiclass"),
    ("batchnorm", "multilabel"),
]

QUICK: Mapping[str, Mapping[str, Any]] = {"l2ul": {"num_adversarial": 2, "attack_steps": 5}}
"""Where the defaults take long and say nothing more of what is kept to here."""


def built(name: str) -> Method:
    return methods.build(name, QUICK.get(name, {}))


every_method = pytest.mark.parametrize("name", methods.names())
every_problem = pytest.mark.parametrize(("network", "task"), PROBLEMS)


def prepare(method: Method, request: PrepareRequest) -> Mapping[str, torch.Tensor]:
    is_prepared = method.access is Access.PREPARED
    return cast("PreparedMethod", method).prepare(request) if is_prepared else {}


def unlearn_request(
    method: Method, problem: TinyProblem, prepared: Mapping[str, torch.Tensor]
) -> UnlearnRequest:
    if method.access is Access.FULL:
        return problem.full_request()
    return problem.unlearn_request(prepared)


@cache
def prepared_state(name: str, network: Network, task: Task) -> Mapping[str, torch.Tensor]:
    return prepare(built(name), TinyProblem(network, task).prepare_request())


@cache
def unlearned_weights(name: str, network: Network, task: Task) -> Mapping[str, torch.Tensor]:
    method = built(name)
    problem = TinyProblem(network, task)
    model = method.unlearn(unlearn_request(method, problem, prepared_state(name, network, task)))
    return model.state_dict()


def assert_equal(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different


def assert_same_bits(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(ours[name].dtype == theirs[name].dtype for name in ours)
    # Whichever way they lie in memory.
    first, second = (
        save({name: value.contiguous() for name, value in tensors.items()})
        for tensors in (ours, theirs)
    )
    assert first == second


def random_states() -> tuple[str, bytes, Any]:
    return repr(np.random.get_state()), torch.get_rng_state().numpy().tobytes(), random.getstate()  # noqa: NPY002


def snapshot(model: nn.Module) -> tuple[dict[str, torch.Tensor], list[bool], list[bool]]:
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
    )


def test_methods_are_listed_without_importing_torch() -> None:
    code = "import sys, oneshui.methods as m; m.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@every_method
def test_defaults_and_the_ends_of_the_search_space_are_valid(name: str) -> None:
    method = methods.build(name, {})
    assert method.name == name
    types = {field.name: field.type for field in dataclasses.fields(cast("Any", method))}
    for field, values in method.search_space.items():
        assert values.low <= hyperparameters(method)[field] <= values.high
    for space in (method.search_space, methods.get(name).relative_space):  # type: ignore[attr-defined]
        for field, values in space.items():
            for end in (values.low, values.high):
                methods.build(name, {field: int(end) if types[field] == "int" else end})


@every_method
@every_problem
def test_it_returns_a_finite_model_of_the_same_shape(
    name: str, network: Network, task: Task
) -> None:
    weights = unlearned_weights(name, network, task)
    before = TinyProblem(network, task).unlearn_request().model.state_dict()
    assert {n: v.shape for n, v in weights.items()} == {n: v.shape for n, v in before.items()}
    assert all(torch.isfinite(value).all() for value in weights.values())


@every_method
@every_problem
def test_the_same_seed_gives_bitwise_the_same_weights(
    name: str, network: Network, task: Task
) -> None:
    method = built(name)
    problem = TinyProblem(network, task)
    again = prepare(method, problem.prepare_request())
    assert_equal(again, prepared_state(name, network, task))
    model = method.unlearn(unlearn_request(method, problem, again))
    assert_equal(model.state_dict(), unlearned_weights(name, network, task))


@every_method
@every_problem
def test_prepared_state_survives_storage(name: str, network: Network, task: Task) -> None:
    method = built(name)
    prepared = dict(prepared_state(name, network, task))
    stored = load(save(prepared)) if prepared else {}
    assert_equal(stored, prepared)
    model = method.unlearn(unlearn_request(method, TinyProblem(network, task), stored))
    assert_equal(model.state_dict(), unlearned_weights(name, network, task))


@every_method
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_it_leaves_what_it_was_given_and_all_random_state_alone(name: str, training: bool) -> None:
    method = built(name)
    problem = TinyProblem()
    prepare_request = problem.prepare_request()
    prepare_request.model.train(training)
    next(prepare_request.model.parameters()).requires_grad_(False)
    before, states = snapshot(prepare_request.model), random_states()
    prepared = prepare(method, prepare_request)
    after = snapshot(prepare_request.model)
    assert_equal(after[0], before[0])
    assert after[1:] == before[1:]
    assert random_states() == states

    request = unlearn_request(method, problem, prepared_state(name, "vit", "multilabel"))
    request.model.train(training)
    before, inputs = snapshot(request.model), request.support.images.clone()
    kept = {key: value.clone() for key, value in request.prepared.items()}
    unlearned = method.unlearn(request)
    after = snapshot(request.model)
    assert_equal(after[0], before[0])
    assert after[1:] == before[1:]
    assert_equal(dict(request.prepared), kept)
    assert torch.equal(request.support.images, inputs)
    assert random_states() == states
    shared = {p.data_ptr() for p in request.model.parameters()}
    assert not shared & {p.data_ptr() for p in unlearned.parameters()}
    assert all(value.device.type == "cpu" for value in prepared.values())


@every_method
def test_the_mode_of_a_model_that_drops_activations_changes_nothing(name: str) -> None:
    method, problem = built(name), TinyProblem()
    options = {**SPECS["vit"].options, "proj_drop_rate": 0.5}
    spec = dataclasses.replace(SPECS["vit"], options=options)
    # The weights of the others, because what drops has none.
    model = make_model(spec, NUM_OUTPUTS, 0).train()
    prepared = prepare(method, problem.prepare_request(model=model))
    assert_equal(prepared, prepared_state(name, "vit", "multilabel"))
    request = dataclasses.replace(unlearn_request(method, problem, prepared), model=model)
    assert_equal(method.unlearn(request).state_dict(), unlearned_weights(name, "vit", "multilabel"))


@pytest.mark.parametrize(
    "name", [name for name in methods.names() if methods.nothing_of(methods.get(name)) is not None]
)
@every_problem
def test_nothing_leaves_every_bit_as_it_is(name: str, network: Network, task: Task) -> None:
    nothing = methods.nothing_of(methods.get(name))
    # As a sweep stores and hands on what was chosen.
    method = methods.build(name, json.loads(json.dumps(nothing)))
    request = unlearn_request(
        method, TinyProblem(network, task), prepared_state(name, network, task)
    )
    before, mode, needed = snapshot(request.model)
    assert_same_bits(method.unlearn(request).state_dict(), before)
    after = snapshot(request.model)
    assert_same_bits(after[0], before)
    assert after[1:] == (mode, needed)


@pytest.mark.parametrize("name", [name for name in methods.names() if name != "retrain"])
def test_statistics_of_a_batch_norm_never_move_and_its_mode_does_not_matter(name: str) -> None:
    before = tiny_model("batchnorm")
    buffers = {key: value.clone() for key, value in before.named_buffers()}
    assert len(buffers) == 3 * len([m for m in before.modules() if isinstance(m, nn.BatchNorm2d)])
    method, problem = built(name), TinyProblem("batchnorm")
    prepare_request = problem.prepare_request()
    prepared = prepare(method, dataclasses.replace(prepare_request, model=before.train()))
    request = dataclasses.replace(unlearn_request(method, problem, prepared), model=before)
    after = method.unlearn(request)
    assert_same_bits(dict(after.named_buffers()), buffers)
    assert_same_bits(dict(before.named_buffers()), buffers)
    # Had one of the steps used the batch's own statistics, the weights would be others.
    assert_equal(after.state_dict(), unlearned_weights(name, "batchnorm", "multilabel"))


@pytest.mark.parametrize("name", [name for name in methods.names() if name != "retrain"])
def test_which_methods_move_weights_and_biases_of_a_batch_norm(name: str) -> None:
    more = {"ssd": {"share": 1.0}, "lfssd": {"share": 1.0}, "assd": {"scale": 50.0}}.get(name, {})
    method = methods.build(name, {**QUICK.get(name, {}), **more})
    problem = TinyProblem("batchnorm")
    request = unlearn_request(method, problem, prepared_state(name, "batchnorm", "multilabel"))
    after = dict(method.unlearn(request).named_parameters())
    norms = [n for n, m in request.model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    own = {f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")}
    moved = {n for n, p in request.model.named_parameters() if not torch.equal(p, after[n])}
    assert moved & own == (set() if name in ("newton_head", "pgu", "pretrain") else own)
    assert (moved - own != set()) == (name != "pretrain")
