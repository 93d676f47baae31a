"""CelebA-HQ as users have it: ``CelebAMask-HQ/`` with 30,000 pictures of 6,217 people.

The generated faces use the same layout, so this loader reads them too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from oneshui.data.registry import register
from oneshui.data.table import (
    ImageTable,
    file_sizes,
    parse_attributes,
    parse_identities,
    require_folders,
)
from oneshui.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FOLDER = "CelebAMask-HQ"
IMAGES = "CelebA-HQ-img"
ATTRIBUTES = "CelebAMask-HQ-attribute-anno.txt"
IDENTITIES = "CelebA-HQ-identity.txt"
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
MOST_PEOPLE = 30_000
"""Numbers without a picture are people too, so that a number costs memory; a subset keeps those of
the whole set."""


@register(name="celebahq", folder=FOLDER, task="multilabel", num_images=30_000, walk="reference")
def load_celebahq(data_dir: Path, *, require_files: bool = True) -> ImageTable:
    """Read the annotations of a folder in CelebA-HQ's layout.

    Args:
        data_dir: The folder that contains ``CelebAMask-HQ``.
        require_files: Whether absent and empty pictures are errors.

    Returns:
        Images ordered by the number in their file name; identities 0..max, some maybe empty,
        because the published seeds shuffle the empty ones too.

    Raises:
        DataError: A folder, file, line or picture is absent or wrong; the message names it.
    """
    import numpy as np

    root = Path(data_dir) / FOLDER
    pictures = root / IMAGES
    require_folders(
        (root, pictures),
        "CelebA-HQ with identities is obtained from the CelebAMask-HQ project page after "
        "accepting its licence",
    )
    attributes = root / ATTRIBUTES
    names, files, label = parse_attributes(attributes)
    numbers = _numbers(files, attributes)
    identities = root / IDENTITIES
    if not identities.is_file():
        raise DataError(
            f"{identities} is absent: it holds a line like '0.jpg 1234' for every picture; the "
            "published splits need the file that numbers 6,217 people, any other comes of joining "
            f"{MAPPING} (columns idx and orig_file) with CelebA's identity_CelebA.txt"
        )
    identity = parse_identities(identities, files, attributes, max(MOST_PEOPLE, len(files)))
    order = np.argsort(numbers, kind="stable")
    ordered = [files[i] for i in order]
    return ImageTable(
        dataset="celebahq",
        task="multilabel",
        class_names=names,
        root=pictures,
        paths=tuple(ordered),
        identity=identity[order],
        label=label[order],
        identity_order=tuple(range(int(identity.max()) + 1)),
        sizes=file_sizes(pictures, ordered, attributes, require_files=require_files),
    )


def _numbers(files: list[str], attributes: Path) -> npt.NDArray[np.int64]:
    import numpy as np

    numbers = np.empty(len(files), dtype=np.int64)
    for row, name in enumerate(files):
        stem, dot, suffix = name.partition(".")
        if not stem.isdigit() or not dot or suffix.lower() not in ("jpg", "png"):
            raise DataError(f"{attributes} line {row + 3}: {name!r} is not a name like 123.jpg")
        numbers[row] = int(stem)
    ordered = np.sort(numbers)
    gaps = np.flatnonzero(ordered != np.arange(len(ordered)))
    if len(gaps):
        raise DataError(
            f"{attributes}: pictures are numbered from 0 without gaps, but {int(gaps[0])}.jpg "
            "has no line or two"
        )
    return numbers
