from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from oneshui import load_dataset
from oneshui.data.loaders.femnist import CLASSES, CODES, FOLDER
from oneshui.errors import DataError
from oneshui.faces.generate import FacesSpec
from oneshui.faces.handwriting import picture_character
from oneshui.faces.layouts import LAYOUTS

LAYOUT = "femnist"
SPEC = FacesSpec(identities=10, pictures=5, size=16)


def test_folders_of_classes_are_called_by_the_codes_of_characters() -> None:
    assert len(CLASSES) == len(set(CODES)) == 62
    known = {"30": "0", "39": "9", "41": "A", "4a": "J", "5a": "Z", "61": "a", "6f": "o", "7a": "z"}
    assert {code: CLASSES[CODES.index(code)] for code in known} == known
    assert CLASSES[10] == "A"
    assert CLASSES[36] == "a"


def test_nists_folders_are_read_as_they_unpack(tmp_path: Path) -> None:
    """Two writers; what they wrote is found among the classes, and NIST's other files are not."""
    files = {
        "by_write/hsf_0/f0000_14/d0000_14/d0000_14_00000.png": b"four",
        "by_write/hsf_0/f0000_14/l0000_14/l0000_14_00003.png": b"small a",
        "by_write/hsf_4/f2100_31/c2100_31/c2100_31_00001.png": b"small a again",
        "by_write/hsf_4/f2100_31/d2100_31/d2100_31_00000.png": b"another four",
        "by_class/34/hsf_0/hsf_0_00000.png": b"four",
        "by_class/34/hsf_4/hsf_4_00000.png": b"another four",
        "by_class/34/train_34/train_34_00000.png": b"small a",
        "by_class/34/hsf_0.mit": b"small a again",
        "by_class/61/hsf_0/hsf_0_00007.png": b"small a",
        "by_class/61/hsf_4/hsf_4_00002.png": b"small a again",
        # The same bytes in a later class do not count.
        "by_class/62/hsf_4/hsf_4_00002.png": b"small a again",
    }
    for path, content in files.items():
        (tmp_path / FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / FOLDER / path).write_bytes(content)
    table = load_dataset("femnist", tmp_path)
    assert (table.task, table.class_names) == ("multiclass", CLASSES)
    assert list(table.paths) == [path for path in files if path.startswith("by_write")]
    assert [CLASSES[label] for label in table.label.tolist()] == ["4", "a", "a", "4"]
    assert table.identity.tolist() == [0, 0, 1, 1]
    assert table.sizes.tolist() == [4, 7, 13, 12]


def test_labels_are_those_that_were_drawn(pristine: Path) -> None:
    table = load_dataset("femnist", pristine)
    drawn = {
        item.path.removeprefix(f"{FOLDER}/"): item for item in LAYOUTS["femnist"].pictures(SPEC)
    }
    assert len(drawn) == 2 * len(table) == 2 * SPEC.num_images
    for path, identity, label in zip(
        table.paths, table.identity.tolist(), table.label.tolist(), strict=True
    ):
        item = drawn[path]
        assert identity == item.identity
        assert label == picture_character(SPEC.seed, item.identity, item.picture)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda root: shutil.rmtree(root), r"femnist is absent: .*Special Database 19"),
        (lambda root: shutil.rmtree(root / "by_class"), r"by_class is absent"),
        (
            lambda root: [path.unlink() for path in root.glob("by_write/*/*/*/*.png")],
            r"by_write holds no picture like .*by_write.zip",
        ),
        (
            lambda root: [path.unlink() for path in root.glob("by_class/*/*/*.png")],
            r"by_class holds no picture like .*by_class.zip",
        ),
        (
            lambda root: next(root.glob("by_write/*/f0003_03/*/*.png")).write_bytes(b"other"),
            r"1 pictures of .*by_write are the same as none in .*by_class, for example .*f0003_03",
        ),
        (
            lambda root: next(root.glob("by_write/*/f0003_03/*/*.png")).write_bytes(b""),
            r"1 pictures in .* are empty files, for example by_write/",
        ),
    ],
)
def test_what_is_wrong_is_named(
    data_dir: Path, change: Callable[[Path], object], says: str
) -> None:
    change(data_dir / FOLDER)
    with pytest.raises(DataError, match=says):
        load_dataset("femnist", data_dir)
