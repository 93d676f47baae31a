"""The authors' ResNet-18 for 32 px: its layers, where they start, and that it trains."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from oneshui.errors import InputError
from oneshui.spec import ModelSpec
from oneshui.training.models import FeaturesAndLogits, classifier_of, make_model

SPEC = ModelSpec(name="resnet18_32px", image_size=32, weights="random")
Weights = Mapping[str, torch.Tensor]


def _normed(weights: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    mean, variance, scale, shift = (
        weights[f"{name}.{part}"].view(1, -1, 1, 1)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def plain_logits(weights: Weights, images: torch.Tensor) -> torch.Tensor:
    """Layer by layer, as He et al. draw it, with strides of 1, 1, 2, 2 and 2."""
    x = F.conv2d(images, weights["conv1.weight"], padding=1)
    x = _normed(weights, "bn1", x).relu()
    for stage in range(1, 5):
        for block in range(2):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = F.conv2d(x, weights[f"{name}.conv1.weight"], stride=stride, padding=1)
            y = _normed(weights, f"{name}.bn1", y).relu()
            y = F.conv2d(y, weights[f"{name}.conv2.weight"], padding=1)
            y = _normed(weights, f"{name}.bn2", y)
            if stride == 2:
                x = F.conv2d(x, weights[f"{name}.downsample.0.weight"], stride=2)
                x = _normed(weights, f"{name}.downsample.1", x)
            x = (x + y).relu()
    assert x.shape[1:] == (512, 4, 4)
    return x.mean((2, 3)) @ weights["fc.weight"].T + weights["fc.bias"]


def test_it_is_the_plain_network_and_as_large_as_published() -> None:
    model = make_model(SPEC, 10, 0)
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_173_962
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model.train()
    model(images * 0.7)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            model(images), plain_logits(model.state_dict(), images), rtol=1e-4, atol=1e-5
        )
        assert FeaturesAndLogits(model)(images)[1].shape == (2, 512)
    assert classifier_of(model).out_features == 10


def test_layers_start_as_pytorch_s_do_and_from_the_seed() -> None:
    model, other = make_model(SPEC, 10, 0), make_model(SPEC, 10, 1)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # Uniform between the ends that the number of inputs says.
            end = module.weight[0].numel() ** -0.5
            assert module.weight.abs().max() <= end, name
            assert module.weight.std().item() == pytest.approx(end / 3**0.5, rel=0.1), name
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight)), name
    assert not torch.equal(model.state_dict()["conv1.weight"], other.state_dict()["conv1.weight"])


def test_it_has_no_published_weights() -> None:
    with pytest.raises(InputError, match="nobody published any"):
        make_model(ModelSpec(name="resnet18_32px", image_size=32, weights="imagenet"), 10, 0)
