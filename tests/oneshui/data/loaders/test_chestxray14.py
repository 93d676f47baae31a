from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.text_files import edit

from oneshui import load_dataset
from oneshui.data.contents import fingerprint
from oneshui.data.loaders.chestxray14 import FINDINGS, FOLDER, TABLES
from oneshui.errors import DataError
from oneshui.faces.chests import findings
from oneshui.faces.generate import FacesSpec
from oneshui.faces.layouts import LAYOUTS

LAYOUT = "chestxray14"
SPEC = FacesSpec(identities=12, pictures=4, size=16)

KAGGLE = """\
Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],
00000001_000.png,Cardiomegaly,0,1,58,M,PA,2682,2749,0.143,0.143,
00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,2894,2729,0.143,0.143,
00000003_000.png,Hernia,0,3,81,F,PA,2582,2991,0.143,0.143,
00000002_000.png,No Finding,0,2,81,M,PA,2500,2048,0.171,0.171,
"""
OF_2020 = """\
Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position,\
OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]
00000001_000.png,Cardiomegaly,000,00000001,057Y,M,PA,2682,2749,0.143,0.143
00000001_001.png,Cardiomegaly|Emphysema,001,00000001,058Y,M,PA,2894,2729,0.143,0.143
00000003_000.png,Hernia,000,00000003,074Y,F,PA,2582,2991,0.143,0.143
00000002_000.png,No Finding,000,00000002,080Y,M,PA,2500,2048,0.171,0.171
"""


@pytest.mark.parametrize("text", [KAGGLE, OF_2020], ids=["2017", "2020"])
@pytest.mark.parametrize(
    "folders", [("images", "images"), ("images_001/images", "images_002/images")]
)
def test_both_editions_are_read_as_they_are_downloaded(
    tmp_path: Path, text: str, folders: tuple[str, str]
) -> None:
    root = tmp_path / FOLDER
    for patient, folder in zip(("1_000", "1_001", "2_000", "3_000"), (0, 0, 1, 1), strict=True):
        (root / folders[folder]).mkdir(parents=True, exist_ok=True)
        (root / folders[folder] / f"0000000{patient}.png").write_bytes(b"a picture")
    (root / TABLES["Sex" in text]).write_text(text)
    (root / "BBox_List_2017.csv").write_text("not read")
    table = load_dataset("chestxray14", tmp_path)
    assert (table.task, table.class_names) == ("multilabel", FINDINGS)
    assert len(FINDINGS) == 14
    assert table.paths == (
        f"{folders[0]}/00000001_000.png",
        f"{folders[0]}/00000001_001.png",
        f"{folders[1]}/00000003_000.png",
        f"{folders[1]}/00000002_000.png",
    )
    assert table.identity.tolist() == [1, 1, 3, 2]
    assert table.identity_order == (1, 3, 2)
    named = [[name for name, has in zip(FINDINGS, row, strict=True) if has] for row in table.label]
    assert named == [["Cardiomegaly"], ["Cardiomegaly", "Emphysema"], ["Hernia"], []]
    assert table.label.dtype == np.uint8


def test_labels_are_those_that_were_drawn(pristine: Path) -> None:
    table = load_dataset("chestxray14", pristine)
    pictures = LAYOUTS["chestxray14"].pictures(SPEC)
    assert [f"{FOLDER}/{path}" for path in table.paths] == [item.path for item in pictures]
    assert table.identity.tolist() == [item.identity + 1 for item in pictures]
    drawn = [findings(SPEC.seed, item.identity, item.picture) for item in pictures]
    assert table.label.tolist() == [[int(name in found) for name in FINDINGS] for found in drawn]
    assert [] in map(list, drawn)


def test_the_fingerprint_does_not_know_where_the_folder_lies(
    pristine: Path, data_dir: Path
) -> None:
    here, there = (load_dataset("chestxray14", folder) for folder in (pristine, data_dir))
    assert here.root != there.root
    assert fingerprint(here) == fingerprint(there)


def cell(place: int, value: str) -> Callable[[list[str]], list[str]]:
    """Sets one cell of line 3."""

    def change(lines: list[str]) -> list[str]:
        row = lines[2].split(",")
        row[place] = value
        return [*lines[:2], ",".join(row), *lines[3:]]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda root: shutil.rmtree(root), r"chestxray14 is absent: .*NIH"),
        (lambda root: (root / TABLES[0]).unlink(), r"Data_Entry_2017.csv is absent"),
        (
            lambda root: edit(root / TABLES[0], lambda lines: ["a,b", *lines[1:]]),
            r"line 1 must be a header .*Image Index is absent",
        ),
        (lambda root: edit(root / TABLES[0], lambda lines: lines[:1]), r"lists no picture"),
        (
            lambda root: edit(root / TABLES[0], cell(1, "Cough")),
            r"line 3: finding 'Cough' is none of the 14",
        ),
        (
            lambda root: edit(root / TABLES[0], cell(1, "Mass|No Finding")),
            r"line 3: finding 'Mass.No Finding' is both",
        ),
        (
            lambda root: edit(root / TABLES[0], cell(3, "one")),
            r"line 3: patient 'one' is no number",
        ),
        (
            lambda root: edit(root / TABLES[0], cell(0, "00000001_000.png")),
            r"line 3: '00000001_000.png' is listed a second time",
        ),
        (
            lambda root: edit(root / TABLES[0], cell(0, "../a.png")),
            r"line 3: '../a.png' is no name of a picture",
        ),
        (
            lambda root: edit(root / TABLES[0], lambda lines: [*lines[:2], lines[2] + ",x"]),
            r"line 3 has 12 cells, but the header has 11",
        ),
        (
            lambda root: (root / "images" / "00000002_001.png").unlink(),
            r"1 pictures listed in .*Data_Entry_2017.csv are absent .*images/00000002_001.png",
        ),
    ],
)
def test_what_is_wrong_is_named(data_dir: Path, change: Callable[[Path], None], says: str) -> None:
    change(data_dir / FOLDER)
    with pytest.raises(DataError, match=says):
        load_dataset("chestxray14", data_dir)


def test_absent_pictures_may_be_left_to_the_audit(data_dir: Path) -> None:
    (data_dir / FOLDER / "images" / "00000002_001.png").unlink()
    table = load_dataset("chestxray14", data_dir, require_files=False)
    assert (table.sizes == -1).sum() == 1
