"""Pictures as tensors: the labelled images that models are trained and measured on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import torch

from oneshui.accelerator import Policy, policy_of, read_ahead, transfer
from oneshui.data.crops import Augmentation, cut, draw_crops
from oneshui.data.transforms import CropBox, crop

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
        generator: torch.Generator,
        seed: int,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs, labels) of one epoch; the last batch may be smaller.

        Args:
            order: Positions of the selection, int64 [n] on the CPU.
            batch_size: Images per batch.
            kind: What to do to the images.
            device: Where the batches go.
            policy: Where images are augmented, and how far ahead they are read.
            generator: Draws the augmentation on the processor.
            seed: Of the augmentation on the device: the same picture gets the same crop.

        Yields:
            float32 [B, 3, S, S] in [-1, 1], and the labels.
        """
        batches = torch.split(order, batch_size)
        reads = (partial(self.raw, positions) for positions in batches)
        for positions, raw in zip(batches, read_ahead(reads, policy.ahead), strict=True):
            inputs = augmented(
                raw,
                self.rows[positions.numpy()],
                kind,
                device=device,
                policy=policy,
                generator=generator,
                seed=seed,
            )
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


def augment(images: torch.Tensor, kind: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Augment uint8 images [B, 3, S, S]; shape and dtype stay.

    "crop" is RandomResizedCrop (area 0.08-1, ratio 3/4-4/3, antialiased) and a flip with
    probability 0.5, spec section 2; "flip" is the flip alone.
    """
    if kind == "none":
        return images
    result = images.clone()
    if kind == "crop":
        height, width = images.shape[-2:]
        assert height == width
        pictures = result.numpy()
        boxes = [_random_box(height, width, generator) for _ in pictures]

        def cut_out(index: int) -> None:
            pictures[index] = crop(pictures[index], boxes[index], height)

        # Pillow works without Python's lock, and each picture is by itself.
        threads = min(torch.get_num_threads(), len(pictures) // 4)
        each = _threads(threads).map if threads > 1 else map
        for _ in each(cut_out, range(len(pictures))):
            pass
    flips = torch.rand(len(images), generator=generator) < 0.5
    result[flips] = result[flips].flip(-1)
    return result


@cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, thread_name_prefix="crop")


# A forked child has the pool but none of its threads, and would wait for them.
os.register_at_fork(after_in_child=_threads.cache_clear)


def augmented(
    raw: torch.Tensor,
    rows: npt.NDArray[np.int64],
    kind: Augmentation,
    *,
    device: torch.device,
    policy: Policy,
    generator: torch.Generator,
    seed: int,
) -> torch.Tensor:
    """Augmented and normalised images on the device, float32 [B, 3, S, S] in [-1, 1].

    Args:
        raw: uint8 [B, 3, S, S] on the CPU.
        rows: The images' numbers in their dataset, int64 [B].
        kind: What to do to the images.
        device: Where they go.
        policy: Where they are augmented.
        generator: Draws what is done on the processor.
        seed: Of what is done on the device.
    """
    if kind == "none" or not policy.device_crops:
        return normalise(transfer(augment(raw, kind, generator), device))
    height, width = raw.shape[-2:]
    crops = draw_crops(rows, kind, seed=seed, height=height, width=width)
    return normalise(cut(transfer(raw, device), crops, height))


def draw_crop(height: int, width: int, generator: torch.Generator) -> tuple[CropBox, bool]:
    """The rectangle and the flip that ``augment`` with "crop" draws for a single image."""
    box = _random_box(height, width, generator)
    return box, bool(torch.rand(1, generator=generator) < 0.5)


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
