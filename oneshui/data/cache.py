"""Decoded pictures: one uint8 array per dataset and size, written once and memory-mapped.

Imports no torch, so that a worker can build it before it is warm.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneshui.data.table import ImageTable
from oneshui.data.transforms import resize, rounded
from oneshui.errors import DataError

Progress = Callable[[int, int], None]

#: What Pillow raises when a picture does not decode.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
#: How pictures are resized: "corrected" averages over all pixels of a picture that shrinks;
#: "reference" does not, as the authors' test pictures (spec, D5).
Variant = Literal["corrected", "reference"]


def decode(path: Path, size: int, variant: Variant = "corrected") -> npt.NDArray[np.uint8]:
    """One picture as RGB, resized to a square, uint8 [3, size, size].

    Not square pictures are squeezed, as the benchmark does (spec, D6). The reference normalises
    before it resizes; here bytes are resized and normalised later, which is the same but for the
    rounding to bytes, at most 0.004 in [-1, 1].

    Raises:
        OSError, SyntaxError, ...: Pillow cannot decode it; all are in ``DECODE_ERRORS``.
    """
    with Image.open(path) as image:
        rgb = image.convert("RGB")
        if variant == "reference":
            pixels = np.asarray(rgb, dtype=np.uint8).transpose(2, 0, 1)
            return rounded(resize(pixels, size, antialias=False))
        if rgb.size != (size, size):
            # In bytes: three times faster than resize(), and within one level of it.
            rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(rgb, dtype=np.uint8).transpose(2, 0, 1))


def build_cache(
    table: ImageTable,
    size: int,
    path: Path | str,
    *,
    variant: Variant = "corrected",
    threads: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Decode every picture of the table into a ``.npy`` file, uint8 [N, 3, size, size].

    Args:
        table: The images.
        size: Side in pixels.
        path: File to write; the caller publishes it.
        variant: How pictures are resized.
        threads: Decoding threads; None uses one per processor.
        progress: Called with (done, total) now and then.

    Raises:
        DataError: Some pictures do not decode; says how many and names three.
    """
    out = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(len(table), 3, size, size)
    )
    broken: list[str] = []

    def one(row: int) -> None:
        file = table.root / table.paths[row]
        try:
            out[row] = decode(file, size, variant)
        except DECODE_ERRORS as error:
            broken.append(f"{file} ({error})")

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for start in range(0, len(table), 256):
            stop = min(start + 256, len(table))
            list(pool.map(one, range(start, stop)))
            if progress is not None:
                progress(stop, len(table))
    out.flush()
    if broken:
        raise DataError(
            f"{len(broken)} of {len(table)} pictures do not decode, for example "
            f"{'; '.join(sorted(broken)[:3])}: restore them from the original dataset"
        )


def open_cache(path: Path | str) -> npt.NDArray[np.uint8]:
    """The cache as a read-only memory map, uint8 [N, 3, size, size]."""
    array: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return array
