"""MUFAC as users have it: ``mufac/``, about 13,000 pictures of Korean families in 8 age classes.

``load_mufac`` reads the published set; ``load_mufac_clean`` leaves out what its known errors would
let leak: identical files within a person, and files that occur under two people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oneshui.data.contents import content_hash, read_file
from oneshui.data.registry import register
from oneshui.data.table import (
    ABSENT,
    ImageTable,
    csv_rows,
    file_sizes,
    numbered,
    require_folders,
)
from oneshui.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: The letters by which the files call the eight classes of ages, 0 to 7.
LETTERS: Final = "abcdefgh"
#: First and last year of every class.
YEARS: Final = ((0, 6), (7, 12), (13, 19), (20, 30), (31, 45), (46, 55), (56, 66), (67, 80))
FOLDER: Final = "mufac"
#: The sets that are pooled, in this order: annotation file and folder of pictures.
PARTS: Final[tuple[tuple[str, str], ...]] = (
    ("custom_train_dataset.csv", "train_images"),
    ("custom_val_dataset.csv", "val_images"),
    ("custom_test_dataset.csv", "test_images"),
)
COLUMNS: Final = ("family_id", "person_id", "age_class", "image_path")
CLASS_NAMES: Final = tuple(f"{first}-{last}" for first, last in YEARS)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One line of an annotation file."""

    person: str
    label: int
    path: str


@register(name="mufac", folder=FOLDER, task="multiclass", num_images=13_068, walk="reference")
def load_mufac(data_dir: Path, *, require_files: bool = True) -> ImageTable:
    """MUFAC as it is published: about 13,000 pictures of Korean families in 8 age classes.

    Args:
        data_dir: The folder that contains ``mufac``.
        require_files: Whether absent and empty pictures are errors.

    Returns:
        Images of the train, val and test files in this order, each in the order of its lines.
        A person is family and person joined by "_" and may occur in several files; people are
        numbered from 0 by first appearance. Paths are relative to ``mufac``.

    Raises:
        DataError: A folder, file, line or picture is absent or wrong; the message names it.
    """
    import numpy as np

    root = Path(data_dir) / FOLDER
    require_folders(
        (root, *(root / folder for _, folder in PARTS)),
        "MUFAC is obtained from its authors after signing their consent form",
    )
    rows: list[_Row] = []
    sizes: list[npt.NDArray[np.int64]] = []
    for name, folder in PARTS:
        part = list(_rows(root / name, folder))
        rows += part
        paths = [row.path for row in part]
        sizes.append(file_sizes(root, paths, root / name, require_files=require_files))
    identity = numbered([row.person for row in rows])
    return ImageTable(
        dataset="mufac",
        task="multiclass",
        class_names=CLASS_NAMES,
        root=root,
        paths=tuple(row.path for row in rows),
        identity=identity,
        label=np.array([row.label for row in rows], dtype=np.int64),
        identity_order=tuple(range(int(identity.max()) + 1)),
        sizes=np.concatenate(sizes),
    )


@register(name="mufac_clean", folder=FOLDER, task="multiclass", num_images=13_068, walk="reference")
def load_mufac_clean(data_dir: Path, *, require_files: bool = True) -> ImageTable:
    """MUFAC without the pictures whose very file occurs more than once.

    Of equal files of one person the first stays; of equal files of several people none does.
    Pictures that only look alike stay: ``python -m oneshui.data.check`` lists them.

    Args:
        data_dir: The folder that contains ``mufac``.
        require_files: Whether absent and empty pictures are errors.

    Returns:
        As ``load_mufac``, with its numbering: a person who loses all pictures leaves a number
        without images, so that a seed shuffles both variants alike.

    Raises:
        DataError: As ``load_mufac``, or if no picture is left.
    """
    import numpy as np

    table = load_mufac(data_dir, require_files=require_files)
    kept = np.flatnonzero(_kept(table))
    if not len(kept):
        raise DataError(f"{table.root} holds no picture that occurs under one person only")
    return replace(
        table,
        dataset="mufac_clean",
        paths=tuple(table.paths[row] for row in kept),
        identity=table.identity[kept],
        label=table.label[kept],
        sizes=table.sizes[kept],
    )


def _rows(path: Path, folder: str) -> Iterator[_Row]:
    """The rows of one annotation file.

    Columns are found by their names, or by their places if the header has other names.
    """
    rows = csv_rows(path, "people, age classes and files of one set")
    _, header = next(rows, (1, []))
    if len(header) < len(COLUMNS):
        raise DataError(
            f"{path} line 1 must be a header of at least {len(COLUMNS)} columns "
            f"({', '.join(COLUMNS)}), not {','.join(header)!r}"
        )
    named = set(COLUMNS) <= set(header)
    places = [header.index(name) for name in COLUMNS] if named else [0, 1, 2, -1]
    seen: set[str] = set()
    for line, cells in rows:
        where = f"{path} line {line}"
        family, person, letter, file = (cells[place] for place in places)
        if not (family and person and file):
            raise DataError(f"{where} lacks a family, a person or a file: {','.join(cells)!r}")
        if len(letter) != 1 or letter not in LETTERS:
            raise DataError(f"{where}: age class {letter!r} is none of the letters a to h")
        if file in seen:
            raise DataError(f"{where}: {file} is listed a second time; remove one of the lines")
        seen.add(file)
        yield _Row(
            person=f"{family}_{person}", label=LETTERS.index(letter), path=f"{folder}/{file}"
        )
    if not seen:
        raise DataError(f"{path} lists no picture; restore it")


def _kept(table: ImageTable) -> npt.NDArray[np.bool_]:
    """Which images stay, bool [N]."""
    import pandas as pd

    content = [
        # An absent file equals no other one.
        path if size == ABSENT else content_hash(read_file(table.root / path))
        for path, size in zip(table.paths, table.sizes.tolist(), strict=True)
    ]
    frame = pd.DataFrame({"content": content, "identity": table.identity})
    owners = frame.groupby("content")["identity"].transform("nunique")
    return (~frame.duplicated() & (owners == 1)).to_numpy(dtype=bool)
