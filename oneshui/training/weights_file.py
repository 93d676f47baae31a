"""A file of weights from elsewhere, fitted to a network, or the reason why it does not fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from oneshui.errors import InputError

_MAGIC = {
    b"PK\x03\x04": "is a pickle",
    b"\x80": "is a pickle",
    b"version https://git-lfs": "is a pointer of Git LFS: fetch it by 'git lfs pull'",
}
_PICKLE_REMEDY = (
    ", whose reading can run anything: write its tensors by safetensors.torch.save_file, where you "
    "trust who made it"
)
_BY_INPUT_SIZE = re.compile(r"(^|\.)(pos_embed|rel_pos|relative_position|attn_mask)")


def fitted_weights(
    path: Path,
    own: Mapping[str, torch.Tensor],
    classifier: str,
    what: str = "model.weights",
) -> dict[str, torch.Tensor]:
    """The file's tensors by the network's names; without its classifier if that is of another size.

    Names in the file may all have a prefix, as ``module.`` or ``model.backbone.``; what does not
    have it, while the whole network does, belongs to something else and is left out.

    Args:
        path: A safetensors file.
        own: The network's tensors by name.
        classifier: Name of the network's classifier.
        what: Which configuration key names the file, for messages.

    Raises:
        InputError: The file cannot be read, or is another network's; with the reason.
    """
    found = read_tensors(path, what)
    prefix = _prefix(found, own)
    named = {name[len(prefix) :]: t for name, t in found.items() if name.startswith(prefix)}
    body = {name for name in (*own, *named) if not name.startswith(f"{classifier}.")}
    reason = _misfit(
        {name: tuple(t.shape) for name, t in named.items() if name in body},
        {name: tuple(t.shape) for name, t in own.items() if name in body},
    )
    if reason:
        raise InputError(f"{what} {path} does not fit the model: {reason}")
    return {name: t for name, t in named.items() if name in own and t.shape == own[name].shape}


def read_tensors(path: Path, what: str = "model.weights") -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, by name.

    Args:
        path: The file.
        what: How the user calls it, for messages.

    Raises:
        InputError: It cannot be read; with the reason.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
        return load_file(path)
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        for magic, kind in _MAGIC.items():
            if start.startswith(magic):
                remedy = _PICKLE_REMEDY if "pickle" in kind else ""
                raise InputError(f"{what} {path} {kind}{remedy}") from None
        raise InputError(
            f"{what} {path} cannot be read: it is no safetensors file, or damaged ({error})"
        ) from None


def misfit(found: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    """Why tensors are not all those of a network, to the last one; empty if they are.

    Args:
        found: Of a file, by name.
        own: The network's.
    """
    return _misfit(
        {name: tuple(t.shape) for name, t in found.items()},
        {name: tuple(t.shape) for name, t in own.items()},
    )


def _prefix(found: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    """What stands before most of the network's names in the file; the shortest of several."""
    last_parts: dict[str, list[str]] = {}
    for name in found:
        last_parts.setdefault(name.rpartition(".")[2], []).append(name)
    votes = Counter(
        name.removesuffix(wanted)
        for wanted in own
        for name in last_parts.get(wanted.rpartition(".")[2], ())
        if name == wanted or name.endswith(f".{wanted}")
    )
    return min(votes, key=lambda prefix: (-votes[prefix], len(prefix)), default="")


def _misfit(there: Mapping[str, tuple[int, ...]], here: Mapping[str, tuple[int, ...]]) -> str:
    """Why tensors of these shapes are not the network's; empty if they are."""
    missing = [name for name in here if name not in there]
    unknown = [name for name in there if name not in here]
    others = [name for name in here if name in there and there[name] != here[name]]
    if missing and len(missing) == len(here):
        example = f", only {unknown[0]} and the like" if unknown else ""
        return f"it has none of the network's tensors, such as {missing[0]}{example}"
    if missing or unknown:
        name = (missing or unknown)[0]
        lacks = f"{name} is {'absent in it' if missing else 'in it and not in the network'}"
        both = {_layer(one) for one in here} & {_layer(one) for one in there}
        is_depth = all(_layer(one) in both for one in (*missing, *unknown))
        return f"it is of a network of another {'depth' if is_depth else 'kind'}: {lacks}"
    if not others:
        return ""
    name = others[0]
    sizes = f"{name} is {_times(there[name])} in it and {_times(here[name])} in the network"
    if all(_BY_INPUT_SIZE.search(one) for one in others):
        return f"it is for another input size than model.image_size: {sizes}"
    return f"it is of a network of another width: {sizes}"


def _layer(name: str) -> str:
    """The name without the numbers of its layers."""
    return re.sub(r"(^|\.)\d+(?=\.)", r"\1#", name)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
