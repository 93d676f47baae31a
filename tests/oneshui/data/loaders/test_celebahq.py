from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.text_files import edit

from oneshui import load_dataset
from oneshui.data.contents import fingerprint
from oneshui.data.loaders.celebahq import ATTRIBUTES, FOLDER, IDENTITIES, IMAGES
from oneshui.errors import DataError, InputError
from oneshui.faces.generate import FacesSpec

LAYOUT = "celebahq"
SPEC = FacesSpec(identities=12, pictures=2, size=16)


def test_reads_what_the_files_say(pristine: Path) -> None:
    table = load_dataset("celebahq", pristine)
    assert len(table) == 24
    assert table.paths == tuple(f"{i}.jpg" for i in range(24))
    assert table.identity_order == tuple(range(12))
    assert table.label.shape == (24, 40)
    assert table.label.dtype == np.uint8
    lines = (pristine / FOLDER / ATTRIBUTES).read_text(encoding="utf-8").splitlines()
    for row, line in enumerate(lines[2:]):
        assert [int(v) == 1 for v in line.split()[1:]] == table.label[row].astype(bool).tolist()
    for line in (pristine / FOLDER / IDENTITIES).read_text(encoding="utf-8").splitlines():
        name, identity = line.split()
        assert table.identity[int(name.split(".")[0])] == int(identity)
    assert table.sizes[3] == (pristine / FOLDER / IMAGES / "3.jpg").stat().st_size


def test_lines_may_stand_in_any_order(data_dir: Path) -> None:
    before = load_dataset("celebahq", data_dir)
    edit(data_dir / FOLDER / ATTRIBUTES, lambda lines: lines[:2] + lines[2:][::-1])
    edit(data_dir / FOLDER / IDENTITIES, lambda lines: lines[::-1])
    assert fingerprint(load_dataset("celebahq", data_dir)) == fingerprint(before)


def test_identities_without_images_keep_their_place_in_the_order(data_dir: Path) -> None:
    def nobody_is_3(lines: list[str]) -> list[str]:
        return [line.rsplit(" ", 1)[0] + " 4" if line.endswith(" 3") else line for line in lines]

    edit(data_dir / FOLDER / IDENTITIES, nobody_is_3)
    table = load_dataset("celebahq", data_dir)
    assert 3 not in table.identity
    assert table.identity_order == (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


def test_the_fingerprint_follows_labels_identities_and_pictures(data_dir: Path) -> None:
    seen = {fingerprint(load_dataset("celebahq", data_dir))}
    flip = {"1": "-1", "-1": "1"}

    def flip_one(lines: list[str]) -> list[str]:
        cells = lines[2].split()
        return [*lines[:2], " ".join([cells[0], flip[cells[1]], *cells[2:]]), *lines[3:]]

    edit(data_dir / FOLDER / ATTRIBUTES, flip_one)
    seen.add(fingerprint(load_dataset("celebahq", data_dir)))
    edit(data_dir / FOLDER / IDENTITIES, lambda lines: [f"{lines[0].split()[0]} 11", *lines[1:]])
    seen.add(fingerprint(load_dataset("celebahq", data_dir)))
    with (data_dir / FOLDER / IMAGES / "0.jpg").open("ab") as stream:
        stream.write(b"x")
    seen.add(fingerprint(load_dataset("celebahq", data_dir)))
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda root: shutil.rmtree(root), r"CelebAMask-HQ is absent.*sweep=demo"),
        (lambda root: shutil.rmtree(root / IMAGES), r"CelebA-HQ-img is absent"),
        (lambda root: (root / ATTRIBUTES).unlink(), r"attribute-anno.txt is absent"),
        (
            lambda root: (root / IDENTITIES).unlink(),
            r"identity.txt is absent: .*joining CelebA-HQ-to-CelebA-mapping.txt .* with CelebA's",
        ),
        (
            # Kept as an empty person each, they would take 17 GB.
            lambda root: edit(root / IDENTITIES, lambda x: [*x[:3], "3.jpg 123456789", *x[4:]]),
            r"identity.txt line 4: nobody can have the number 123456789 .* 29999 is the largest",
        ),
        (lambda root: edit(root / ATTRIBUTES, lambda x: x[:-3]), r"announces 24 .* 21 lines"),
        (lambda root: edit(root / ATTRIBUTES, lambda x: ["many", *x[1:]]), r"line 1 must be"),
        (lambda root: edit(root / ATTRIBUTES, lambda x: [x[0], "a b", *x[2:]]), r"line 2 .*not 2"),
        (
            lambda root: edit(root / ATTRIBUTES, lambda x: [*x[:4], x[4] + " 1", *x[5:]]),
            r"line 5 has 41 values",
        ),
        (
            lambda root: edit(root / ATTRIBUTES, lambda x: [*x[:4], x[4][:-2] + " 0", *x[5:]]),
            r"line 5: Young is '0'",
        ),
        (
            lambda root: edit(root / ATTRIBUTES, lambda x: [*x[:4], x[3], *x[5:]]),
            r"line 5: .* second time",
        ),
        (
            lambda root: edit(root / IDENTITIES, lambda x: [*x[:3], "3.jpg nobody", *x[4:]]),
            r"identity.txt line 4: '3.jpg nobody'",
        ),
        (lambda root: edit(root / IDENTITIES, lambda x: x[:-1]), r"no line for 1 pictures"),
        (
            lambda root: edit(root / IDENTITIES, lambda x: [*x, "99.jpg 1"]),
            r"line 25: 99.jpg is not listed",
        ),
        (lambda root: (root / IMAGES / "7.jpg").unlink(), r"1 pictures listed .* absent.* 7.jpg"),
        (lambda root: (root / IMAGES / "7.jpg").write_bytes(b""), r"empty files.* 7.jpg"),
    ],
)
def test_names_file_and_line_of_what_is_wrong(
    data_dir: Path, change: Callable[[Path], object], says: str
) -> None:
    change(data_dir / FOLDER)
    with pytest.raises(DataError, match=says) as caught:
        load_dataset("celebahq", data_dir)
    assert "\n" not in str(caught.value)


def test_a_gap_in_the_numbering_is_an_error(data_dir: Path) -> None:
    root = data_dir / FOLDER
    for file in (ATTRIBUTES, IDENTITIES):
        edit(root / file, lambda x: [line for line in x if not line.startswith("5.jpg")])
    edit(root / ATTRIBUTES, lambda x: ["23", *x[1:]])
    with pytest.raises(DataError, match=r"5.jpg has no line"):
        load_dataset("celebahq", data_dir)


def test_an_unknown_layout_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"celebahk.*did you mean 'celebahq'"):
        load_dataset("celebahk", tmp_path)
