"""The weights of a model in use: what they are known by, and which requests led to them.

A file that was written after a request carries, as metadata of safetensors, what the model is and
the chain of its requests. Each link names the hash of the tensors before and after, so that a file
of other tensors with a borrowed history is found out.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from oneshui.data.cache import Variant
from oneshui.errors import InputError
from oneshui.plugins import source_behind
from oneshui.spec import ModelSpec, Task
from oneshui.training.models import classifier_of, make_model
from oneshui.training.weights_file import misfit, read_tensors

FORMAT = 1
_FIELD = "oneshui"


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a model is, beside its weights.

    Attributes:
        model: The network, with random weights.
        task: "multilabel" or "multiclass".
        outputs: Names of its outputs, in their order.
        variant: How pictures are resized for it, as ``oneshui.data.cache.decode`` does.
        source: Hash over the code of a network of the user's own; empty for timm's.
    """

    model: ModelSpec
    task: Task
    outputs: tuple[str, ...]
    variant: Variant = "corrected"
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "model": self.model.to_json(),
            "task": self.task,
            "outputs": list(self.outputs),
            "preprocessing": self.variant,
            "source": self.source,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Described:
        """What ``to_json`` wrote."""
        return cls(
            model=ModelSpec(**document["model"]),
            task=document["task"],
            outputs=tuple(document["outputs"]),
            variant=document["preprocessing"],
            source=document["source"],
        )

    def same_as(self, other: Described) -> bool:
        """Whether both are one model, but for the code of its network."""
        own, theirs = (json.dumps({**it.to_json(), "source": ""}) for it in (self, other))
        return own == theirs

    def network(self) -> nn.Module:
        """The network with random weights, as large as the model.

        Raises:
            InputError: It cannot be made; or the user's code of it is another than it was.
        """
        made = make_model(self.model, len(self.outputs), 0)
        if self.source != code_of(self.model):
            raise InputError(
                f"the code of the network {self.model.factory} is not that with which the kit or "
                "the weights were written: put that code back"
            )
        return made


def code_of(model: ModelSpec) -> str:
    """Hash over the code of a network of the user's own; empty for timm's.

    Raises:
        InputError: The code cannot be found.
    """
    return source_behind(model.factory) if model.factory else ""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One request that a model went through.

    Attributes:
        number: From 1 on.
        date: When, in UTC.
        method: Name of the method.
        hyperparameters: All of them.
        people: How many asked.
        before: Hash of the tensors before.
        after: The same after.
    """

    number: int
    date: str
    method: str
    hyperparameters: Mapping[str, Any]
    people: int
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A file of weights.

    Attributes:
        path: Where it is.
        sha256: Of the file's bytes.
        tensors: Hash over names, types, shapes and bytes of its tensors: the same whatever the
            file says beside them.
        description: What the file says of the model; None if it says nothing.
        steps: The requests that led to it, the first one first.
    """

    path: Path
    sha256: str
    tensors: str
    description: Described | None
    steps: tuple[Step, ...]

    @property
    def first(self) -> str:
        """Hash of the tensors before the first request."""
        return self.steps[0].before if self.steps else self.tensors


def hash_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of tensors, in the order of their names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_weights(path: Path) -> Weights:
    """Look at a file of weights.

    Raises:
        InputError: It cannot be read, or what it says of its requests does not lead to its tensors.
    """
    tensors = hash_of(read_tensors(path, "weights"))
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(_FIELD)
    description, steps = None, tuple[Step, ...]()
    if text is not None:
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise InputError(
                    f"weights {path} were written by another version of oneshui (format "
                    f"{document['format']}, not {FORMAT}): use the version that wrote them"
                )
            description = Described.from_json(document)
            steps = tuple(Step(**step) for step in document["requests"])
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"weights {path} are damaged: what they say of their requests cannot be read"
            ) from None
        if not _is_chain(steps, tensors):
            raise InputError(
                f"weights {path} have changed since their last request was written down: their "
                "tensors are others; take the file that erase wrote"
            )
    return Weights(
        path=path, sha256=file_hash(path), tensors=tensors, description=description, steps=steps
    )


def _is_chain(steps: Sequence[Step], tensors: str) -> bool:
    links = all(one.after == next_.before for one, next_ in itertools.pairwise(steps))
    return links and (not steps or steps[-1].after == tensors)


def count_outputs(weights: Weights, network: ModelSpec) -> int:
    """How many outputs a model has, by the shape of its classifier in a file.

    Raises:
        InputError: The file has no such classifier.
    """
    model = make_model(network, 1, 0)
    classifier = classifier_of(model)
    name = next(name for name, module in model.named_modules() if module is classifier)
    with safe_open(weights.path, "pt") as file:
        if f"{name}.weight" not in file.keys():  # noqa: SIM118
            reason = misfit(read_tensors(weights.path, "weights"), model.state_dict())
            raise InputError(f"weights {weights.path} do not fit the model: {reason}")
        return int(file.get_slice(f"{name}.weight").get_shape()[0])


def require_fit(weights: Weights, model: nn.Module) -> None:
    """Refuse weights that are not the network's, to the last tensor.

    Raises:
        InputError: With the reason.
    """
    tensors = read_tensors(weights.path, "weights")
    reason = misfit(tensors, model.state_dict())
    if reason:
        raise InputError(f"weights {weights.path} do not fit the model: {reason}")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise InputError(
                f"weights {weights.path} cannot be used: {name} is not finite everywhere"
            )


def write_weights(
    tensors: Mapping[str, torch.Tensor], path: Path, described: Described, steps: Sequence[Step]
) -> None:
    """Write weights with what they are and what led to them; plain torch reads them as well."""
    document = {
        "format": FORMAT,
        **described.to_json(),
        "requests": [asdict(step) for step in steps],
    }
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, path, metadata={"format": "pt", _FIELD: json.dumps(document)})
