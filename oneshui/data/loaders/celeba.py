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

FOLDER = "celeba"
IMAGES = "img_align_celeba"
ATTRIBUTES = "list_attr_celeba.txt"
IDENTITIES = "identity_CelebA.txt"


@register(name="celeba", folder=FOLDER, task="multilabel", num_images=202_599)
def load_celeba(data_dir: Path, *, require_files: bool = True) -> ImageTable:
    """Read the annotations of a folder in CelebA's layout.

    The official partition into train, val and test is not read: the benchmark pools all images.

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
    pictures = root / IMAGES
    require_folders(
        (root, pictures),
        "CelebA is obtained from its project page after accepting its terms, its identities "
        "from the authors on request",
    )
    attributes = root / ATTRIBUTES
    names, files, label = parse_attributes(attributes)
    identity = parse_identities(root / IDENTITIES, files, attributes)
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
