"""A problem small enough for a test: few pictures of few people, and three tiny networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from oneshui.data.images import LabelledImages, make_images
from oneshui.data.splits import SetName, Split, make_split
from oneshui.requests import FullAccessRequest, PrepareRequest, SupportSet, UnlearnRequest
from oneshui.spec import ModelSpec, Task, TrainingSpec
from oneshui.training.models import make_model

Network = Literal["vit", "convnext", "batchnorm"]

NUM_OUTPUTS = 5
NUM_FORGET = 3
SPECS: Mapping[Network, ModelSpec] = {
    "vit": ModelSpec(
        name="vit_tiny_patch16_224",
        image_size=32,
        weights="random",
        options={"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
    ),
    "convnext": ModelSpec(
        name="convnext_atto",
        image_size=32,
        weights="random",
        options={"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]},
    ),
    "batchnorm": ModelSpec(name="test_efficientnet", image_size=32, weights="random"),
}


def tiny_model(network: Network, seed: int = 0) -> nn.Module:
    model = make_model(SPECS[network], NUM_OUTPUTS, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Statistics and weights as if it had been trained; no two channels are alike.
            statistics: dict[str, Any] = dict(module.named_buffers())
            statistics["num_batches_tracked"].fill_(7)
            for values in (statistics["running_mean"], module.bias.data):
                values.normal_(std=0.1, generator=generator)
            for values in (statistics["running_var"], module.weight.data):
                values.uniform_(0.5, 1.5, generator=generator)
    return model


@dataclass(frozen=True)
class TinyProblem:
    """Twenty people with four pictures of noise each; labels follow the person."""

    network: Network = "vit"
    task: Task = "multilabel"

    @property
    def split(self) -> Split:
        identities = list(range(20))
        return make_split(self._identity, identities, num_forget=NUM_FORGET, seed=0)

    @property
    def _identity(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.repeat(np.arange(20, dtype=np.int64), 4)

    def images(self, name: SetName | Literal["train"]) -> LabelledImages:
        generator = np.random.default_rng(0)
        pixels = generator.integers(0, 256, size=(80, 3, 32, 32), dtype=np.uint8)
        if self.task == "multilabel":
            per_person = generator.integers(0, 2, size=(20, NUM_OUTPUTS)).astype(np.uint8)
            label = per_person[self._identity]
        else:
            label = self._identity % NUM_OUTPUTS
        return make_images(pixels, label, self._identity, self.split.images(name))

    def prepare_request(self, **changes: Any) -> PrepareRequest:
        request = PrepareRequest(
            model=tiny_model(self.network),
            task=self.task,
            seed=7,
            train=self.images("train"),
            val=self.images("val"),
            train_identities=self.split.train,
            num_forget=NUM_FORGET,
        )
        return dataclasses.replace(request, **changes)

    def unlearn_request(self, prepared: Mapping[str, torch.Tensor] | None = None) -> UnlearnRequest:
        support = self.images("support")
        return UnlearnRequest(
            model=tiny_model(self.network),
            task=self.task,
            seed=7,
            support=SupportSet(
                images=support.raw(), labels=support.labels, identities=support.identities
            ),
            prepared=prepared or {},
        )

    def full_request(self) -> FullAccessRequest:
        base = self.unlearn_request()
        fields = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
        return FullAccessRequest(
            **fields,
            forget=self.images("forget"),
            retain=self.images("retain"),
            val=self.images("val"),
            training=TrainingSpec(epochs=1, warmup_epochs=0, augmentation="flip"),
            fresh_model=tiny_model(self.network, seed=1),
        )
