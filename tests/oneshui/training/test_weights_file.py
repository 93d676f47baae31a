"""Weights from elsewhere are taken, or refused with the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.golden import largest_difference
from support.tiny import NUM_OUTPUTS, SPECS, Network, tiny_model
from torch import nn

from oneshui.errors import InputError
from oneshui.training.models import make_model

Weights = dict[str, torch.Tensor]


def weights_of(network: Network, **options: Any) -> Weights:
    """Of the tiny network, or of one with other options or another size."""
    spec = SPECS[network]
    size = options.pop("image_size", spec.image_size)
    other = dataclasses.replace(spec, image_size=size, options={**spec.options, **options})
    return dict(make_model(other, NUM_OUTPUTS, 7).state_dict())


def loaded(path: Path, network: Network = "vit") -> nn.Module:
    return make_model(dataclasses.replace(SPECS[network], weights=str(path)), NUM_OUTPUTS, 0)


def written(weights: Weights, folder: Path) -> Path:
    path = folder / "w.safetensors"
    save_file(weights, path)
    return path


def refuse(path: Path, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        loaded(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("network", ["vit", "convnext"])
@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "backbone.", "_orig_mod.", "module.model.", "state.0.net."]
)
def test_a_common_prefix_is_taken_off(prefix: str, network: Network, tmp_path: Path) -> None:
    weights = weights_of(network)
    named = {f"{prefix}{name}": value for name, value in weights.items()}
    model = loaded(written(named, tmp_path), network)
    assert largest_difference(model.state_dict(), weights) == 0


def test_what_stands_beside_a_whole_network_is_left_out(tmp_path: Path) -> None:
    weights = {n: v for n, v in weights_of("vit").items() if not n.startswith("head.")}
    named = {f"backbone.{name}": value for name, value in weights.items()}
    path = written({**named, "classifier.weight": torch.ones(3), "step": torch.ones(1)}, tmp_path)
    model = loaded(path)
    fresh = tiny_model("vit").state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights.get(name, fresh[name])), name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"image_size": 64},
            "another input size than model.image_size: pos_embed is 1x65x16 in it and 1x17x16 in",
        ),
        ({"depth": 3}, "another depth: blocks.2.attn.proj.bias is in it and not in the network"),
        ({"depth": 1}, "another depth: blocks.1.norm1.weight is absent in it"),
        ({"embed_dim": 32}, "another width: cls_token is 1x1x32 in it and 1x1x16 in the network"),
        ({"qkv_bias": False}, "another kind: blocks.0.attn.qkv.bias is absent in it"),
    ],
    ids=str,
)
def test_weights_of_another_network_are_refused_with_the_reason(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    refuse(written(weights_of("vit", **options), tmp_path), f"w.safetensors does not fit.*{says}")


def test_weights_of_another_family_are_refused(tmp_path: Path) -> None:
    refuse(written(weights_of("convnext"), tmp_path), "another kind: cls_token is absent in it")
    refuse(written({}, tmp_path), "none of the network's tensors, such as cls_token$")


def pickle(path: Path) -> None:
    torch.save(weights_of("vit"), path)


def old_pickle(path: Path) -> None:
    torch.save(weights_of("vit"), path, _use_new_zipfile_serialization=False)


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 9\n")


def cut(path: Path) -> None:
    save_file(weights_of("vit"), path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda _: None, "w.safetensors cannot be read: No such file or directory"),
        (Path.mkdir, "cannot be read: Is a directory"),
        (Path.touch, "cannot be read: it is no safetensors file, or damaged"),
        (cut, "cannot be read: it is no safetensors file, or damaged"),
        (pickle, "is a pickle, .* safetensors.torch.save_file"),
        (old_pickle, "is a pickle, .* safetensors.torch.save_file"),
        (pointer, "is a pointer of Git LFS: fetch it by 'git lfs pull'"),
    ],
    ids=["absent", "folder", "empty", "cut", "pickle", "old pickle", "pointer"],
)
def test_a_file_that_holds_no_weights_is_refused_with_the_reason(
    write: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    write(path)
    refuse(path, says)
