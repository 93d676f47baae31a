"""Random crops drawn per picture and cut on any device.

What is drawn for a picture depends on the seed and the picture alone, not on the batch it is in,
on the worker that reads it or on the device. A GPU cuts a whole batch at once by two products
with small matrices, a processor picture by picture in bytes; both are torchvision's antialiased
RandomResizedCrop within rounding.

Shapes: B pictures, H x W their sides, S the side of the square that comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from oneshui.accelerator import is_accelerator, transfer
from oneshui.seeding import derive_seed

Augmentation = Literal["none", "flip", "crop"]

AREA = (0.08, 1.0)
LOG_RATIO = (float(np.log(3 / 4)), float(np.log(4 / 3)))
ATTEMPTS = 10


@dataclass(frozen=True, kw_only=True)
class Crops:
    """What to cut out of each picture of a batch.

    Attributes:
        boxes: Top, left, height and width in pixels, int64 [B, 4]; inside the picture.
        flips: Whether to mirror what was cut out, bool [B].
    """

    boxes: torch.Tensor
    flips: torch.Tensor


def draw_crops(
    rows: npt.NDArray[np.int64], kind: Augmentation, *, seed: int, height: int, width: int
) -> Crops:
    """What RandomResizedCrop (area 0.08-1, ratio 3/4-4/3) and a flip would draw.

    See docs/benchmark.md, "Preprocessing".

    Args:
        rows: The pictures' numbers in their dataset, int64 [B].
        kind: "none" and "flip" leave the whole picture, "none" and only it does not mirror.
        seed: Another one for every epoch.
        height: H.
        width: W.
    """
    draws = _uniform(rows, seed, 1 + 4 * ATTEMPTS)
    boxes = np.tile(np.array([0, 0, height, width], dtype=np.int64), (len(rows), 1))
    flips = (draws[:, 0] < 0.5) & (kind != "none")
    if kind == "crop":
        of_area, of_ratio, of_top, of_left = (
            draws[:, 1:].reshape(len(rows), 4, ATTEMPTS).swapaxes(0, 1)
        )
        area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * of_area)
        ratio = np.exp(LOG_RATIO[0] + (LOG_RATIO[1] - LOG_RATIO[0]) * of_ratio)
        tall = np.rint(np.sqrt(area / ratio)).astype(np.int64)
        wide = np.rint(np.sqrt(area * ratio)).astype(np.int64)
        fits: npt.NDArray[np.bool_] = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
        top = np.floor(of_top * (height - tall + 1)).astype(np.int64)
        left = np.floor(of_left * (width - wide + 1)).astype(np.int64)
        first = (np.arange(len(rows)), fits.argmax(axis=1))
        drawn = np.stack([top[first], left[first], tall[first], wide[first]], axis=1)
        boxes = np.where(np.any(fits, axis=1, keepdims=True), drawn, boxes)
    return Crops(boxes=torch.from_numpy(boxes), flips=torch.from_numpy(flips))


def cut(images: torch.Tensor, crops: Crops, size: int) -> torch.Tensor:
    """Cut, resize to a square with antialiasing, and mirror, on the pictures' device.

    Args:
        images: [B, 3, H, W], any type of number in 0..255.
        crops: What to cut out.
        size: S; the pictures may be larger, to keep the detail of small crops.

    Returns:
        float32 [B, 3, S, S] in 0..255, within a level or two of Pillow, which rounds twice; whole
        levels for bytes on a processor, else not rounded.
    """
    if not is_accelerator(images.device) and images.dtype == torch.uint8:
        return _cut_bytes(images, crops, size)
    height, width = images.shape[-2:]
    top, left, tall, wide = transfer(crops.boxes, images.device).unbind(1)
    down = _weights(top, tall, height, size)
    along = _weights(left, wide, width, size)
    flips = transfer(crops.flips, images.device)
    along = torch.where(flips[:, None, None], along.flip(1), along)
    # Where prediction runs in bfloat16, pictures still have more than its three digits.
    with torch.autocast(images.device.type, enabled=False):
        return down[:, None] @ images.to(torch.float32) @ along[:, None].mT


def _cut_bytes(images: torch.Tensor, crops: Crops, size: int) -> torch.Tensor:
    # PyTorch's kernel for bytes is several times faster on a processor than dense products, and
    # than Pillow. It computes in whole numbers, with and without vector instructions the same.
    result = torch.empty(len(images), 3, size, size)
    for image, (top, left, tall, wide), flip, target in zip(
        images, crops.boxes.tolist(), crops.flips.tolist(), result, strict=True
    ):
        part = image[None, :, top : top + tall, left : left + wide]
        # The kernel works on whole pixels; asked for them, it need not put its result apart again.
        part = part.contiguous(memory_format=torch.channels_last)
        resized = F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]
        target.copy_(resized.flip(-1) if flip else resized)
    return result


def _weights(start: torch.Tensor, length: torch.Tensor, old: int, size: int) -> torch.Tensor:
    """What each old pixel of an axis contributes to each new one, [B, S, old]: a triangle.

    Args:
        start: First pixel of each box, int64 [B].
        length: Pixels of each box, int64 [B].
        old: Pixels of the picture.
        size: S.
    """
    step = (length / size)[:, None, None]
    reach = step.clamp(min=1)
    targets = torch.arange(size, device=start.device)[None, :, None]
    pixels = torch.arange(old, device=start.device)[None, None, :]
    begin, end = start[:, None, None], (start + length)[:, None, None]
    distance = (pixels - begin + 0.5) - (targets + 0.5) * step
    inside = (pixels >= begin) & (pixels < end)
    weights = (1 - (distance / reach).abs()).clamp(min=0) * inside
    normal: torch.Tensor = weights / weights.sum(-1, keepdim=True)
    return normal


def _uniform(rows: npt.NDArray[np.int64], seed: int, count: int) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) that depend on seed, row and column alone, float64 [B, count].

    A counter that is mixed by SplitMix64's finaliser (Steele, Lea and Flood, 2014).
    """
    base = np.uint64(derive_seed(seed, "pictures"))
    start = _mixed(rows.astype(np.uint64) ^ base)[:, None]
    counter = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mixed(start + counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed
