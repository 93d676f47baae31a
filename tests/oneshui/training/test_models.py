"""Where a model's weights come from, and what lies before its classifier."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from support.golden import largest_difference
from support.tiny import NUM_OUTPUTS, SPECS, TinyProblem, tiny_model
from torch import nn

from oneshui.errors import InputError
from oneshui.spec import ModelSpec
from oneshui.training.models import (
    FeaturesAndLogits,
    classifier_of,
    load_weights,
    make_model,
    save_weights,
)

each_network = pytest.mark.parametrize("network", ["vit", "convnext"])


@each_network
def test_the_seed_decides_on_all_weights_and_nothing_else_does(network: Any) -> None:
    torch.manual_seed(1)
    first, state = tiny_model(network, seed=3), torch.get_rng_state()
    torch.manual_seed(2)
    again, other = tiny_model(network, seed=3), tiny_model(network, seed=4)
    assert largest_difference(first.state_dict(), again.state_dict()) == 0
    assert largest_difference(first.state_dict(), other.state_dict()) > 0
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in first.modules())


@each_network
def test_features_are_what_enters_the_classifier(network: Any) -> None:
    model, images = tiny_model(network), TinyProblem(network).images("support").inputs()
    entered: list[torch.Tensor] = []
    hook = classifier_of(model).register_forward_pre_hook(lambda _, a: entered.append(a[0]))
    with torch.no_grad():
        expected = model(images)
        hook.remove()
        logits, features = FeaturesAndLogits(model)(images)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(features, entered[0], rtol=0, atol=1e-6)
    assert all(name.startswith("model.") for name, _ in FeaturesAndLogits(model).named_parameters())


def test_weights_of_a_file_are_taken_but_for_a_classifier_of_another_size(tmp_path: Path) -> None:
    trained, path = make_model(SPECS["vit"], 9, 5), tmp_path / "w.safetensors"
    save_weights(trained, path)
    model = make_model(dataclasses.replace(SPECS["vit"], weights=str(path)), NUM_OUTPUTS, 0)
    fresh = tiny_model("vit", seed=0)
    for name, value in model.state_dict().items():
        expected = fresh if name.startswith("head.") else trained
        assert torch.equal(value, expected.state_dict()[name]), name
    again = load_weights(make_model(SPECS["vit"], 9, 1), path)
    assert largest_difference(again.state_dict(), trained.state_dict()) == 0


def test_a_model_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(InputError, match="vit_tiny_patch16_224"):
        make_model(ModelSpec(name="vit_tiny_patch16_22", weights="random"), 5, 0)
    with pytest.raises(InputError, match=r"model\.options .* do not fit"):
        make_model(dataclasses.replace(SPECS["vit"], options={"no_option": 1}), 5, 0)
    three = {**SPECS["vit"].options, "num_heads": 3}
    with pytest.raises(InputError, match=r"model\.image_size do not fit .*divisible"):
        make_model(dataclasses.replace(SPECS["vit"], options=three), 5, 0)


def test_a_model_without_a_linear_classifier_is_refused() -> None:
    class Other(nn.Module):
        def get_classifier(self) -> nn.Module:
            return nn.Conv2d(3, 3, 1)

    for model in (nn.Linear(3, 3), Other()):
        with pytest.raises(InputError, match="no linear classifier"):
            classifier_of(model)


def test_a_transformer_is_made_for_the_size_that_is_asked_for() -> None:
    spec = dataclasses.replace(SPECS["vit"], image_size=48)
    assert make_model(spec, NUM_OUTPUTS, 0)(torch.zeros(1, 3, 48, 48)).shape == (1, NUM_OUTPUTS)
