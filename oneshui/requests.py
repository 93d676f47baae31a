"""What a method is handed before and after the training data are deleted.

The support-only constraint lives here, by construction: an UnlearnRequest holds tensors that
were copied out of the dataset, and nothing from which another picture could be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from oneshui.data.images import LabelledImages, normalise
from oneshui.seeding import torch_generator
from oneshui.spec import Task, TrainingSpec

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class SupportSet:
    """One picture of every person who asks to be forgotten; none was trained on.

    Attributes:
        images: uint8 [N, 3, S, S].
        labels: float32 [N, C] of 0/1 or int64 [N].
        identities: int64 [N].
    """

    images: torch.Tensor
    labels: torch.Tensor
    identities: torch.Tensor

    def __post_init__(self) -> None:
        assert len(self.images) == len(self.labels) == len(self.identities)

    def __len__(self) -> int:
        return len(self.images)

    def inputs(self) -> torch.Tensor:
        """Normalised pictures, float32 [N, 3, S, S] in [-1, 1]."""
        return normalise(self.images)


@dataclass(frozen=True, kw_only=True)
class _Request:
    model: nn.Module
    task: Task
    seed: int
    device: torch.device = CPU

    def generator(self, purpose: str) -> torch.Generator:
        """A CPU generator of its own for each purpose, from the request's seed."""
        return torch_generator(self.seed, purpose)


class PrepareCheckpoint(Protocol):
    """Where a long preparation leaves what it has reached, so that a crash does not cost it all."""

    def load(self) -> Mapping[str, torch.Tensor] | None:
        """What an interrupted call of the same preparation kept last; None for nothing."""
        ...

    def offer(self, take_down: Callable[[], Mapping[str, torch.Tensor]]) -> None:
        """Called where the preparation could go on from: now and then, keep what is taken down.

        Args:
            take_down: Gives all that the rest depends on, CPU tensors by name.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PrepareRequest(_Request):
    """Before deletion: the method may compute what it wants from the training data.

    Attributes:
        model: The pretrained model; a method copies it before it changes anything.
        task: "multilabel" or "multiclass".
        seed: Of everything random.
        device: Where to compute.
        train: Training images without the support images: D_tr.
        val: Validation images: D_v.
        train_identities: Identities of the training set, in the split's order.
        num_forget: Identities in the coming request.
        checkpoint: For what takes long; the result is the same with and without, to the bit.
    """

    train: LabelledImages
    val: LabelledImages
    train_identities: tuple[int, ...]
    num_forget: int
    checkpoint: PrepareCheckpoint | None = None


@dataclass(frozen=True, kw_only=True)
class UnlearnRequest(_Request):
    """After deletion: the model, the support set and the method's own preparation.

    Attributes:
        model: The pretrained model; a method copies it before it changes anything.
        task: "multilabel" or "multiclass".
        seed: Of everything random.
        device: Where to compute.
        support: S, one picture per forgotten identity.
        prepared: What the method's ``prepare`` returned, by name; empty if it has none.
    """

    support: SupportSet
    prepared: Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class FullAccessRequest(UnlearnRequest):
    """A request that also carries D_f, D_r and D_v: for reference rows only.

    Attributes:
        forget: Images of the forgotten identities without the support images: D_f.
        retain: Training images of all other identities: D_r.
        val: Validation images: D_v.
        training: The recipe of pretraining, for methods that train again.
        fresh_model: The starting weights of pretraining, untrained.
    """

    forget: LabelledImages
    retain: LabelledImages
    val: LabelledImages
    training: TrainingSpec
    fresh_model: nn.Module
