"""Decoded pictures: one uint8 array per dataset and size, written once and memory-mapped.

Imports no torch, so that a worker can build it before it is warm.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneshui.data.table import ImageTable
from oneshui.errors import DataError

Progress = Callable[[int, int], None]


def decode(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """One picture as RGB, resized to a square with antialiasing, uint8 [3, size, size].

    Not square pictures are squeezed, as the benchmark does (spec, D6). Resizing with
    antialiasing comes before normalising: the corrected order of spec D5.

    Raises:
        OSError, SyntaxError, ValueError: Pillow cannot decode it.
    """
    with Image.open(path) as image:
        rgb = image.convert("RGB")
        if rgb.size != (size, size):
            rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(rgb, dtype=np.uint8).transpose(2, 0, 1))


def build_cache(
    table: ImageTable,
    size: int,
    path: Path,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Decode every picture of the table into a ``.npy`` file, uint8 [N, 3, size, size].

    Args:
        table: The images.
        size: Side in pixels.
        path: File to write; the caller publishes it.
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
            out[row] = decode(file, size)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
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


def open_cache(path: Path) -> npt.NDArray[np.uint8]:
    """The cache as a read-only memory map, uint8 [N, 3, size, size]."""
    array: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return array
