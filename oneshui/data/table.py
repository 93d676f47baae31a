"""The table of images that every loader returns, and what loaders share.

A loader reads annotation files and lists folders; it never opens a picture.
Numpy and pandas are imported inside the functions: planning imports the loaders, and they this.
"""

from __future__ import annotations

import csv
import io
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oneshui.errors import DataError
from oneshui.spec import Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Digits of the longest number that is sure to fit into int64.
_LONGEST_NUMBER = 18
#: Size that stands for a picture that is not there, in tables that may lack some.
ABSENT = -1
TABLES = (".csv", ".parquet")
"""How a table ends that may be named in place of its folder."""


class AbsentDatasetError(DataError):
    """The folder or table of a dataset is not where it was looked for."""


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
        sizes: Size of every file in bytes, int64 [N]; ``ABSENT`` for a picture that is not there,
            which only a loader called with ``require_files=False`` leaves in.
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


def root_of(place: Path) -> Path:
    """The folder below which the pictures are, where a dataset is said to be in this place.

    Args:
        place: The dataset's folder, or a table, which lists pictures beside and below itself.
    """
    return place.parent if place.suffix in TABLES and not place.is_dir() else place


def require_folders(folders: Sequence[Path], remedy: str) -> None:
    """Check that a dataset's folders are there.

    Args:
        folders: The folders, the outermost first.
        remedy: How the dataset is obtained.

    Raises:
        AbsentDatasetError: The first of them that is absent.
    """
    for folder in folders:
        if not folder.is_dir():
            raise AbsentDatasetError(
                f"{folder} is absent: {remedy}; set data_dir to the folder that contains "
                f"{folders[0].name}, or use sweep=demo, which generates its faces"
            )


def file_sizes(
    folder: Path, names: Sequence[str], listed_in: Path, *, require_files: bool = True
) -> npt.NDArray[np.int64]:
    """Sizes in bytes of the named files.

    Args:
        folder: What the names are relative to.
        names: The files.
        listed_in: The annotation file that lists them, for messages.
        require_files: Whether absent and empty files are errors; absent ones are ``ABSENT`` if
            not.

    Returns:
        int64 [n].

    Raises:
        DataError: Some are absent (says how many and names three), or empty; or a name has
            another, shorter spelling, or leaves the folder.
    """
    import numpy as np

    for name in names:
        if "/" in name and (posixpath.normpath(name) != name or name.startswith(("/", "../"))):
            raise DataError(
                f"{listed_in} lists {name}: write names without . and .., of files in {folder}"
            )
    sizes = np.array([_size(folder / name) for name in names], dtype=np.int64)
    if not require_files:
        return sizes
    missing = np.flatnonzero(sizes == ABSENT)
    if len(missing):
        raise DataError(
            f"{len(missing)} pictures listed in {listed_in} are absent from {folder}, for example "
            f"{', '.join(names[i] for i in missing[:3])}; restore them, or remove their lines"
        )
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        named = ", ".join(names[i] for i in empty[:3])
        raise DataError(
            f"{len(empty)} pictures in {folder} are empty files, for example {named}; "
            "restore them from the original dataset"
        )
    return sizes


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be looked at ({error})") from None
    return status.st_size if stat.S_ISREG(status.st_mode) else ABSENT


def numbered(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """A number for every name, int64 [n]: 0 for the name that appears first, and so on."""
    import numpy as np

    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], dtype=np.int64)


def appearance_order(identity: npt.NDArray[np.int64]) -> tuple[int, ...]:
    """The different numbers of an int64 [N] in the order in which they first appear."""
    return tuple(dict.fromkeys(identity.tolist()))


def read_text(path: Path, what: str) -> str:
    """A text file of annotations without byte order mark; its line ends are as they are.

    Raises:
        DataError: It is absent, unreadable, or not text.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is absent: it holds {what}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): it holds {what}, as text in UTF-8"
        ) from None


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file of annotations; blank ones at its end do not count.

    Raises:
        DataError: It is absent, unreadable, or not text.
    """
    # Not splitlines(), which takes more than line ends for one.
    lines = list(io.StringIO(read_text(path, what), newline=None))
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.rstrip("\n") for line in lines]


