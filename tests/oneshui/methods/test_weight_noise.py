from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.tiny import TinyProblem

from oneshui.methods import build


def changes(network: Any, **hyperparameters: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(weight, noise) of every tensor, in float64."""
    request = TinyProblem(network).unlearn_request()
    after = build("weight_noise", hyperparameters).unlearn(request).state_dict()
    before = request.model.state_dict()
    return [(before[n].double(), after[n].double() - before[n].double()) for n in before]


def norm(tensors: list[torch.Tensor]) -> float:
    return math.sqrt(sum(float((tensor**2).sum()) for tensor in tensors))


@pytest.mark.parametrize("network", ["vit", "convnext"])
def test_the_noise_of_a_tensor_is_as_long_as_asked_for(network: Any) -> None:
    for weight, noise in changes(network, scale=0.3):
        assert norm([noise]) == pytest.approx(0.3 * norm([weight]), rel=1e-4, abs=1e-12)


def test_the_noise_of_the_model_is_as_long_as_asked_for_and_the_same_everywhere() -> None:
    pairs = changes("vit", scale=0.3, relative_to="model")
    weights, noises = zip(*pairs, strict=True)
    assert norm(list(noises)) == pytest.approx(0.3 * norm(list(weights)), rel=1e-4)
    flat = torch.cat([noise.flatten() for noise in noises])
    for noise in noises:
        if noise.numel() > 500:
            assert noise.std().item() == pytest.approx(flat.std().item(), rel=0.15)


def test_no_noise_is_no_change() -> None:
    assert all(not noise.any() for _, noise in changes("vit", scale=0.0))
