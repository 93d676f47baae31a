from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from support.tiny import TinyProblem, tiny_model
from timm.layers.layer_scale import LayerScale
from torch import nn

from oneshui.methods import _importance, _sample_gradients
from oneshui.methods._importance import batch_importances, loss_of, sample_importances, squared_norm
from oneshui.methods._sample_gradients import LayerwiseError, is_layerwise, squared_gradient_sums

Batches = list[tuple[torch.Tensor, torch.Tensor]]
OBJECTIVES = {"multilabel": loss_of("multilabel"), "multiclass": loss_of("multiclass")}


class Mixed(nn.Module):
    """Every layer that has a rule, in unusual settings."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, stride=3, padding=(2, 1), bias=False)
        self.batch_norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.grouped = nn.Conv2d(8, 12, (3, 2), padding=1, dilation=2, groups=4)
        self.group_norm = nn.GroupNorm(3, 12)
        self.unused = nn.Linear(4, 4)
        self.pixels = nn.Linear(12, 6)
        self.scale = LayerScale(6, 0.5)
        self.layer_norm = nn.LayerNorm((2, 6))
        self.one_by_one = nn.Conv2d(1, 2, 1)
        self.frozen = nn.Linear(12, 12)
        self.half_frozen = nn.Linear(12, 5)
        self.frozen.requires_grad_(False)
        self.half_frozen.bias.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> Any:
        x = self.batch_norm(self.relu(self.first(images)))
        x = x + self.relu(x * 2 - 1)
        x = self.group_norm(self.grouped(x))
        x = self.scale(self.pixels(x.permute(0, 2, 3, 1)))
        x = self.layer_norm(x.mean(2).unfold(1, 2, 2).mT)
        x = self.one_by_one(x.unsqueeze(1).mean(2)).mean(1).flatten(1)
        self.unused(x[:, :4])
        return self.half_frozen(self.frozen(x))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(48, 5), nn.Linear(48, 5)
        self.second.weight = self.first.weight

    def forward(self, images: torch.Tensor) -> Any:
        x = images[:, :, ::8, ::8].flatten(1)
        return self.first(x) * self.second(x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Linear(48, 5), nn.Linear(5, 5)

    def forward(self, images: torch.Tensor) -> Any:
        return self.again(self.again(self.first(images[:, :, ::8, ::8].flatten(1))))


class Uncalled(Twice):
    def forward(self, images: torch.Tensor) -> Any:
        return self.first(images[:, :, ::8, ::8].flatten(1)) @ self.again.weight + self.again.bias


class PlacesFirst(Twice):
    def forward(self, images: torch.Tensor) -> Any:
        x = self.first(images[:, :, ::8, ::8].flatten(1))
        return self.again(torch.stack([x, x.sin()])).mean(0)


class Overwriting(Twice):
    def forward(self, images: torch.Tensor) -> Any:
        x = self.first(images[:, :, ::8, ::8].flatten(1))
        y = self.again(x)
        return y + x.mul_(2)


class OwnWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.gamma = nn.Linear(48, 5), nn.Parameter(torch.ones(5))

    def forward(self, images: torch.Tensor) -> Any:
        return self.first(images[:, :, ::8, ::8].flatten(1)) * self.gamma


def mixed() -> nn.Module:
    model = Mixed()
    nn.init.uniform_(model.batch_norm.running_mean)  # type: ignore[arg-type]
    nn.init.uniform_(model.batch_norm.running_var)  # type: ignore[arg-type]
    return model


def vit(**options: Any) -> nn.Module:
    size: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
    }
    return timm.create_model("vit_tiny_patch16_224", num_classes=5, **size, **options)


MODELS = {
    "vit": lambda: tiny_model("vit"),
    "vit with more": lambda: vit(init_values=0.1, reg_tokens=2, qk_norm=True),
    "pooled vit": lambda: vit(class_token=False, global_pool="avg"),
    "resnet": lambda: timm.create_model("resnet18", num_classes=5, channels=(4, 4, 8, 8)),
    "test_efficientnet": lambda: timm.create_model("test_efficientnet", num_classes=5),
    "tf_efficientnet_lite0": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=5),
    "mixed": mixed,
}
OTHERS = {
    "convnext": lambda: tiny_model("convnext"),
    "resizing vit": lambda: vit(dynamic_img_size=True),
    "tied": Tied,
    "twice": Twice,
    "uncalled": Uncalled,
    "places first": PlacesFirst,
    "own weight": OwnWeight,
}


def made(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = {**MODELS, **OTHERS}[name]()
        for parameter in model.parameters():
            # Zeros and ones would hide mistakes.
            nn.init.normal_(parameter, std=0.1).data.add_(parameter.dim() == 1)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5)
        return model.eval()


def some(task: Any, size: int = 3) -> Batches:
    data = TinyProblem("vit", task).images("val")
    inputs, labels = data.inputs()[:7], data.labels[:7]
    return list(zip(torch.split(inputs, size), torch.split(labels, size), strict=True))


def assert_those_of_single_images(model: nn.Module, objective: Any, task: Any) -> None:
    ours = sample_importances(model, some(task), objective)
    expected = plain(model, some(task, 1), objective)
    assert list(ours) == list(expected)
    for name, value in expected.items():
        tolerance = 1e-5 * value.abs().max().item() + 1e-9
        torch.testing.assert_close(ours[name], value, rtol=0, atol=tolerance)


def plain(model: nn.Module, batches: Batches, objective: Any) -> dict[str, torch.Tensor]:
    measured = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = {n: torch.zeros_like(p) for n, p in measured.items()}
    for inputs, labels in batches:
        value = objective(model(inputs), labels)
        found = torch.autograd.grad(value, list(measured.values()), allow_unused=True)
        for name, gradient in zip(measured, found, strict=True):
            total[name] += 0 if gradient is None else gradient.square() / len(batches)
    return total


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize("name", MODELS)
def test_importances_of_single_images_equal_a_backward_pass_each(name: str, task: Any) -> None:
    model = made(name)
    assert is_layerwise(model)
    inputs, labels = some(task)[0]
    squared_gradient_sums(model, inputs, labels, OBJECTIVES[task])
    assert_those_of_single_images(model, OBJECTIVES[task], task)
    assert_those_of_single_images(model, squared_norm, task)


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_measured_image_by_image_as_well(name: str) -> None:
    model = made(name)
    if is_layerwise(model):
        with pytest.raises(LayerwiseError):
            squared_gradient_sums(model, *some("multilabel")[0], OBJECTIVES["multilabel"])
    assert_those_of_single_images(model, OBJECTIVES["multilabel"], "multilabel")


def test_which_models_have_rules_for_all_their_layers() -> None:
    without = {name for name in OTHERS if not is_layerwise(made(name))}
    assert without == {"convnext", "resizing vit", "tied", "own weight"}
    assert not is_layerwise(made("mixed").train())


def test_overwritten_inputs_are_noticed() -> None:
    model = Overwriting().eval()
    with pytest.raises(LayerwiseError, match="overwritten"):
        squared_gradient_sums(model, *some("multilabel")[0], OBJECTIVES["multilabel"])


@pytest.mark.parametrize("name", ["vit", "mixed"])
def test_pieces_and_chunks_do_not_change_the_sums(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sample_gradients, "MAX_CACHED_NUMBERS", 1)
    monkeypatch.setattr(_sample_gradients, "MAX_UNFOLDED_NUMBERS", 1)
    monkeypatch.setattr(_importance, "MAX_GRADIENT_NUMBERS", 1)
    assert_those_of_single_images(made(name), OBJECTIVES["multilabel"], "multilabel")


@pytest.mark.parametrize("name", [*MODELS, "twice", "uncalled"])
@pytest.mark.parametrize("failing", [False, True])
def test_the_model_is_left_as_it_was(name: str, failing: bool) -> None:
    model = made(name)
    state = {n: v.clone() for n, v in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    own = [id(p) for p in model.parameters()]

    def fail(*_: torch.Tensor) -> torch.Tensor:
        raise ArithmeticError

    if failing:
        with pytest.raises(ArithmeticError):
            sample_importances(model, some("multilabel"), fail)
    else:
        sample_importances(model, some("multilabel"), OBJECTIVES["multilabel"])
    assert all(torch.equal(value, state[n]) for n, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [id(p) for p in model.parameters()] == own
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


def test_importances_are_measured_where_gradients_are_switched_off() -> None:
    with torch.no_grad():
        ours = sample_importances(made("vit"), some("multilabel"), OBJECTIVES["multilabel"])
    expected = batch_importances(made("vit"), some("multilabel", 1), OBJECTIVES["multilabel"])
    tolerance = 1e-5 * max(value.max().item() for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=tolerance)
