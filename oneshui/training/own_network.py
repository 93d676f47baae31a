"""Networks that are not timm's, or take other inputs, behind the conventions that methods rely on.

Methods hand every network inputs in [-1, 1] and ask for the features that enter its last linear
layer. The network stays the user's own object with the names of its weights; beside it are two
buffers that no state dict holds, hooks, and the name of its last layer.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn

from oneshui.errors import InputError
from oneshui.plugins import attribute
from oneshui.spec import ModelSpec

_FINAL = "_oneshui_final"
_SCALE, _SHIFT = "_oneshui_scale", "_oneshui_shift"


def made_by(spec: ModelSpec, num_outputs: int) -> nn.Module:
    """The network that the factory makes, adapted.

    Args:
        spec: With a factory, which is called with the number of outputs and ``spec.options`` as
            keywords.
        num_outputs: Attributes or classes, C.

    Raises:
        InputError: There is no such factory, it fails, or what it returns is no network that ends
            in a linear layer with so many outputs.
    """
    said = f"model.factory {spec.factory}"
    factory = attribute(spec.factory)
    words = [str(num_outputs), *(f"{name}={value!r}" for name, value in spec.options.items())]
    called = f"{said} called as {spec.factory.rpartition(':')[2]}({', '.join(words)})"
    try:
        network = factory(num_outputs, **spec.options)
    except Exception as error:
        raise InputError(f"{called} failed: {_first_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{called} returned {type(network).__name__}, but it must be a torch.nn.Module"
        )
    network = normalising(network.float().cpu().eval(), spec)
    setattr(network, _FINAL, _name_of_final(network, spec.image_size, num_outputs, called))
    if not hasattr(network, "get_classifier"):
        # As timm's have it; a copy of the network answers for itself.
        network.get_classifier = MethodType(final_linear, network)  # type: ignore[assignment]
    return network


def normalising(network: nn.Module, spec: ModelSpec) -> nn.Module:
    """The network, which turns inputs in [-1, 1] into its own if the spec says what these are."""
    if spec.mean is not None and spec.std is not None:
        mean, std = (torch.tensor(it, dtype=torch.float64) for it in (spec.mean, spec.std))
        for name, value in ((_SCALE, 0.5 / std), (_SHIFT, (0.5 - mean) / std)):
            network.register_buffer(name, value.float()[:, None, None], persistent=False)
        network.register_forward_pre_hook(_to_own)
    return network


def _to_own(network: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    images, *others = arguments
    scale, shift = (getattr(network, name) for name in (_SCALE, _SHIFT))
    return (images * scale + shift, *others)


def is_adapted(network: nn.Module) -> bool:
    """Whether the network must be called as a whole: its parts do not know what it is handed."""
    return hasattr(network, _FINAL) or hasattr(network, _SCALE)


def final_linear(network: nn.Module) -> nn.Linear:
    """The last linear layer of an adapted network.

    Raises:
        InputError: It is timm's, and has none.
    """
    name = getattr(network, _FINAL, None)
    getter = getattr(network, "get_classifier", None)
    found = network.get_submodule(name) if name is not None else getter and getter()
    if not isinstance(found, nn.Linear):
        raise InputError(f"{type(network).__name__} has no linear classifier")
    return found


def entering(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [B, C] of images [B, 3, S, S], and what enters the last layer, [B, D]."""
    entered: list[torch.Tensor] = []

    def note(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        entered.append(arguments[0])

    hook = final_linear(network).register_forward_pre_hook(note)
    try:
        logits = network(images)
    finally:
        hook.remove()
    return logits, entered[-1]


@torch.no_grad()
def _name_of_final(network: nn.Module, image_size: int, num_outputs: int, called: str) -> str:
    """Name of the linear layer whose outputs are the network's.

    Raises:
        InputError: There is none, or the outputs are of another shape than [B, C].
    """
    given: dict[str, Any] = {}

    def noting(name: str) -> Any:
        def note(_: nn.Module, arguments: Any, output: torch.Tensor) -> None:
            given[name] = (arguments[0], output)

        return note

    linear = {name: it for name, it in network.named_modules() if isinstance(it, nn.Linear)}
    hooks = [layer.register_forward_hook(noting(name)) for name, layer in linear.items()]
    images = torch.zeros(2, 3, image_size, image_size)
    images[1] = 0.5
    try:
        logits = network(images)
    except Exception as error:
        raise InputError(
            f"{called} made a network that cannot take images [2, 3, {image_size}, {image_size}]: "
            f"{_first_line(error)}; sweep.model.image_size says their side"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    shape = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != [2, num_outputs]:
        raise InputError(
            f"{called} made a network that returns {shape} for 2 images, but it must return "
            f"logits [2, {num_outputs}]"
        )
    for name, (features, output) in reversed(given.items()):
        if features.dim() == 2 and output.shape == logits.shape and torch.equal(output, logits):
            return name
    raise InputError(
        f"{called} made a network whose outputs are not those of an nn.Linear that is called with "
        "features [B, D]: methods need features and classifier apart, so let it end in one, "
        "without a softmax or sigmoid after it"
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
