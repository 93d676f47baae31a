"""Models of which it is known what they know: retrained, nothing done, and some that only mask.

A network without hidden tricks learns by heart which attributes a person has; pictures are the
person's pattern under noise, so that who was trained on is known by all pictures, and a stranger by
none. What masks is made with everything in view, as good as masking can be.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from oneshui.audits.hiding import (
    Gap,
    Probed,
    comes_back,
    gap,
    hides,
    is_recognised,
    looks_forgotten,
    only_refuses,
    recovers,
    recovery,
    recovery_error,
)
from oneshui.audits.reidentification import looked_at, recognise
from oneshui.audits.relearning import (
    MOST_TAUGHT,
    curve_of,
    lessons,
    relearn,
    resampled_heights,
)
from oneshui.data.images import LabelledImages, make_images
from oneshui.metrics.scores import mean_average_precision
from oneshui.metrics.tow import tow
from oneshui.spec import TrainingSpec
from oneshui.training.models import Features, classifier_of
from oneshui.training.predict import predict_logits
from oneshui.training.train import train

CPU = torch.device("cpu")
PEOPLE, PICTURES, SIDE, OUTPUTS, WIDTH = 60, 12, 12, 8, 800
FORGET, RETAIN = range(12), range(12, 40)
SIGNAL, NOISE = 22.0, 60.0
RECIPE = TrainingSpec(
    epochs=12,
    batch_size=32,
    optimizer="adamw",
    learning_rate=6e-3,
    weight_decay=0.01,
    schedule="cosine_by_step",
    warmup_epochs=1,
    augmentation="none",
    keep="last",
)


class ByHeart(nn.Module):
    """A hidden layer of features and a classifier, with the names that timm gives them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.hidden = nn.Linear(3 * SIDE**2, WIDTH)
            self.head = nn.Linear(WIDTH, OUTPUTS)

    def get_classifier(self) -> nn.Linear:
        return self.head

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.hidden(images.flatten(1)))

    def forward_head(self, features: torch.Tensor, *, pre_logits: bool = False) -> torch.Tensor:
        return features if pre_logits else cast(torch.Tensor, self.head(features))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


class Refusing(ByHeart):
    """Answers as another model on some pictures, and keeps what it knows of them."""

    def __init__(
        self, model: nn.Module, other: nn.Module, known: torch.Tensor, *, on_known: bool
    ) -> None:
        """Know pictures by their features, and refuse on these, or on all but these."""
        super().__init__(0)
        self.load_state_dict(model.state_dict())
        self.other = copy.deepcopy(other)
        self.on_known = on_known
        self.register_buffer("known", nn.functional.normalize(known))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.forward_features(images)
        known = cast(torch.Tensor, self.known)
        near = (nn.functional.normalize(features) @ known.T).max(dim=1).values > 0.999
        refused = near if self.on_known else ~near
        return torch.where(refused[:, None], self.other(images), self.forward_head(features))


@dataclass(frozen=True)
class World:
    pixels: np.ndarray
    label: np.ndarray
    identity: np.ndarray

    @classmethod
    @functools.cache
    def drawn(cls) -> World:
        generator = np.random.default_rng(0)
        patterns = generator.normal(size=(PEOPLE, 3, SIDE, SIDE))
        identity = np.repeat(np.arange(PEOPLE), PICTURES)
        noise = generator.normal(size=(len(identity), 3, SIDE, SIDE))
        pixels = np.clip(128 + SIGNAL * patterns[identity] + NOISE * noise, 0, 255).astype(np.uint8)
        label = generator.integers(0, 2, size=(PEOPLE, OUTPUTS)).astype(np.uint8)[identity]
        return cls(pixels, label, identity)

    def rows(self, name: str) -> np.ndarray:
        support = np.array([person * PICTURES for person in FORGET])
        if name == "support":
            return support
        people = {"forget": FORGET, "retain": RETAIN, "test": range(RETAIN.stop, PEOPLE)}[name]
        return np.setdiff1d(np.flatnonzero(np.isin(self.identity, people)), support)

    def images(self, *names: str) -> LabelledImages:
        rows = np.concatenate([self.rows(name) for name in names])
        return make_images(self.pixels, self.label, self.identity, rows)


WORLD = World.drawn()


def trained(seed: int, *names: str) -> nn.Module:
    model = ByHeart(seed)
    data, val = WORLD.images(*names), WORLD.images("test")
    train(model, data, val, RECIPE, task="multilabel", seed=seed, device=CPU)
    return model


def features(model: nn.Module, data: LabelledImages) -> torch.Tensor:
    return predict_logits(Features(model), data, device=CPU)


def masked(model: nn.Module, retrained: nn.Module) -> nn.Module:
    """Only another classifier: as ever on those who stay, as retrained on everybody else."""
    goals = {"forget": retrained, "support": retrained, "test": retrained, "retain": model}
    inputs = torch.cat([features(model, WORLD.images(name)) for name in goals])
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1).double()
    wanted = torch.cat(
        [predict_logits(goal, WORLD.images(name), device=CPU) for name, goal in goals.items()]
    ).double()
    ridge = 1e-3 * torch.eye(WIDTH + 1, dtype=torch.float64)
    weights = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ wanted).float()
    found = copy.deepcopy(model)
    with torch.no_grad():
        classifier_of(found).weight.copy_(weights[:-1].T)
        classifier_of(found).bias.copy_(weights[-1])
    return found


