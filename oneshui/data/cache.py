"""Decoded pictures: one uint8 array per dataset and size, written once and memory-mapped.

Imports no torch, so that a worker can build it before it is warm. Which size to choose, and what
it does to random crops, is in docs/decisions/0011-speed.md.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from oneshui.data.contents import content_hash, picture_contents, read_file
from oneshui.data.pictures import read_rgb
from oneshui.data.table import ImageTable
from oneshui.data.transforms import resize, rounded
from oneshui.errors import DataError
from oneshui.spec import ProgressCallback

Cache = npt.NDArray[np.uint8]

BLOCK = 256
"""Pictures that are decoded, hashed and noted as done together."""

LOG_SECONDS = 10.0

RECIPE = 2
"""Goes up with the stage's version whenever the same picture would give other pixels."""

#: How pictures are resized: "corrected" averages over all pixels of a picture that shrinks;
#: "reference" does not, as the authors' test pictures (docs/benchmark.md, D5).
Variant = Literal["corrected", "reference"]

logger = logging.getLogger("oneshui.cache")


@dataclass(frozen=True, kw_only=True)
class CacheReport:
    """What building a cache came to.

    Attributes:
        digest: The sha256, in hex, over the sha256 of every block of BLOCK decoded pictures.
        decoded: Pictures that this call decoded.
        resumed: Pictures that an interrupted call had decoded, found whole.
    """

    digest: str
    decoded: int
    resumed: int


