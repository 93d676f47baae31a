"""CelebA as users have it: ``celeba/`` with 202,599 pictures of 10,177 people.

torchvision's CelebA class is not used: it accepts only the official files, which excludes subsets
and generated faces, and does not say what it dislikes about others.
"""

from __future__ import annotations

from pathlib import Path

from oneshui.data.registry import register
from oneshui.data.table import (
    ImageTable,
    appearance_order,
    file_sizes,
    parse_attributes,
    parse_identities,
    require_folders,
)
from oneshui.errors import DataError

FOLDER = "celeba"
IMAGES = "img_align_celeba"
ATTRIBUTES = "list_attr_celeba.txt"
IDENTITIES = "identity_CelebA.txt"


@register(name="celeba", folder=FOLDER, task="multilabel", num_images=202_599, walk="reference")
def load_celeba(data_dir: Path, *, require_files: bool = True) -> ImageTable:
    """Read the annotations of a folder in CelebA's layout.

    The official partition into train, val and test is not read: the benchmark pools all images.
    Kaggle's edition (``img_align_celeba`` inside of itself, ``.csv`` for ``.txt``) and the folders
    ``Anno`` and ``Img`` of the authors' drive are read as they are.

    Args:
        data_dir: The folder that contains ``celeba``.
        require_files: Whether absent and empty pictures are errors.

    Returns:
        Images in the order of the lines of ``list_attr_celeba.txt``; identities in the order in
        which they first appear there, because the published seeds shuffle them in that order.

    Raises:
        DataError: A folder, file, line or picture is absent or wrong; the message names it.
    """
    root = Path(data_dir) / FOLDER
    pictures = _pictures(root)
    archives = [*root.glob(f"{IMAGES}.zip"), *root.glob(f"Img/{IMAGES}.zip")]
    require_folders(
        (root, pictures),
        f"unpack {archives[0]} there"
        if archives
        else "CelebA is obtained from its project page after accepting its terms, its identities "
        "from the authors on request",
    )
    attributes, identities = _annotations(root, ATTRIBUTES), _annotations(root, IDENTITIES)
    names, files, label = parse_attributes(attributes)
    if not identities.is_file():
        raise DataError(
            f"{identities} is absent: it holds a line like '000001.jpg 2880' for every picture; "
            "Kaggle's edition has none, the authors give it in the folder Anno of their drive or "
            "on request"
        )
    identity = parse_identities(identities, files, attributes)
    return ImageTable(
        dataset="celeba",
        task="multilabel",
        class_names=names,
        root=pictures,
        paths=tuple(files),
        identity=identity,
        label=label,
        identity_order=appearance_order(identity),
        sizes=file_sizes(pictures, files, attributes, require_files=require_files),
    )


def _pictures(root: Path) -> Path:
    """The folder of the pictures, or where it should be."""
    folder = root / IMAGES
    if not folder.is_dir() and (root / "Img" / IMAGES).is_dir():
        folder = root / "Img" / IMAGES
    return folder / IMAGES if (folder / IMAGES).is_dir() else folder


def _annotations(root: Path, name: str) -> Path:
    """An annotation file in one of its editions, or where it should be."""
    editions = [root / name, root / "Anno" / name]
    editions += [path.with_suffix(".csv") for path in editions]
    return next((path for path in editions if path.is_file()), editions[0])
