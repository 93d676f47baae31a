"""Models: timm networks, and the user's own, whose features and classifier can be told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from oneshui.accelerator import ask_precision
from oneshui.errors import InputError, unknown_name
from oneshui.seeding import derive_seed
from oneshui.spec import ModelSpec
from oneshui.training.own_network import (
    entering,
    final_linear,
    is_adapted,
    made_by,
    normalising,
)
from oneshui.training.small_resnet import resnet18_32px as resnet18_32px
from oneshui.training.weights_file import fitted_weights


def make_model(spec: ModelSpec, num_outputs: int, seed: int) -> nn.Module:
    """Build the network with its starting weights, in evaluation mode on the CPU.

    It takes inputs in [-1, 1]; where ``spec.mean`` is given it turns them into its own before
    anything else. Names of weights are those of timm or of the user's network.

    Args:
        spec: Which network, and from which weights.
        num_outputs: Attributes or classes, C.
        seed: Of everything that starts from random numbers.

    Raises:
        InputError: timm does not know the name or an option, ImageNet weights cannot be
            obtained, a weights file does not fit, the network has no linear classifier, or the
            factory cannot be used.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "model"))
        if spec.factory:
            model = made_by(spec, num_outputs)
        else:
            model = normalising(_created(spec, num_classes=num_outputs), spec)
    if spec.weights_file is not None:
        _load_backbone(model, spec.weights_file)
    if spec.channels_last:
        model.to(memory_format=torch.channels_last)
    ask_precision(model, spec.precision, _classifier_name(model))
    return model.eval()


def imagenet_model(spec: ModelSpec) -> nn.Module:
    """The network with all that timm publishes for it, the classifier of its classes included.

    Raises:
        InputError: As ``make_model``.
    """
    return _created(spec)


def imagenet_origin(name: str) -> str:
    """Which ImageNet weights timm means by a model's name: addresses, and the hash of a file.

    Raises:
        InputError: timm does not know the model, or has no weights for it.
    """
    if not timm.is_model(name):
        raise unknown_name("model", name, timm.list_models())
    known = timm.get_pretrained_cfg(name)
    origin = {field: getattr(known, field, None) for field in _ORIGIN}
    if not any(origin[field] for field in ("url", "file", "hf_hub_id")):
        raise InputError(f"timm has no ImageNet weights for {name}; set model.weights to 'random'")
    if origin["file"]:
        origin["file"] = hashlib.sha256(Path(origin["file"]).read_bytes()).hexdigest()
    return json.dumps(origin)


_ORIGIN = ("source", "url", "file", "hf_hub_id", "hf_hub_filename", "tag")
"""Of timm's ``PretrainedCfg``, what says which weights those are."""


def _created(spec: ModelSpec, **head: Any) -> nn.Module:
    if not timm.is_model(spec.name):
        raise unknown_name("model", spec.name, timm.list_models())
    options = {key: _tuples(value) for key, value in spec.options.items()}
    try:
        model: nn.Module = timm.create_model(
            spec.name,
            pretrained=spec.weights == "imagenet",
            **head,
            **_size_option(spec),
            **options,
        )
    except (AssertionError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if spec.weights == "imagenet" and isinstance(error, OSError | RuntimeError):
            raise InputError(
                f"ImageNet weights of {spec.name} cannot be obtained ({reason}); where there "
                "is no network, set model.weights to a .safetensors file with timm's keys"
            ) from error
        raise InputError(
            f"model.options or model.image_size do not fit {spec.name}: {reason}"
        ) from error
    return model


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value


def _size_option(spec: ModelSpec) -> dict[str, Any]:
    is_transformer = spec.name.startswith(("vit", "deit"))
    return {"img_size": spec.image_size} if is_transformer else {}


def _load_backbone(model: nn.Module, path: Path) -> None:
    own = model.state_dict()
    model.load_state_dict(fitted_weights(path, own, _classifier_name(model)), strict=False)


def load_whole(model: nn.Module, path: Path, what: str) -> nn.Module:
    """Read somebody's file of all weights, the classifier's included, and return the model.

    Args:
        model: From ``make_model``.
        path: A safetensors file; a prefix that all names share does not count.
        what: Which configuration key names the file.

    Raises:
        InputError: It cannot be read, is another network's, has another number of outputs, or a
            weight is not finite.
    """
    own, name = model.state_dict(), _classifier_name(model)
    found = fitted_weights(path, own, name, what)
    for key in (key for key in own if key not in found):
        raise InputError(
            f"{what} {path} has no {key} of shape {'x'.join(map(str, own[key].shape))}: the "
            f"dataset asks for {classifier_of(model).out_features} outputs"
        )
    for key, value in found.items():
        if not value.isfinite().all():
            raise InputError(f"{what} {path} cannot be used: {key} is not finite everywhere")
    model.load_state_dict(found)
    return model


def _classifier_name(model: nn.Module) -> str:
    classifier = classifier_of(model)
    return next(str(name) for name, module in model.named_modules() if module is classifier)


def classifier_of(model: nn.Module) -> nn.Linear:
    """The last linear layer, which turns features [B, D] into logits [B, C].

    Raises:
        InputError: The model has none that timm can name.
    """
    if is_adapted(model):
        return final_linear(model)
    getter = getattr(model, "get_classifier", None)
    classifier = getter() if callable(getter) else None
    if not isinstance(classifier, nn.Linear):
        raise InputError(
            f"{type(model).__name__} has no linear classifier that timm can name; methods need "
            "features and classifier apart: use another timm model"
        )
    return classifier


class FeaturesAndLogits(nn.Module):
    """A view on a model whose forward gives logits [B, C] and features [B, D] together.

    The features are what enters the classifier; for a ViT the class token after the final norm.
    Parameters are the model's own, their names begin with "model.".
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [B, C] and features [B, D] of images [B, 3, S, S]."""
        model: Any = self.model
        if is_adapted(model):
            return entering(model, images)
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        return classifier_of(model)(features), features


class Features(nn.Module):
    """A view on a model whose forward gives the features [B, D] of ``FeaturesAndLogits`` alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.view = FeaturesAndLogits(model)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [B, D] of images [B, 3, S, S]."""
        features: torch.Tensor = self.view(images)[1]
        return features


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the state dict as safetensors."""
    save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, path)


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Read weights that ``save_weights`` wrote into the model, and return it.

    Raises:
        RuntimeError: They belong to another model.
    """
    weights: Mapping[str, torch.Tensor] = load_file(path)
    model.load_state_dict(weights)
    return model