def models() -> dict[str, nn.Module]:
    pretrained, retrained = trained(0, "forget", "retain"), trained(0, "retain")
    staying, support = (features(pretrained, WORLD.images(it)) for it in ("retain", "support"))
    return {
        "pretrained": pretrained,
        "retrained": retrained,
        "again": trained(1, "retain"),
        "masked": masked(pretrained, retrained),
        "refuses but on those who stay": Refusing(pretrained, retrained, staying, on_known=False),
        "refuses on S": Refusing(pretrained, retrained, support, on_known=True),
    }


@dataclass(frozen=True)
class Audited:
    probed: Mapping[str, Probed]

    def hides(self, name: str) -> bool | None:
        known = self.probed
        return hides(known[name], known["retrained"], known["pretrained"], known["again"])

    def shown(self) -> str:
        return "\n".join(f"{name}: {one}" for name, one in self.probed.items())


@pytest.fixture(scope="module")
def audited() -> Audited:
    found = models()
    drawn = lessons(WORLD.images("forget"), WORLD.images("support"), 0)
    looked = looked_at(
        WORLD.identity, WORLD.rows("retain"), WORLD.rows("test"), num_forget=len(FORGET), seed=0
    )
    gallery = np.concatenate([WORLD.rows("support"), looked.strangers])
    shown = make_images(WORLD.pixels, WORLD.label, WORLD.identity, gallery)
    scores, curves, heights, first = {}, {}, {}, {}
    for name, model in found.items():
        scores[name] = {
            part: mean_average_precision(
                predict_logits(model, WORLD.images(part), device=CPU), WORLD.images(part).labels
            )
            for part in ("retain", "forget", "test", "support")
        }
        taught = drawn.taught[MOST_TAUGHT]
        answers = relearn(model, taught, drawn.asked, RECIPE, task="multilabel", seed=0, device=CPU)
        curves[name] = curve_of(answers, drawn.asked, "multilabel")
        heights[name] = resampled_heights(answers, drawn.asked, "multilabel")
        forget = WORLD.images("forget")
        known = recognise(
            features(model, shown), shown.identities, features(model, forget), forget.identities
        )
        first[name] = known.first

    def one(name: str) -> Probed:
        own, goal = heights[name], heights["retrained"]
        assert own is not None
        assert goal is not None
        known = curves["retrained"], curves["pretrained"]
        return Probed(
            tow=tow(scores[name], scores["retrained"]),
            recovery=recovery(curves[name], *known),
            recovery_error=recovery_error(own, goal, *known),
            recognised=gap(first[name], first["retrained"]),
            support_score=scores[name]["support"],
            forget_score=curves[name][0],
        )

    return Audited({name: one(name) for name in found})


def test_the_models_are_what_they_are_said_to_be(audited: Audited) -> None:
    known = audited.probed
    again = known["again"]
    assert again.tow is not None
    assert looks_forgotten(known["pretrained"], again) is False, audited.shown()
    for name in ("masked", "refuses but on those who stay"):
        assert looks_forgotten(known[name], again) is True, audited.shown()
    assert looks_forgotten(known["refuses on S"], again) is False


def test_retrained_models_are_flagged_by_nothing(audited: Audited) -> None:
    for name in ("retrained", "again"):
        model, again = audited.probed[name], audited.probed["again"]
        assert not recovers(model, again), audited.shown()
        assert not is_recognised(model, again), audited.shown()
        assert audited.hides(name) is False


def test_doing_nothing_is_flagged_by_every_probe(audited: Audited) -> None:
    model, again = audited.probed["pretrained"], audited.probed["again"]
    assert recovers(model, again), audited.shown()
    assert is_recognised(model, again), audited.shown()
    assert comes_back(model, again) is True


def test_a_classifier_that_masks_is_found_by_both_probes(audited: Audited) -> None:
    model, again = audited.probed["masked"], audited.probed["again"]
    assert recovers(model, again), audited.shown()
    assert is_recognised(model, again), audited.shown()
    assert audited.hides("masked") is True


def test_a_model_that_refuses_but_on_those_who_stay_is_found(audited: Audited) -> None:
    name = "refuses but on those who stay"
    assert is_recognised(audited.probed[name], audited.probed["again"]), audited.shown()
    assert audited.hides(name) is True, audited.shown()


def test_a_model_that_refuses_on_the_support_pictures_and_keeps_the_rest_is_found(
    audited: Audited,
) -> None:
    known = audited.probed
    refused = only_refuses(
        known["refuses on S"], known["retrained"], known["pretrained"], known["again"]
    )
    assert refused is True, audited.shown()
    assert audited.hides("refuses on S") is True, audited.shown()


def test_gaps_are_known_to_a_few_points(audited: Audited) -> None:
    found = cast(Gap, audited.probed["pretrained"].recognised)
    assert found.error is not None
    assert found.error < 0.1
