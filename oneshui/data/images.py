"""Pictures as tensors: the labelled images that models are trained and measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from oneshui.data.transforms import CropBox, crop

Augmentation = Literal["none", "flip", "crop"]


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 to float32 in [-1, 1]: (x / 255 - 0.5) / 0.5, as the benchmark does."""
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

    def inputs(self, positions: torch.Tensor | slice | None = None) -> torch.Tensor:
        """Normalised images at these positions, float32 [k, 3, S, S] in [-1, 1]."""
        return normalise(self.raw(positions))

    def batches(
        self, batch_size: int, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs, labels) in order, without augmentation; the last batch may be smaller."""
        for start in range(0, len(self), batch_size):
            part = slice(start, start + batch_size)
            yield self.inputs(part).to(device), self.labels[part].to(device)


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


def augment(images: torch.Tensor, kind: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Augment uint8 images [B, 3, S, S]; shape and dtype stay.

    "crop" is RandomResizedCrop (area 0.08-1, ratio 3/4-4/3, antialiased) and a flip with
    probability 0.5, spec section 2; "flip" is the flip alone.
    """
    if kind == "none":
        return images
    if kind == "crop":
        images = torch.stack([_random_crop(image, generator) for image in images])
    flips = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flips[:, None, None, None], images.flip(-1), images)


def _random_crop(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    height, width = image.shape[-2:]
    assert height == width
    return torch.from_numpy(crop(image.numpy(), _random_box(height, width, generator), height))


def _random_box(height: int, width: int, generator: torch.Generator) -> CropBox:
    """The rectangle of RandomResizedCrop; the whole picture if ten draws do not fit into it."""
    for _ in range(10):
        area = height * width * (0.08 + 0.92 * torch.rand((), generator=generator).item())
        low, high = np.log(3 / 4), np.log(4 / 3)
        ratio = np.exp(low + (high - low) * torch.rand((), generator=generator).item())
        columns, rows = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < columns <= width and 0 < rows <= height:
            top = int(torch.randint(height - rows + 1, (), generator=generator))
            left = int(torch.randint(width - columns + 1, (), generator=generator))
            return CropBox(top=top, left=left, height=rows, width=columns)
    return CropBox(top=0, left=0, height=height, width=width)