def decode(content: bytes, size: int, variant: Variant = "corrected") -> Cache:
    """One picture as RGB, resized to a square, uint8 [3, size, size].

    Not square pictures are squeezed, as the benchmark does (docs/benchmark.md, D6). The reference
    normalises before it resizes; here bytes are resized and normalised later, which is the same but
    for the rounding to bytes, at most 0.004 in [-1, 1].

    Args:
        content: The file's bytes.
        size: Side in pixels.
        variant: How.

    Raises:
        DataError: It is no picture that can be read; says why.
    """
    rgb = read_rgb(content)
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
    contents: Sequence[str] | None = None,
    variant: Variant = "corrected",
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    partial: Path | str | None = None,
) -> CacheReport:
    """Decode every picture of the table into a ``.npy`` file, uint8 [N, 3, size, size].

    Blocks of pictures are noted in a journal beside the unfinished file, with the sha256 of their
    files' contents and of what was decoded. The same call made again after a kill keeps the blocks
    of which both are still those noted; a journal of another size or variant is not used. At the
    end the journal is removed. One process at a time per unfinished file.

    Args:
        table: The images.
        size: Side in pixels.
        path: File to write; the caller publishes it.
        contents: What ``picture_contents`` returned of the table; None hashes the pictures first.
        variant: How pictures are resized.
        threads: Decoding threads; None uses one per processor. Pillow decodes without holding
            Python's lock.
        progress: Called with (done, total) now and then; the log has rate and time left.
        partial: Where the unfinished file is, if not at ``path``; a place that outlasts the
            process lets the next one go on.

    Raises:
        DataError: Some pictures do not decode, or are not what ``contents`` says; says how many
            and names three.
    """
    target = Path(path)
    known = picture_contents(table, threads=threads) if contents is None else contents
    unfinished = _Unfinished(Path(partial or target), known, size, variant)
    pixels, done = unfinished.open()
    num_images = len(table)
    resumed = sum(len(pixels[_block(number)]) for number in done)
    pace = _Pace(num_images, resumed, progress)
    broken: list[str] = []

    def one(row: int) -> None:
        file = table.root / table.paths[row]
        try:
            content = read_file(file)
            if content_hash(content) != known[row]:
                raise DataError("changed since it was read first; start again")
            pixels[row] = decode(content, size, variant)
        except DataError as error:
            broken.append(f"{file} ({error})")

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for number in range(-(-num_images // BLOCK)):
            if number in done:
                continue
            known_broken = len(broken)
            rows = range(num_images)[_block(number)]
            list(pool.map(one, rows))
            if len(broken) == known_broken:
                done[number] = _sha256(pixels[_block(number)])
                unfinished.note(number, done[number])
            pace.add(len(rows))
    if broken:
        raise DataError(
            f"{len(broken)} of {num_images} pictures cannot be used, for example "
            f"{'; '.join(sorted(broken)[:3])}: restore them, or remove their rows"
        )
    unfinished.finish(target)
    digest = _digest([done[number] for number in sorted(done)])
    return CacheReport(digest=digest, decoded=num_images - resumed, resumed=resumed)


def open_cache(path: Path | str) -> Cache:
    """The cache as a read-only memory map, uint8 [N, 3, size, size]."""
    array: Cache = np.load(path, mmap_mode="r")
    return array


def _block(number: int) -> slice:
    return slice(number * BLOCK, (number + 1) * BLOCK)


def _sha256(pixels: Cache) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _digest(hashes: Sequence[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


class _Unfinished:
    """The file that is being written and the journal of its finished blocks.

    The journal's first line says of what it is; each further one is a block with the sha256 of its
    pixels and of the contents that they were decoded from. A line that a kill cut short does not
    count.
    """

    def __init__(self, file: Path, contents: Sequence[str], size: int, variant: Variant) -> None:
        self._file = file
        self._journal = file.with_name(f"{file.name}.journal")
        self._contents = contents
        self._shape = (len(contents), 3, size, size)
        self._title = {"recipe": RECIPE, "size": size, "variant": variant}

    def open(self) -> tuple[Cache, dict[int, str]]:
        """The array to write into, and the sha256 of every block that is already whole."""
        noted = self._noted()
        if noted:
            pixels: Cache = np.load(self._file, mmap_mode="r+")
            whole = {n: sha for n, sha in noted.items() if _sha256(pixels[_block(n)]) == sha}
            if len(whole) < len(noted):
                logger.warning("%d blocks are not as noted", len(noted) - len(whole))
        else:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            for path in (self._file, self._journal):
                if path.is_dir():
                    shutil.rmtree(path)
            pixels = np.lib.format.open_memmap(
                self._file, mode="w+", dtype=np.uint8, shape=self._shape
            )
            whole = {}
        self._write("w", self._title)
        for number, sha in whole.items():
            self.note(number, sha)
        return pixels, whole

    def note(self, number: int, sha256: str) -> None:
        """Take down that a block is whole."""
        self._write("a", {"block": number, "sha256": sha256, "of": self._source(number)})

    def finish(self, target: Path) -> None:
        """Put the file where it is wanted and forget how it was made."""
        self._journal.unlink()
        if self._file != target:
            shutil.move(self._file, target)

    def _source(self, number: int) -> str:
        return _digest(self._contents[_block(number)])

    def _write(self, mode: Literal["w", "a"], record: Mapping[str, Any]) -> None:
        with self._journal.open(mode, encoding="utf-8") as journal:
            journal.write(json.dumps(record) + "\n")

    def _noted(self) -> dict[int, str]:
        """The blocks that are noted and whose pictures are still the same."""
        noted: dict[int, str] = {}
        try:
            title, *lines = self._journal.read_text(encoding="utf-8").splitlines()
            shape = np.load(self._file, mmap_mode="r").shape
            if json.loads(title) != self._title or shape != self._shape:
                return {}
            for line in lines:
                record = json.loads(line)
                if record["of"] == self._source(int(record["block"])):
                    noted[int(record["block"])] = record["sha256"]
        except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError):
            # What was read up to a damaged line is compared with the pixels like all the rest.
            return noted
        return noted


class _Pace:
    """Tells the caller how far it is, and the log how fast and how long it will take."""

    def __init__(self, total: int, done: int, progress: ProgressCallback | None) -> None:
        self._total = total
        self._first = self._done = done
        self._progress = progress
        self._start = self._logged = time.monotonic()

    def add(self, count: int) -> None:
        """So many more pictures are done."""
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            rate = (self._done - self._first) / (now - self._start)
            logger.info(
                "%d of %d pictures decoded, %.0f a second, %.0f s left",
                self._done,
                self._total,
                rate,
                (self._total - self._done) / rate,
            )
