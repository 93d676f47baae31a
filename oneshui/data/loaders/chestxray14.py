"""NIH ChestX-ray14 as users have it: 112,120 chest X-rays of 30,805 patients, 14 findings.

``chestxray14/Data_Entry_2017.csv``, or the edition of 2020 by its own name, lists the pictures.
They lie in ``images/``, as NIH's archives unpack, or in Kaggle's ``images_001/images/`` to
``images_012/images/``. Identity is the patient; NIH's lists of training and test pictures are not
read, because the benchmark pools all pictures.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from oneshui.data.registry import register
from oneshui.data.table import (
    ImageTable,
    appearance_order,
    csv_rows,
    file_sizes,
    require_folders,
)
from oneshui.errors import DataError

FOLDER: Final = "chestxray14"
TABLES: Final = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
IMAGES: Final = "images"
COLUMNS: Final = ("Image Index", "Finding Labels", "Patient ID")
NOTHING: Final = "No Finding"
FINDINGS: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)


@register(name="chestxray14", folder=FOLDER, task="multilabel", num_images=112_120)
def load_chestxray14(data_dir: Path, *, require_files: bool = True) -> ImageTable:
    """Read the table of a folder in ChestX-ray14's layout.

    Args:
        data_dir: The folder that contains ``chestxray14``.
        require_files: Whether absent and empty pictures are errors.

    Returns:
        Images in the order of the table's lines; 14 attributes, all 0 where there is no finding;
        identities are NIH's numbers of patients, in the order in which they first appear.

    Raises:
        DataError: A folder, file, line or picture is absent or wrong; the message names it.
    """
    import numpy as np

    root = Path(data_dir) / FOLDER
    require_folders((root,), "ChestX-ray14 is obtained from the NIH Clinical Center or from Kaggle")
    path = next((root / name for name in TABLES if (root / name).is_file()), root / TABLES[0])
    rows = csv_rows(path, "findings and patient of every picture")
    _, header = next(rows, (1, []))
    absent = [name for name in COLUMNS if name not in header]
    if absent:
        raise DataError(
            f"{path} line 1 must be a header with {', '.join(COLUMNS)}: {absent[0]} is absent"
        )
    places = [header.index(name) for name in COLUMNS]
    files: dict[str, None] = {}
    labels: list[list[bool]] = []
    patients: list[int] = []
    for line, cells in rows:
        where = f"{path} line {line}"
        file, found, patient = (cells[place] for place in places)
        if not file or "/" in file or file in files:
            problem = "listed a second time" if file in files else "no name of a picture"
            raise DataError(f"{where}: {file!r} is {problem}; restore the table")
        findings = set(found.split("|"))
        unknown = sorted(findings - {*FINDINGS, NOTHING})
        if unknown or (NOTHING in findings and len(findings) > 1):
            problem = f"{unknown[0]!r} is none of the 14" if unknown else f"{found!r} is both"
            raise DataError(f"{where}: finding {problem}; restore the table")
        # NIH's first edition fills numbers up with zeros.
        if not (patient.isascii() and patient.isdecimal() and len(patient) <= 18):
            raise DataError(f"{where}: patient {patient!r} is no number; restore the table")
        files[file] = None
        labels.append([name in findings for name in FINDINGS])
        patients.append(int(patient))
    if not files:
        raise DataError(f"{path} lists no picture; restore it")
    folders = _folders(root)
    paths = tuple(f"{folders.get(file, IMAGES)}/{file}" for file in files)
    identity = np.array(patients, dtype=np.int64)
    return ImageTable(
        dataset="chestxray14",
        task="multilabel",
        class_names=FINDINGS,
        root=root,
        paths=paths,
        identity=identity,
        label=np.array(labels, dtype=np.uint8),
        identity_order=appearance_order(identity),
        sizes=file_sizes(root, paths, path, require_files=require_files),
    )


def _folders(root: Path) -> dict[str, str]:
    """In which folder below the root every picture lies, by its name; of several the first."""
    candidates = [root / IMAGES, *sorted(root.glob(f"{IMAGES}_*"))]
    found: dict[str, str] = {}
    for folder in candidates:
        pictures = folder / IMAGES if (folder / IMAGES).is_dir() else folder
        if pictures.is_dir():
            name = pictures.relative_to(root).as_posix()
            with os.scandir(pictures) as entries:
                for entry in entries:
                    found.setdefault(entry.name, name)
    return found
