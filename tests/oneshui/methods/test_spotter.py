from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from reference import masked as reference
from reference.adversarial import attack, inside
from reference.passes import descend
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.data.images import augment
from oneshui.errors import InputError
from oneshui.methods import build
from oneshui.methods.spotter import mean_cosine
from oneshui.requests import UnlearnRequest
from oneshui.training.models import FeaturesAndLogits

STEPS: dict[str, Any] = {
    **{"epochs": 2, "batch_size": 2, "learning_rate": 0.05, "momentum": 0.6},
    "weight_decay": 0.01,
}
NEAR: dict[str, Any] = {"epsilon": 0.05, "attack_step": 0.02, "attack_steps": 2}


def cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one * other).sum() / ((one**2).sum() * (other**2).sum()).sqrt()


def neighbours(request: UnlearnRequest) -> torch.Tensor:
    """An image at a time, from the method's own random start."""
    inputs, labels = request.support.inputs(), request.support.labels
    noise = torch.rand(inputs.shape, generator=request.generator("spotter neighbours")) * 2 - 1
    moved = []
    for image, label, draw in zip(inputs, labels, noise, strict=True):
        if label.ndim == 0:
            order = request.model(image[None])[0].argsort(descending=True).tolist()
            label = torch.tensor(next(c for c in order if c != label))
        start = inside(image + 2 * NEAR["epsilon"] * draw, image, "linf", 2 * NEAR["epsilon"])
        kind = {"radius": 2 * NEAR["epsilon"], "step": 2 * NEAR["attack_step"]}
        moved.append(
            attack(
                request.model,
                image,
                label,
                norm="linf",
                **kind,
                steps=NEAR["attack_steps"],
                towards=False,
                start=start,
            )
        )
    return torch.stack(moved)


@pytest.mark.parametrize(
    ("problem", "pairs"),
    [
        (TinyProblem("vit"), "person"),
        (TinyProblem("batchnorm", "multiclass"), "person"),
        (TinyProblem("convnext", "multiclass"), "class"),
        (TinyProblem("vit"), "task"),
        (TinyProblem("convnext", "multiclass"), "task"),
    ],
)
def test_the_whole_method_is_a_plain_loop(problem: TinyProblem, pairs: str) -> None:
    request = problem.unlearn_request()
    of_class = pairs == "class" or (pairs == "task" and problem.task == "multiclass")
    if of_class:
        request.support.labels[:] = torch.tensor([2, 4, 2])
    inputs, labels = request.support.inputs(), request.support.labels
    near, student = neighbours(request), copy.deepcopy(request.model)
    with torch.no_grad():
        own, theirs = (reference.targets(request.model(x), labels) for x in (inputs, near))
    both, draws = FeaturesAndLogits(student), request.generator("spotter views")

    def alike(batch: list[int]) -> torch.Tensor:
        cosines = []
        if of_class:
            features = [both(inputs[i : i + 1])[1][0] for i in batch]
            for a, one in zip(batch, features, strict=True):
                for b, other in zip(batch, features, strict=True):
                    if a != b and labels[a] == labels[b]:
                        cosines.append(cosine(one, other))
        else:
            seeds = torch.randint(2**62, (3,), generator=draws).tolist()
            for i in batch:
                image, row = request.support.images[i : i + 1], torch.tensor([i]).numpy()
                views = [augment(image, row, "crop", size=32, seed=seed) for seed in seeds]
                features = [both(view)[1][0] for view in views]
                for a in range(3):
                    cosines += [cosine(features[a], features[b]) for b in range(3) if a != b]
        return torch.stack(cosines).mean() if cosines else torch.zeros(())

    def loss(batch: list[int]) -> torch.Tensor:
        total = 0.5 * alike(batch)
        for i in batch:
            for share, images, targets in ((0.6, inputs, own), (0.4, near, theirs)):
                logits = student(images[i : i + 1])[0]
                apart = reference.distance(logits, targets[i], classes=labels.ndim == 1)
                total = total + share * apart / len(batch)
        return total

    descend(student, len(inputs), loss, request.generator("spotter batches"), **STEPS)
    hyper = {**STEPS, **NEAR, "own_share": 0.6, "dispersion": 0.5, "views": 3, "pairs": pairs}
    ours = build("spotter", hyper).unlearn(request).state_dict()
    assert largest_difference(ours, student.state_dict()) < 1e-4
    assert largest_difference(ours, request.model.state_dict()) > 1e-3


def test_views_of_a_person_come_to_look_less_alike() -> None:
    request = TinyProblem("batchnorm").unlearn_request()
    images, rows = request.support.images, torch.arange(3).numpy()
    unseen = torch.cat([augment(images, rows, "crop", size=32, seed=s) for s in range(90, 94)])

    def alike(dispersion: float) -> float:
        hyper = {"learning_rate": 0.01, "epochs": 25, "dispersion": dispersion}
        unlearned = build("spotter", hyper).unlearn(request)
        with torch.no_grad():
            features = FeaturesAndLogits(unlearned)(unseen)[1]
            return mean_cosine(features, torch.arange(3).repeat(4)).item()

    assert alike(10.0) < 0.7
    assert alike(0.0) > 0.9


def test_the_mean_is_over_pairs_of_a_group() -> None:
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [-1.0, 1.0]])
    groups = torch.tensor([0, 0, 1, 0, 2])
    expected = (1 + 2 * math.sqrt(0.5)) / 3
    assert mean_cosine(features, groups).item() == pytest.approx(expected)
    assert mean_cosine(features, torch.arange(5)).item() == 0


def test_pairs_of_a_class_are_refused_for_attributes() -> None:
    with pytest.raises(InputError, match=r"spotter.pairs is 'class'.*use 'person'"):
        build("spotter", {"pairs": "class"}).unlearn(TinyProblem().unlearn_request())
