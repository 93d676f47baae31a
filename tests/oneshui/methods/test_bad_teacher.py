from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from reference import distillation as reference
from support.golden import GoldenCase, each_divergence, largest_difference
from support.tiny import TinyProblem, tiny_model

from oneshui.errors import DataAccessError, InputError
from oneshui.methods import build
from oneshui.methods._distillation import follow_teachers, probabilities, random_teacher
from oneshui.methods._sgd import mixed_batches, support_images
from oneshui.methods._teachers import Divergence
from oneshui.methods.bad_teacher import BadTeacher
from oneshui.requests import UnlearnRequest


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ["softmax", "bernoulli"])
def test_a_step_goes_towards_the_dumb_teacher_on_forget_images_only(kind: Divergence) -> None:
    model, dumb = tiny_model("vit"), tiny_model("vit", seed=1)
    original = copy.deepcopy(model)
    images, is_forget = TinyProblem().images("val").inputs(), torch.arange(12) < 5
    images = images[:12]

    def distance(student: torch.nn.Module, teacher: torch.nn.Module, of: torch.Tensor) -> float:
        with torch.no_grad():
            target = probabilities(teacher(images[of]), kind)
            return reference.divergence(target, student(images[of]), kind)

    method = BadTeacher(epochs=60, learning_rate=0.05, divergence=kind)
    follow_teachers(model, method, dumb, lambda: [(images, torch.empty(12, 5), is_forget)])
    assert distance(model, dumb, is_forget) < 0.5 * distance(original, dumb, is_forget)
    assert distance(model, original, ~is_forget) < 0.5 * distance(original, dumb, ~is_forget)


@pytest.mark.parametrize("network", ["vit", "convnext"])
def test_the_dumb_teacher_has_none_of_the_model_s_weights(network: Any) -> None:
    model = tiny_model(network)
    dumb = random_teacher(model, generator()).state_dict()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3).add_(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert largest_difference(random_teacher(model, generator()).state_dict(), dumb) == 0
    assert largest_difference(random_teacher(model, generator(1)).state_dict(), dumb) > 0
    assert largest_difference(model.state_dict(), before) == 0
    assert not any(torch.isclose(dumb[name], before[name]).any() for name in before)


class Mixed:
    """Batches of an epoch whenever they are gone through, drawn on from the same generator."""

    def __init__(self, request: UnlearnRequest, forget: Any, retain: Any, augmentation: Any):
        self._draw = partial(
            mixed_batches,
            forget,
            retain,
            9,
            device=torch.device("cpu"),
            generator=request.generator("bad teacher batches"),
            augmentation=augmentation,
        )

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        return self._draw()


@pytest.mark.parametrize(
    ("name", "augmentation"),
    [("bad_teacher", "crop"), ("bad_teacher", "none"), ("bad_teacher_support", "none")],
)
@pytest.mark.parametrize("kind", ["softmax", "bernoulli"])
def test_the_whole_method_is_a_plain_loop(name: str, kind: str, augmentation: str) -> None:
    request = TinyProblem().full_request()
    steps: dict[str, Any] = {
        **{"epochs": 3, "learning_rate": 0.05, "momentum": 0.6, "weight_decay": 0.01}
    }
    hyper: dict[str, Any] = {**steps, "batch_size": 9, "divergence": kind}
    if name == "bad_teacher":
        batches = Mixed(request, request.forget, request.retain, augmentation)
        hyper["augmentation"] = augmentation
    else:
        batches = Mixed(request, support_images(request.support), None, "none")
    dumb = random_teacher(request.model, request.generator("bad teacher weights"))
    theirs = reference.follow_teachers(request.model, dumb, batches, kind=kind, **steps)
    ours = build(name, hyper).unlearn(request).state_dict()
    assert largest_difference(ours, theirs.state_dict()) < 1e-4
    assert largest_difference(ours, request.model.state_dict()) > 1e-2


@pytest.mark.parametrize(("augmentation", "times"), [("none", 1), ("flip", 3)])
def test_a_teacher_is_asked_about_its_own_images_alone(
    augmentation: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = TinyProblem().full_request()
    asked: list[int] = []

    def counted(*given: Any) -> torch.nn.Module:
        dumb = random_teacher(*given)
        dumb.register_forward_hook(lambda _, inputs, __: asked.append(len(inputs[0])))
        return dumb

    monkeypatch.setattr("oneshui.methods._distillation.random_teacher", counted)
    hyper = {"epochs": 3, "batch_size": 9, "augmentation": augmentation}
    build("bad_teacher", hyper).unlearn(request)
    assert request.forget is not None
    assert sum(asked) == times * len(request.forget)


def test_the_dumb_teacher_does_not_depend_on_starting_weights() -> None:
    request = TinyProblem().full_request()
    weights = build("bad_teacher", {"epochs": 1}).unlearn(request).state_dict()
    with torch.no_grad():
        for parameter in request.fresh_model.parameters():
            parameter.zero_()
    again = build("bad_teacher", {"epochs": 1}).unlearn(request).state_dict()
    assert largest_difference(weights, again) == 0


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 2}, {"divergence": "bernoulli"}, {"augmentation": "flip"}, {"batch_size": 4}],
)
def test_every_hyperparameter_changes_the_result(changes: dict[str, Any]) -> None:
    request = TinyProblem().full_request()
    quick = {"epochs": 1, "learning_rate": 0.1}
    plain, changed = (build("bad_teacher", quick | c).unlearn(request) for c in ({}, changes))
    assert largest_difference(plain.state_dict(), changed.state_dict()) > 0


def test_the_support_set_alone_makes_the_model_like_the_dumb_teacher() -> None:
    request = TinyProblem().unlearn_request()
    method = build("bad_teacher_support", {"learning_rate": 0.05, "epochs": 60})
    images = request.support.inputs()
    dumb = random_teacher(request.model, request.generator("bad teacher weights"))
    unlearned = method.unlearn(request)
    with torch.no_grad():
        far, near, goal = (m(images) for m in (request.model, unlearned, dumb))
    target = goal.softmax(1)
    start = reference.divergence(target, far, "softmax")
    assert reference.divergence(target, near, "softmax") < 0.5 * start


@pytest.mark.parametrize("name", ["bad_teacher", "bad_teacher_support"])
def test_a_divergence_of_attributes_is_refused_for_classes(name: str) -> None:
    request = TinyProblem("vit", "multiclass").full_request()
    with pytest.raises(InputError, match=f"{name}.divergence is 'bernoulli'.*has classes"):
        build(name, {"divergence": "bernoulli"}).unlearn(request)


def test_the_support_set_alone_is_refused() -> None:
    with pytest.raises(DataAccessError, match="bad_teacher needs forget and retain set"):
        build("bad_teacher", {}).unlearn(TinyProblem().unlearn_request())


@each_divergence
def test_bad_teacher_is_the_reference_s(case: GoldenCase, tag: str) -> None:
    hyper = case.expected["bad_teacher.hyper"]
    rows = torch.cat([case.rows("forget"), case.rows("retain")])
    is_forget = torch.arange(len(rows)) < len(case.rows("forget"))

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        for part in torch.split(torch.arange(len(rows)), hyper["batch_size"]):
            yield case.inputs[rows[part]], case.labels[rows[part]], is_forget[part]

    method = BadTeacher(
        epochs=hyper["epochs"],
        learning_rate=hyper["lr"],
        momentum=hyper["momentum"],
        weight_decay=hyper["weight_decay"],
        divergence="softmax" if tag == "faithful" else "bernoulli",
    )
    model = case.model()
    follow_teachers(model, method, case.model("dumb_teacher"), batches)
    pair = case.pair(model.state_dict(), "bad_teacher", f"{tag}.after_epoch2.")
    assert largest_difference(*pair) < 3e-6
