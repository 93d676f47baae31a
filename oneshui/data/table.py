"""The table of images that every loader returns, and what loaders share.

A loader reads annotation files and lists folders; it never opens a picture.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.errors import DataError
from oneshui.spec import Task


@dataclass(frozen=True, kw_only=True)
class ImageTable:
    """The images of a dataset with their identities and labels, in the dataset's order.

    Attributes:
        dataset: Name of the dataset.
        task: "multilabel" or "multiclass".
        class_names: Names of the attributes or classes, length C.
        root: Folder that ``paths`` are relative to.
        paths: File of every image, relative, with forward slashes; length N.
        identity: Dataset's own number of the person, int64 [N].
        label: uint8 [N, C] of 0/1 (multilabel) or int64 [N] class index (multiclass).
        identity_order: All identities in the order that seeded shuffles start from.
        sizes: Size of every file in bytes, int64 [N].
    """

    dataset: str
    task: Task
    class_names: tuple[str, ...]
    root: Path
    paths: tuple[str, ...]
    identity: npt.NDArray[np.int64]
    label: npt.NDArray[np.uint8] | npt.NDArray[np.int64]
    identity_order: tuple[int, ...]
    sizes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def fingerprint(self) -> str:
        """sha256 over (path, identity, label, file size) of all rows in order, hexadecimal."""
        digest = hashlib.sha256(f"{self.dataset}|{self.task}|".encode())
        digest.update("\n".join(self.paths).encode())
        for column in (self.identity, self.label, self.sizes):
            digest.update(b"|" + np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def file_sizes(folder: Path, names: Sequence[str], listed_in: Path) -> npt.NDArray[np.int64]:
    """Sizes in bytes of the named files of one folder, int64 [n].

    Raises:
        DataError: Some are absent (says how many and names three), or empty.
    """
    with os.scandir(folder) as entries:
        found = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"{len(missing)} pictures listed in {listed_in} are absent from {folder}, for example "
            f"{', '.join(missing[:3])}; restore them, or remove their lines"
        )
    sizes = np.array([found[name] for name in names], dtype=np.int64)
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        named = ", ".join(names[i] for i in empty[:3])
        raise DataError(f"{len(empty)} pictures in {folder} are empty files, for example {named}")
    return sizes


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file of annotations, without line ends.

    Raises:
        DataError: It is absent, unreadable, or not text.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path} is absent: it holds {what}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): it holds {what}") from None


def parse_attributes(
    path: Path,
) -> tuple[tuple[str, ...], list[str], npt.NDArray[np.uint8]]:
    """CelebA's attribute file: a count, the 40 names, then a file name and 40 values of -1/1.

    Returns:
        Attribute names, file names in file order, and labels uint8 [N, 40] of 0/1.

    Raises:
        DataError: Naming the line, when a line does not parse or the count is wrong.
    """
    lines = read_lines(path, "the attributes of every picture")
    if len(lines) < 3 or not lines[0].strip().isdigit():
        raise DataError(
            f"{path} line 1 must be the number of images, then names, then one line each"
        )
    names = tuple(lines[1].split())
    if len(names) != 40 or len(set(names)) != 40:
        raise DataError(f"{path} line 2 must hold 40 different attribute names, not {len(names)}")
    body = lines[2:]
    if int(lines[0]) != len(body):
        raise DataError(
            f"{path} line 1 announces {lines[0].strip()} images but {len(body)} lines follow; "
            "the file is cut short or was edited: restore it"
        )
    cells = [line.split() for line in body]
    for number, row in enumerate(cells, start=3):
        if len(row) != 41:
            raise DataError(
                f"{path} line {number} has {max(len(row) - 1, 0)} values after the file name, "
                "but 40 are needed"
            )
    frame = pd.DataFrame(cells)
    values = frame.iloc[:, 1:].to_numpy(dtype=object)
    wrong = np.argwhere((values != "1") & (values != "-1"))
    if len(wrong):
        row_index, column = (int(i) for i in wrong[0])
        raise DataError(
            f"{path} line {row_index + 3}: {names[column]} is {values[row_index, column]!r}, "
            "but values are -1 or 1"
        )
    files = frame.iloc[:, 0].tolist()
    duplicated = frame.iloc[:, 0].duplicated().to_numpy()
    if duplicated.any():
        first = int(np.flatnonzero(duplicated)[0])
        raise DataError(f"{path} line {first + 3}: {files[first]} is listed a second time")
    return names, files, (values == "1").astype(np.uint8)


def parse_identities(path: Path, files: Sequence[str], listed_in: Path) -> npt.NDArray[np.int64]:
    """CelebA's identity file, "name number" a line, matched to the attribute file's order.

    Raises:
        DataError: Naming the line, when a line does not parse, names an unknown or repeated
            picture, or when a picture has no line.
    """
    lines = read_lines(path, "the identity of every picture")
    row_of = {name: row for row, name in enumerate(files)}
    identity = np.full(len(files), -1, dtype=np.int64)
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if len(parts) != 2 or not parts[1].isdigit():
            raise DataError(f"{path} line {number}: {line!r} is not a file name and a number")
        row = row_of.get(parts[0])
        if row is None:
            raise DataError(f"{path} line {number}: {parts[0]} is not listed in {listed_in}")
        if identity[row] >= 0:
            raise DataError(f"{path} line {number}: {parts[0]} is listed a second time")
        identity[row] = int(parts[1])
    missing = np.flatnonzero(identity < 0)
    if len(missing):
        raise DataError(
            f"{path} has no line for {len(missing)} pictures of {listed_in}, for example "
            f"{files[int(missing[0])]}; restore the file"
        )
    return identity
