"""Resizing as the benchmark's reference does, to the last digit.

Imports numpy and Pillow only, so that a cache can be built without torch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def resize(image: Pixels, size: int, *, antialias: bool) -> npt.NDArray[np.float32]:
    """Resize a picture to a square, bilinearly and without rounding.

    Resizing is linear, so it does not matter whether pixels are normalised before or after.

    Args:
        image: uint8 [3, H, W].
        size: Side of the square in pixels; not square pictures are squeezed
            (docs/benchmark.md, D6).
        antialias: Whether a picture that shrinks is averaged over all its pixels. Without, each
            new pixel mixes the four old ones nearest to its middle (align_corners false), which
            is how the reference resizes the pictures that it tests on (docs/benchmark.md, D5).

    Returns:
        float32 [3, size, size] in 0..255.
    """
    planes = image.astype(np.float32)
    if antialias and max(image.shape[1:]) > size:
        # Pillow averages planes of floats in double precision. Where nothing shrinks, both ways
        # are the same.
        sides = (size, size)
        resized = [
            np.asarray(Image.fromarray(plane).resize(sides, Image.Resampling.BILINEAR))
            for plane in planes
        ]
        return np.stack(resized)
    top, bottom, down = _neighbours(image.shape[1], size)
    left, right, along = _neighbours(image.shape[2], size)
    upper, lower = planes[:, top], planes[:, bottom]
    rows = upper + (lower - upper) * down[:, None]
    first, second = rows[:, :, left], rows[:, :, right]
    mixed: npt.NDArray[np.float32] = first + (second - first) * along
    return mixed


def _neighbours(
    old: int, new: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The two old pixels that each new one mixes along an axis, and the share of the second.

    Places are computed in single precision because the reference's are.
    """
    half = np.float32(0.5)
    step = np.float32(old) / np.float32(new)
    middle = np.maximum((np.arange(new, dtype=np.float32) + half) * step - half, np.float32(0))
    first = np.minimum(middle.astype(np.int64), old - 1)
    second = np.minimum(first + 1, old - 1)
    return first, second, (middle - first).astype(np.float32)


def rounded(image: npt.NDArray[np.float32]) -> Pixels:
    """The nearest bytes of a picture in 0..255: at most half a level off, 0.004 in [-1, 1]."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
