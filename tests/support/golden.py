"""Finds the golden data: what the authors' reference computed, to which tests compare.

The folder is named by the environment variable ONESHUI_GOLDEN, or is ``../shared/golden`` beside
the project; where there is none, tests that ask for it are skipped. Its README describes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from oneshui.data.images import normalise
from oneshui.spec import Task


def golden_folder() -> Path:
    """The folder of the golden data; skips the test if there is none."""
    beside = Path(__file__).parents[3] / "shared" / "golden"
    folder = Path(os.environ.get("ONESHUI_GOLDEN", beside))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no golden data in {folder}: name their folder in ONESHUI_GOLDEN")
    return folder


def load_json(path: Path) -> Any:
    return json.loads(path.read_text())


@dataclass(frozen=True)
class GoldenCase:
    """One of the two case folders; a case is called like its task."""

    task: Task

    @cached_property
    def folder(self) -> Path:
        return golden_folder() / self.task

    def json(self, name: str) -> Any:
        return load_json(self.folder / f"{name}.json")

    def tensors(self, name: str, prefix: str = "") -> dict[str, torch.Tensor]:
        """The tensors of a file whose names begin with ``prefix``, without it."""
        tensors = load_file(self.folder / f"{name}.safetensors")
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    @cached_property
    def expected(self) -> Any:
        return self.json("expected")

    @cached_property
    def data(self) -> dict[str, torch.Tensor]:
        return self.tensors("data")

    @cached_property
    def inputs(self) -> torch.Tensor:
        """All images, normalised, [N, 3, S, S]."""
        return normalise(self.data["images"])

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


each_case = pytest.mark.parametrize(
    "case", [GoldenCase("multilabel"), GoldenCase("multiclass")], ids=lambda case: case.task
)
"""Runs a test for both cases, as its argument ``case``."""


def largest_difference(
    ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]
) -> float:
    """Largest absolute difference between tensors of the same names."""
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in theirs)
