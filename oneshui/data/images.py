"""Pictures as tensors: the labelled images that models are trained and measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from oneshui.accelerator import Policy, policy_of, read_ahead, transfer
from oneshui.data.crops import Augmentation, cut, draw_crops

CPU = torch.device("cpu")


def normalise(images: torch.Tensor) -> torch.Tensor:
    """0..255 to float32 in [-1, 1]: (x / 255 - 0.5) / 0.5, as the benchmark does.

    Args:
        images: uint8, or float32 that nobody else needs, of any shape.
    """
    return images.to(torch.float32).div_(255.0).sub_(0.5).div_(0.5)


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """A selection of a dataset's images with labels and identities.

    Attributes:
        pixels: All images of the dataset, uint8 [N, 3, S, S], usually a memory map.
        rows: The selected ones, int64 [n], in the order in which they are read.
        labels: Of the selected ones: float32 [n, C] of 0/1 or int64 [n].
        identities: Of the selected ones, int64 [n].
    """

    pixels: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    labels: torch.Tensor
    identities: torch.Tensor

    def __post_init__(self) -> None:
        assert len(self.rows) == len(self.labels) == len(self.identities)

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, positions: npt.NDArray[np.int64] | torch.Tensor) -> LabelledImages:
        """The images at these positions of the selection, in this order."""
        index = torch.as_tensor(positions, dtype=torch.int64)
        return replace(
            self,
            rows=self.rows[index.numpy()],
            labels=self.labels[index],
            identities=self.identities[index],
        )

    def raw(self, positions: torch.Tensor | slice | None = None) -> torch.Tensor:
        """Pixels at these positions (all by default), uint8 [k, 3, S, S]."""
        rows = self.rows if positions is None else self.rows[_as_index(positions)]
        return torch.from_numpy(np.ascontiguousarray(self.pixels[rows]))

    def inputs(
        self, positions: torch.Tensor | slice | None = None, device: torch.device = CPU
    ) -> torch.Tensor:
        """Normalised images at these positions, float32 [k, 3, S, S] in [-1, 1], on the device.

        They travel as bytes, a quarter of the way's cost.
        """
        return normalise(transfer(self.raw(positions), device))

    def batches(
        self, batch_size: int, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs, labels) in order, without augmentation; the last batch may be smaller."""
        parts = [slice(start, start + batch_size) for start in range(0, len(self), batch_size)]
        reads = (partial(self.raw, part) for part in parts)
        for part, raw in zip(parts, read_ahead(reads, policy_of(device).ahead), strict=True):
            yield normalise(transfer(raw, device)), transfer(self.labels[part], device)

    def augmented_batches(
        self,
        order: torch.Tensor,
        batch_size: int,
        kind: Augmentation,
        *,
        device: torch.device,
        policy: Policy,
        seed: int,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs, labels) of one epoch; the last batch may be smaller.

        Args:
            order: Positions of the selection, int64 [n] on the CPU.
            batch_size: Images per batch.
            kind: What to do to the images.
            device: Where the batches go.
            policy: How far ahead images are read.
            seed: Of the augmentation; the same picture gets the same crop in any batch.

        Yields:
            float32 [B, 3, S, S] in [-1, 1], and the labels.
        """
        batches = torch.split(order, batch_size)
        reads = (partial(self.raw, positions) for positions in batches)
        for positions, raw in zip(batches, read_ahead(reads, policy.ahead), strict=True):
            rows = self.rows[positions.numpy()]
            inputs = augmented(raw, rows, kind, device=device, seed=seed)
            yield inputs, transfer(self.labels[positions], device)


def _as_index(positions: torch.Tensor | slice) -> slice | npt.NDArray[np.int64]:
    return positions if isinstance(positions, slice) else positions.numpy()


def make_images(
    pixels: npt.NDArray[np.uint8],
    label: npt.NDArray[np.uint8] | npt.NDArray[np.int64],
    identity: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
) -> LabelledImages:
    """Select rows of a dataset.

    Args:
        pixels: uint8 [N, 3, S, S].
        label: uint8 [N, C] or int64 [N].
        identity: int64 [N].
        rows: The selection, int64 [n].
    """
    labels = torch.from_numpy(np.ascontiguousarray(label[rows]))
    return LabelledImages(
        pixels=pixels,
        rows=np.asarray(rows, dtype=np.int64),
        labels=labels.to(torch.float32) if labels.ndim == 2 else labels.to(torch.int64),
        identities=torch.from_numpy(np.ascontiguousarray(identity[rows])),
    )


def augmented(
    raw: torch.Tensor,
    rows: npt.NDArray[np.int64],
    kind: Augmentation,
    *,
    device: torch.device,
    seed: int,
) -> torch.Tensor:
    """Augmented and normalised images on the device, float32 [B, 3, S, S] in [-1, 1].

    "crop" is RandomResizedCrop (area 0.08-1, ratio 3/4-4/3, antialiased) and a flip with
    probability 0.5, spec section 2; "flip" is the flip alone.

    Args:
        raw: uint8 [B, 3, S, S] on the CPU.
        rows: The images' numbers in their dataset, int64 [B].
        kind: What to do to the images.
        device: Where they go.
        seed: Of what is drawn; with the number of the image, all that it depends on.
    """
    images = transfer(raw, device)
    if kind == "none":
        return normalise(images)
    height, width = images.shape[-2:]
    crops = draw_crops(rows, kind, seed=seed, height=height, width=width)
    if kind == "flip":
        flips = transfer(crops.flips, device)[:, None, None, None]
        return normalise(torch.where(flips, images.flip(-1), images))
    return normalise(cut(images, crops, height))
