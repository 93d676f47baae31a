"""Named weights in timm's names: their tensors have the order and shapes of timm's network."""

from __future__ import annotations

import pickle

import timm
import torch

from oneshui.errors import InputError
from oneshui.named_weights import NamedWeights


def converted(weights: NamedWeights) -> dict[str, torch.Tensor]:
    """The tensors of the file by timm's names, the classifier of ImageNet's classes included.

    Each gets the name of timm's tensor at its place. No code of the file is run.

    Raises:
        InputError: The package is absent, its file another, or the installed timm's network has
            other tensors.
    """
    path = weights.path()
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"{path} cannot be read as tensors alone ({error})") from None
    own = timm.create_model(weights.model, pretrained=False).state_dict()
    described = [
        [(name.rpartition(".")[2], tuple(tensor.shape)) for name, tensor in tensors.items()]
        for tensors in (found, own)
    ]
    if described[0] != described[1]:
        raise InputError(
            f"model.weights {weights.name} do not fit {weights.model} as timm {timm.__version__} "
            f"makes it: they have {len(found)} tensors and the network {len(own)}, or in another "
            "order; install the tested timm, see pyproject.toml"
        )
    return {name: one.contiguous() for name, one in zip(own, found.values(), strict=True)}