def csv_rows(path: Path, what: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not blank: (number of the line, cells without padding).

    Args:
        path: The file.
        what: What it holds, for messages.

    Raises:
        DataError: It is absent or no CSV text, or a row has not as many cells as the first.
    """
    reader = csv.reader(io.StringIO(read_text(path, what), newline=""))
    width = 0
    try:
        for cells in reader:
            width = width or len(cells)
            if cells and len(cells) != width:
                raise DataError(
                    f"{path} line {reader.line_num} has {len(cells)} cells, but the header has "
                    f"{width}"
                )
            if cells:
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise DataError(
            f"{path} line {reader.line_num}: {error}; is a quotation mark left open above?"
        ) from None


def parse_attributes(
    path: Path,
) -> tuple[tuple[str, ...], list[str], npt.NDArray[np.uint8]]:
    """CelebA's attribute file: a count, the 40 names, then a file name and 40 values of -1/1.

    Kaggle's edition ends in ``.csv``, has commas for spaces, and no count.

    Returns:
        Attribute names, file names in file order, and labels uint8 [N, 40] of 0/1.

    Raises:
        DataError: Naming the line, when a line does not parse or the count is wrong.
    """
    import numpy as np
    import pandas as pd

    lines = read_lines(path, "the attributes of every picture")
    if path.suffix == ".csv":
        heading, *body = (line.replace(",", " ") for line in lines or [""])
        names, first = tuple(heading.split()[1:]), 2
    else:
        if len(lines) < 3 or not lines[0].strip().isdecimal():
            raise DataError(
                f"{path} line 1 must be the number of images, then names, then one line each"
            )
        names, body, first = tuple(lines[1].split()), lines[2:], 3
        if int(lines[0]) != len(body):
            raise DataError(
                f"{path} line 1 announces {lines[0].strip()} images but {len(body)} lines follow; "
                "the file is cut short or was edited: restore it"
            )
    if len(names) != 40 or len(set(names)) != 40:
        raise DataError(
            f"{path} line {first - 1} must hold 40 different attribute names, not {len(names)}"
        )
    if not body:
        raise DataError(f"{path} lists no picture; restore it")
    label = _signs(path, names, body, first)
    files = [line.split(maxsplit=1)[0] for line in body]
    duplicated = np.flatnonzero(pd.Series(files).duplicated())
    if len(duplicated):
        row = int(duplicated[0])
        raise DataError(f"{path} line {row + first}: {files[row]} is listed a second time")
    return names, files, label


def _signs(
    path: Path, names: Sequence[str], body: Sequence[str], first: int
) -> npt.NDArray[np.uint8]:
    """The values of all lines, uint8 [N, 40]: 1 for "1" and 0 for "-1"; the first has a number.

    CelebA has eight million of them, so they are found in the bytes of the whole text at once.
    """
    import numpy as np

    text = np.frombuffer("\n".join(body).encode(), dtype=np.uint8)
    gap = (text == ord(" ")) | (text == ord("\t")) | (text == ord("\n"))
    begins, ends = ~gap, ~gap
    begins[1:] &= gap[:-1]
    ends[:-1] &= gap[1:]
    start = np.flatnonzero(begins)
    length = np.flatnonzero(ends) - start + 1
    line = np.searchsorted(np.flatnonzero(text == ord("\n")), start)
    words = np.bincount(line, minlength=len(body))
    uneven = np.flatnonzero(words != 1 + len(names))
    if len(uneven):
        row = int(uneven[0])
        raise DataError(
            f"{path} line {row + first} has {max(int(words[row]) - 1, 0)} values after the file "
            f"name, but {len(names)} are needed"
        )
    last = text[start + length - 1]
    positive = (length == 1) & (last == ord("1"))
    negative = (length == 2) & (text[start] == ord("-")) & (last == ord("1"))
    shape = (len(body), 1 + len(names))
    wrong = np.argwhere(~(positive | negative).reshape(shape)[:, 1:])
    if len(wrong):
        row, column = (int(i) for i in wrong[0])
        raise DataError(
            f"{path} line {row + first}: {names[column]} is {body[row].split()[column + 1]!r}, "
            "but values are -1 or 1"
        )
    label: npt.NDArray[np.uint8] = positive.reshape(shape)[:, 1:].astype(np.uint8)
    return label


def parse_identities(
    path: Path, files: Sequence[str], listed_in: Path, below: int = 10**_LONGEST_NUMBER
) -> npt.NDArray[np.int64]:
    """CelebA's identity file, "name number" a line, matched to the attribute file's order.

    If it ends in ``.csv`` it has a comma for the space, and maybe a heading.

    Args:
        path: The file.
        files: The pictures.
        listed_in: The attribute file, for messages.
        below: What every number must be less than.

    Raises:
        DataError: Naming the line, when a line does not parse, names an unknown or repeated
            picture, or when a picture has no line.
    """
    import numpy as np

    lines = read_lines(path, "the identity of every picture")
    is_csv = path.suffix == ".csv"
    row_of = {name: row for row, name in enumerate(files)}
    identity = np.full(len(files), -1, dtype=np.int64)
    for number, line in enumerate(lines, start=1):
        parts = line.replace(",", " ").split() if is_csv else line.split()
        if is_csv and number == 1 and parts and not parts[-1].isdecimal():
            continue
        if len(parts) != 2 or not parts[1].isdecimal() or len(parts[1]) > _LONGEST_NUMBER:
            raise DataError(f"{path} line {number}: {line!r} is not a file name and a number")
        row = row_of.get(parts[0])
        if row is None:
            raise DataError(f"{path} line {number}: {parts[0]} is not listed in {listed_in}")
        if identity[row] >= 0:
            raise DataError(f"{path} line {number}: {parts[0]} is listed a second time")
        if int(parts[1]) >= below:
            raise DataError(
                f"{path} line {number}: nobody can have the number {parts[1]} where people are "
                f"numbered from 0 to the largest; {below - 1} is the largest that is taken"
            )
        identity[row] = int(parts[1])
    missing = np.flatnonzero(identity < 0)
    if len(missing):
        raise DataError(
            f"{path} has no line for {len(missing)} pictures of {listed_in}, for example "
            f"{files[int(missing[0])]}; restore the file"
        )
    return identity
