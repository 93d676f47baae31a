"""Turns simulated requests into the tensors that MetaUnlearn learns from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from oneshui.accelerator import policy_of, transfer
from oneshui.data.images import LabelledImages
from oneshui.data.simulated_requests import SimulatedRequest, retained
from oneshui.data.splits import images_by_identity
from oneshui.methods.metaunlearn.loss_net import Support
from oneshui.methods.metaunlearn.objective import Batch, BatchGroup
from oneshui.training.models import FeaturesAndLogits


@dataclass(frozen=True, kw_only=True)
class ImagePool:
    """Images from which batches are drawn, with what is known about them beforehand.

    Attributes:
        data: The images, n of them.
        device: Where batches go, and where the tensors below are.
        logits: Of the original model, [n, C].
        features: [n, D]; if given, they are a batch's inputs instead of the pictures.
    """

    data: LabelledImages
    device: torch.device
    logits: torch.Tensor | None = None
    features: torch.Tensor | None = None

    def batch(self, positions: torch.Tensor) -> Batch:
        """The images at these positions, int64 [B] on the CPU."""
        there = transfer(positions, self.device)
        return Batch(
            inputs=(
                self.data.inputs(positions, self.device)
                if self.features is None
                else self.features[there]
            ),
            labels=transfer(self.data.labels[positions], self.device),
            original=None if self.logits is None else self.logits[there],
        )


@torch.no_grad()
def make_pool(
    model: nn.Module,
    data: LabelledImages,
    device: torch.device,
    *,
    keep_logits: bool,
    keep_features: bool,
    batch_size: int | None = None,
) -> ImagePool:
    """A pool of the images with the model's logits, features, both or neither.

    Args:
        model: In evaluation mode, on ``device``.
        data: The images; read once if anything is to be kept.
        device: Where to compute and keep.
        keep_logits: Whether to keep the logits.
        keep_features: Whether to keep the features, so that pictures are never read again.
        batch_size: Images per pass; None for as many as suit the device.
    """
    if not (keep_logits or keep_features):
        return ImagePool(data=data, device=device)
    module = FeaturesAndLogits(model)
    size = batch_size or policy_of(device).pass_size
    pairs = [module(inputs) for inputs, _ in data.batches(size, device)]
    return ImagePool(
        data=data,
        device=device,
        logits=torch.cat([pair[0] for pair in pairs]) if keep_logits else None,
        features=torch.cat([pair[1] for pair in pairs]) if keep_features else None,
    )


class RequestSampler:
    """Turns simulated requests into the tensors that MetaUnlearn learns from.

    Attributes:
        images: Positions in the training pool of every training identity's images.
        generator: As it was given; its state is all that changes between samples.

    Args:
        train: D_tr.
        val: D_v.
        train_identities: In the split's order.
        batch_size: Images per forget, val and retain batch.
        with_retain: Whether to draw retain batches.
        generator: Of the order of val and retain images.
    """

    def __init__(
        self,
        *,
        train: ImagePool,
        val: ImagePool,
        train_identities: Sequence[int],
        batch_size: int,
        with_retain: bool,
        generator: torch.Generator,
    ) -> None:
        self._train = train
        self._val = val
        self._batch_size = batch_size
        self._with_retain = with_retain
        self.generator = generator
        self._identity_of_image = train.data.identities.numpy()
        self._index = {identity: index for index, identity in enumerate(train_identities)}
        self.images = images_by_identity(self._identity_of_image, train_identities)

    def sample(self, request: SimulatedRequest) -> tuple[Support, list[BatchGroup]]:
        """The request's support set, and its forget batches with their val and retain batches.

        The val and retain images are shuffled for every request; where a request has more forget
        batches than they fill, they are used again from the start.
        """
        support = self._train.batch(torch.tensor(request.support))
        index = torch.tensor([self._index[identity] for identity in request.identities])
        val = self._shuffle(torch.arange(len(self._val.data)))
        retain = None
        if self._with_retain:
            retain = self._shuffle(torch.from_numpy(retained(self._identity_of_image, request)))
        groups = [
            BatchGroup(
                forget=self._train.batch(forget),
                val=self._val.batch(self._part(val, number)),
                retain=(None if retain is None else self._train.batch(self._part(retain, number))),
            )
            for number, forget in enumerate(
                torch.split(torch.tensor(request.forget), self._batch_size)
            )
        ]
        return Support(
            inputs=support.inputs, labels=support.labels, index=index.to(support.inputs.device)
        ), groups

    def _shuffle(self, positions: torch.Tensor) -> torch.Tensor:
        return positions[torch.randperm(len(positions), generator=self.generator)]

    def _part(self, positions: torch.Tensor, number: int) -> torch.Tensor:
        num_batches = math.ceil(len(positions) / self._batch_size)
        start = number % num_batches * self._batch_size
        return positions[start : start + self._batch_size]
