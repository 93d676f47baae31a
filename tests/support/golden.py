"""Finds the golden data: what the authors' reference computed, to which tests compare.

The full set is read from the folder that the environment variable ONESHUI_GOLDEN names, or from
``../shared/golden`` beside the project. Where there is neither, tests compare with the reduced set
``tests/golden/``, and those whose numbers are not in it are skipped. Its README describes both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NoReturn

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from oneshui.data.images import normalise
from oneshui.spec import Task

REDUCED = Path(__file__).parents[1] / "golden"


def golden_folder() -> Path:
    """The folder of the golden data; skips the test if there is none where one is named."""
    named = os.environ.get("ONESHUI_GOLDEN")
    beside = Path(__file__).parents[3] / "shared" / "golden"
    folder = Path(named) if named else beside if beside.is_dir() else REDUCED
    if not (folder / "README.md").is_file():
        pytest.skip(f"no golden data in {folder}: name their folder in ONESHUI_GOLDEN")
    return folder


@cache
def manifest(folder: Path) -> dict[str, list[str] | None] | None:
    """The files of a reduced set, with the names of the tensors of those that were cut.

    None for a file is a whole one; None for a manifest, the full set.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    files: dict[str, list[str] | None] = json.loads(path.read_text())
    return files


def skip_left_out(what: str) -> NoReturn:
    pytest.skip(f"{what}: not in tests/golden; name the full set in ONESHUI_GOLDEN")


def golden_file(name: str) -> Path:
    """A file of the golden data; skips the test if the reduced set leaves it out."""
    folder = golden_folder()
    kept = manifest(folder)
    if kept is not None and name not in kept:
        skip_left_out(name)
    return folder / name


def load_json(name: str) -> Any:
    return json.loads(golden_file(f"{name}.json").read_text())


def names_kept(name: str) -> list[str] | None:
    """The names of the tensors that a file was cut to, sorted; None for a whole file."""
    return (manifest(golden_folder()) or {}).get(f"{name}.safetensors")


def load_tensors(name: str, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a file whose names begin with ``prefix``, without it: at least one.

    Skips the test if there is none because the reduced set leaves them out.
    """
    tensors = load_file(golden_file(f"{name}.safetensors"))
    kept = names_kept(name)
    assert kept is None or sorted(tensors) == kept
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    if not found and kept is not None:
        skip_left_out(f"{prefix}* of {name}")
    assert found, f"{name} has no tensor {prefix}*"
    return found


@dataclass(frozen=True)
class GoldenCase:
    """One of the two case folders; a case is called like its task."""

    task: Task

    def json(self, name: str) -> Any:
        return load_json(f"{self.task}/{name}")

    def tensors(self, name: str, prefix: str = "") -> dict[str, torch.Tensor]:
        """The tensors of a file whose names begin with ``prefix``, without it."""
        return load_tensors(f"{self.task}/{name}", prefix)

    def pair(
        self, ours: Mapping[str, torch.Tensor], name: str, prefix: str
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Ours and theirs, of the same names: all, or those that a cut file has kept."""
        theirs = self.tensors(name, prefix)
        assert theirs.keys() == ours.keys() or self.is_cut(name)
        return {key: ours[key] for key in theirs}, theirs

    def is_cut(self, name: str) -> bool:
        """Whether this is a reduced file, which lacks tensors on purpose."""
        return names_kept(f"{self.task}/{name}") is not None

    @cached_property
    def expected(self) -> Any:
        return self.json("expected")

    @cached_property
    def data(self) -> dict[str, torch.Tensor]:
        return self.tensors("data")

    @cached_property
    def images(self) -> torch.Tensor:
        """All images, uint8 [N, 3, S, S]."""
        if "images" not in self.data:
            skip_left_out(f"images of {self.task}/data")
        return self.data["images"]

    @cached_property
    def inputs(self) -> torch.Tensor:
        """All images, normalised, [N, 3, S, S]."""
        return normalise(self.images)

    @cached_property
    def labels(self) -> torch.Tensor:
        """All labels, float32 [N, C] or int64 [N]."""
        targets = self.data["targets"]
        return targets.float() if self.task == "multilabel" else targets.long()

    @cached_property
    def identities(self) -> torch.Tensor:
        return self.data["identities"]

    def rows(self, name: str) -> torch.Tensor:
        """Images of a set in loader order, int64 [n]."""
        return torch.tensor(self.json("subsets")[name])

    def batches(self, name: str, size: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs, labels) of a set in loader order."""
        return [
            (self.inputs[rows], self.labels[rows]) for rows in torch.split(self.rows(name), size)
        ]

    def model(self, weights: str = "model_before") -> nn.Module:
        """The case's network with these weights, in evaluation mode."""
        spec = self.json("case")["model"]
        model: nn.Module = timm.create_model(spec["timm"], pretrained=False, **spec["kwargs"])
        model.load_state_dict(self.tensors(weights))
        return model.eval()


MULTILABEL, MULTICLASS = GoldenCase("multilabel"), GoldenCase("multiclass")
each_case = pytest.mark.parametrize("case", [MULTILABEL, MULTICLASS], ids=lambda case: case.task)
"""Runs a test for both cases, as its argument ``case``."""

each_divergence = pytest.mark.parametrize(
    ("case", "tag"),
    [
        pytest.param(MULTILABEL, "faithful", id="faithful-multilabel"),
        pytest.param(MULTILABEL, "bernoulli", id="bernoulli-multilabel"),
        pytest.param(MULTICLASS, "faithful", id="faithful-multiclass"),
    ],
)
"""Runs a test for what a distillation was computed with; classes have no Bernoulli divergence."""


def largest_difference(
    ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]
) -> float:
    """Largest absolute difference between tensors of the same names."""
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in theirs)
