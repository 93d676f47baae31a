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

_MINUS_ONE = torch.tensor(-1.0)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """0..255 to float32 in [-1, 1]: (x / 255 - 0.5) / 0.5, as the benchmark does.

    Args:
        images: uint8, or float32 that nobody else needs, of any shape.
    """
    result = images.to(torch.float32).div_(255.0)
    # 2 x - 1 in one pass: doubling is exact, so the bits are those of the formula.
    return torch.add(_MINUS_ONE, result, alpha=2, out=result)


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """A selection of a dataset's images with labels and identities.

    Attributes:
        pixels: All images of the dataset, uint8 [N, 3, S, S], usually a memory map.
        rows: The selected ones, int64 [n], in the order in which they are read.
        labels: Of the selected ones: float32 [n, C] of 0/1 or int64 [n].
        identities: Of the selected ones, int64 [n].
        detail: The same images larger, uint8 [N, 3, T, T], from which random crops are cut; None
            to cut them from ``pixels``.
    """

    pixels: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    labels: torch.Tensor
    identities: torch.Tensor
    detail: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        assert len(self.rows) == len(self.labels) == len(self.identities)
        assert self.detail is None or len(self.detail) == len(self.pixels)

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
        return self._read(self.pixels, positions)

    def _read(
        self, pixels: npt.NDArray[np.uint8], positions: torch.Tensor | slice | None
    ) -> torch.Tensor:
        rows = self.rows if positions is None else self.rows[_as_index(positions)]
        return torch.from_numpy(np.ascontiguousarray(pixels[rows]))

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
        reads = (partial(self._read, self._source(kind), positions) for positions in batches)
        for positions, raw in zip(batches, read_ahead(reads, policy.ahead), strict=True):
            yield (
                self._augmented(raw, positions, kind, device, seed),
                transfer(self.labels[positions], device),
            )

    def augmented(
        self, positions: torch.Tensor, kind: Augmentation, *, device: torch.device, seed: int
    ) -> torch.Tensor:
        """Augmented and normalised images at these positions, float32 [k, 3, S, S] in [-1, 1].

        Args:
            positions: Of the selection, int64 [k] on the CPU.
            kind: What to do to the images.
            device: Where they go.
            seed: Of the augmentation; the same picture gets the same crop.
        """
        raw = self._read(self._source(kind), positions)
        return self._augmented(raw, positions, kind, device, seed)

    def _source(self, kind: Augmentation) -> npt.NDArray[np.uint8]:
        return self.pixels if kind != "crop" or self.detail is None else self.detail

    def _augmented(
        self,
        raw: torch.Tensor,
        positions: torch.Tensor,
        kind: Augmentation,
        device: torch.device,
        seed: int,
    ) -> torch.Tensor:
        rows, size = self.rows[positions.numpy()], self.pixels.shape[-1]
        return augment(transfer(raw, device), rows, kind, size=size, seed=seed)


def _as_index(positions: torch.Tensor | slice) -> slice | npt.NDArray[np.int64]:
    return positions if isinstance(positions, slice) else positions.numpy()


def make_images(
    pixels: npt.NDArray[np.uint8],
    label: npt.NDArray[np.uint8] | npt.NDArray[np.int64],
    identity: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    *,
    detail: npt.NDArray[np.uint8] | None = None,
) -> LabelledImages:
    """Select rows of a dataset.

    Args:
        pixels: uint8 [N, 3, S, S].
        label: uint8 [N, C] or int64 [N].
        identity: int64 [N].
        rows: The selection, int64 [n].
        detail: The same images larger, uint8 [N, 3, T, T], for random crops.
    """
    labels = torch.from_numpy(np.ascontiguousarray(label[rows]))
    return LabelledImages(
        pixels=pixels,
        rows=np.asarray(rows, dtype=np.int64),
        labels=labels.to(torch.float32) if labels.ndim == 2 else labels.to(torch.int64),
        identities=torch.from_numpy(np.ascontiguousarray(identity[rows])),
        detail=detail,
    )


def augment(
    images: torch.Tensor, rows: npt.NDArray[np.int64], kind: Augmentation, *, size: int, seed: int
) -> torch.Tensor:
    """Augmented and normalised images, float32 [B, 3, size, size] in [-1, 1], on their device.

    "crop" is RandomResizedCrop (area 0.08-1, ratio 3/4-4/3, antialiased) and a flip with
    probability 0.5 (docs/benchmark.md, "Preprocessing"); "flip" is the flip alone.

    Args:
        images: uint8 [B, 3, T, T]; T is ``size`` unless ``kind`` is "crop".
        rows: Their numbers in their dataset, int64 [B].
        kind: What to do to the images.
        size: Side of the result in pixels.
        seed: Of what is drawn; with the number of the image, all that it depends on.
    """
    if kind == "none":
        return normalise(images)
    height, width = images.shape[-2:]
    crops = draw_crops(rows, kind, seed=seed, height=height, width=width)
    if kind == "flip":
        flips = transfer(crops.flips, images.device)[:, None, None, None]
        return normalise(torch.where(flips, images.flip(-1), images))
    return normalise(cut(images, crops, size))
