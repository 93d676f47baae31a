"""FEMNIST as users have it: handwritten digits and letters of some 3,600 writers, 62 classes.

It is NIST's Special Database 19, second edition, by writer: ``femnist/by_write/`` and
``femnist/by_class/`` as NIST's two archives unpack. The first says who wrote a picture and not what
it shows, the second the reverse; the same file lies in both, so a class is found by what the files
contain, as the scripts of LEAF do (arXiv 1812.01097), which calls the set FEMNIST. Both folders are
read whole, which takes minutes for their 1.6 million files.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from oneshui.data.contents import content_hash, read_file
from oneshui.data.registry import register
from oneshui.data.table import ImageTable, appearance_order, file_sizes, numbered, require_folders
from oneshui.errors import DataError

FOLDER: Final = "femnist"
BY_WRITER: Final = "by_write"
BY_CLASS: Final = "by_class"
CLASSES: Final = (*string.digits, *string.ascii_uppercase, *string.ascii_lowercase)
#: NIST calls a class's folder by the character's code in hexadecimal.
CODES: Final = tuple(f"{ord(character):x}" for character in CLASSES)


@register(name="femnist", folder=FOLDER, task="multiclass", num_images=805_263)
def load_femnist(data_dir: Path, *, require_files: bool = True) -> ImageTable:
    """Read a folder in the layout of NIST's Special Database 19.

    Args:
        data_dir: The folder that contains ``femnist``.
        require_files: Whether empty pictures are errors; absent ones are in no table.

    Returns:
        The pictures of ``by_write`` in the order of their paths; identities are the writers
        (``f0000_14``), numbered from 0 by first appearance; classes 0-9, A-Z, a-z. Of a picture
        that lies in several classes the first counts, as with LEAF.

    Raises:
        DataError: A folder or picture is absent or wrong; the message names it.
    """
    import numpy as np

    root = Path(data_dir) / FOLDER
    written, classified = root / BY_WRITER, root / BY_CLASS
    require_folders(
        (root, written, classified),
        "FEMNIST is NIST's Special Database 19, whose archives by_write.zip and by_class.zip are "
        "unpacked there",
    )
    # hsf_0/f0000_14/d0000_14/d0000_14_00000.png: part, writer, kind of text, picture.
    paths = sorted(str(path.relative_to(root)) for path in written.glob("*/*/*/*.png"))
    if not paths:
        raise DataError(
            f"{written} holds no picture like hsf_0/f0000_14/d0000_14/d0000_14_00000.png; unpack "
            "by_write.zip there"
        )
    sizes = file_sizes(root, paths, written, require_files=require_files)
    class_of: dict[str, int] = {}
    for number, code in enumerate(CODES):
        # Beside hsf_0 to hsf_7 there are NIST's selections of them, train_30 for example.
        pictures = sorted((classified / code).glob("hsf_*/*.png"))
        for content in _contents(pictures):
            class_of.setdefault(content, number)
    if not class_of:
        raise DataError(
            f"{classified} holds no picture like 30/hsf_0/hsf_0_00000.png; unpack by_class.zip "
            "there"
        )
    label = [class_of.get(content, -1) for content in _contents(root / path for path in paths)]
    lost = [path for path, number in zip(paths, label, strict=True) if number < 0]
    if lost:
        raise DataError(
            f"{len(lost)} pictures of {written} are the same as none in {classified}, for example "
            f"{', '.join(lost[:3])}; restore both from NIST's archives"
        )
    identity = numbered([path.split("/")[2] for path in paths])
    return ImageTable(
        dataset="femnist",
        task="multiclass",
        class_names=CLASSES,
        root=root,
        paths=tuple(paths),
        identity=identity,
        label=np.array(label, dtype=np.int64),
        identity_order=appearance_order(identity),
        sizes=sizes,
    )


def _contents(paths: Iterable[Path]) -> list[str]:
    """The content hash of every file."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda path: content_hash(read_file(path)), paths))
