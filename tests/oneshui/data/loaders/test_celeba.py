from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.text_files import edit

from oneshui import load_dataset
from oneshui.data.contents import fingerprint
from oneshui.data.loaders.celeba import ATTRIBUTES, FOLDER, IDENTITIES, IMAGES
from oneshui.errors import DataError
from oneshui.faces import picture_labels
from oneshui.faces.generate import FacesSpec
from oneshui.faces.layouts import LAYOUTS

LAYOUT = "celeba"
SPEC = FacesSpec(identities=12, pictures=2, size=22)


def test_reads_what_was_drawn(pristine: Path) -> None:
    table = load_dataset("celeba", pristine)
    assert (table.dataset, table.task, len(table)) == ("celeba", "multilabel", 24)
    assert table.paths == tuple(f"{i:06d}.jpg" for i in range(1, 25))
    assert table.label.dtype == np.uint8
    for row, item in enumerate(LAYOUTS["celeba"].pictures(SPEC)):
        assert table.identity[row] == item.identity + 1
        assert tuple(table.label[row] == 1) == picture_labels(
            SPEC.seed, item.identity, item.picture
        )
    assert table.sizes[3] == (pristine / FOLDER / IMAGES / "000004.jpg").stat().st_size


def test_identities_are_ordered_by_first_appearance(data_dir: Path) -> None:
    table = load_dataset("celeba", data_dir)
    assert table.identity_order == tuple(dict.fromkeys(table.identity.tolist()))
    assert table.identity_order != tuple(sorted(table.identity_order))
    edit(data_dir / FOLDER / ATTRIBUTES, lambda x: [*x[:2], *x[2:][::-1]])
    turned = load_dataset("celeba", data_dir)
    assert turned.paths == table.paths[::-1]
    assert turned.identity.tolist() == table.identity.tolist()[::-1]
    assert turned.identity_order == tuple(dict.fromkeys(turned.identity.tolist()))


def test_the_partition_and_other_files_are_not_needed(data_dir: Path) -> None:
    before = fingerprint(load_dataset("celeba", data_dir))
    (data_dir / FOLDER / "list_eval_partition.txt").unlink()
    (data_dir / FOLDER / "list_attr_celeba.csv").write_text("Kaggle's\n")
    assert fingerprint(load_dataset("celeba", data_dir)) == before


def test_a_subset_is_a_dataset(data_dir: Path) -> None:
    edit(data_dir / FOLDER / ATTRIBUTES, lambda x: ["5", x[1], *x[4:9]])
    edit(data_dir / FOLDER / IDENTITIES, lambda x: x[2:7])
    assert load_dataset("celeba", data_dir).paths == tuple(f"{i:06d}.jpg" for i in range(3, 8))


def test_tabs_and_windows_line_ends_are_read(data_dir: Path) -> None:
    before = fingerprint(load_dataset("celeba", data_dir))
    path = data_dir / FOLDER / ATTRIBUTES
    text = path.read_text().replace(" ", "\t").replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert fingerprint(load_dataset("celeba", data_dir)) == before


def as_kaggle(root: Path) -> None:
    """Pictures one folder deeper, commas, a heading and no count."""
    (root / IMAGES).rename(root / "moved")
    (root / IMAGES).mkdir()
    (root / "moved").rename(root / IMAGES / IMAGES)
    for name, heading in ((ATTRIBUTES, "image_id"), (IDENTITIES, "image_id identity")):
        lines = (root / name).read_text().splitlines()
        if name == ATTRIBUTES:
            heading, lines = f"{heading} {lines[1]}", lines[2:]
        text = "".join(",".join(line.split()) + "\r\n" for line in [heading, *lines])
        (root / name).with_suffix(".csv").write_text(text)
        (root / name).unlink()


def as_drive(root: Path) -> None:
    for folder, names in (("Anno", (ATTRIBUTES, IDENTITIES)), ("Img", (IMAGES,))):
        (root / folder).mkdir()
        for name in names:
            (root / name).rename(root / folder / name)


@pytest.mark.parametrize("arrange", [as_kaggle, as_drive])
def test_other_editions_are_the_same_dataset(
    data_dir: Path, arrange: Callable[[Path], None]
) -> None:
    before = fingerprint(load_dataset("celeba", data_dir))
    arrange(data_dir / FOLDER)
    assert fingerprint(load_dataset("celeba", data_dir)) == before


def test_blank_lines_at_the_end_do_not_count(data_dir: Path) -> None:
    before = fingerprint(load_dataset("celeba", data_dir))
    for name in (ATTRIBUTES, IDENTITIES):
        with (data_dir / FOLDER / name).open("a") as stream:
            stream.write("\n  \n")
    assert fingerprint(load_dataset("celeba", data_dir)) == before


def rename(root: Path, name: str) -> None:
    for file in (ATTRIBUTES, IDENTITIES):
        edit(root / file, lambda lines: [line.replace("000003.jpg", name) for line in lines])


def packed(root: Path) -> None:
    shutil.rmtree(root / IMAGES)
    (root / f"{IMAGES}.zip").touch()


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        (ATTRIBUTES, lambda x: [*x[:3], x[3][:-2], *x[4:]], r"\.csv line 4 has 39 values"),
        (ATTRIBUTES, lambda x: [*x[:3], x[3] + "5", *x[4:]], r"\.csv line 4: Young is '-?15'"),
        (ATTRIBUTES, lambda x: ["image_id,a,b", *x[1:]], r"\.csv line 1 must hold 40 .*not 2"),
        (ATTRIBUTES, lambda x: x[:1], r"\.csv lists no picture"),
        (ATTRIBUTES, lambda _: [], r"\.csv line 1 must hold 40"),
        (IDENTITIES, lambda x: [*x[:3], "000003.jpg,x", *x[4:]], r"\.csv line 4: '000003.jpg,x'"),
        (IDENTITIES, lambda x: x[:-1], r"\.csv has no line for 1 pictures"),
    ],
)
def test_names_the_line_of_kaggles_files(
    data_dir: Path, file: str, change: Callable[[list[str]], list[str]], says: str
) -> None:
    as_kaggle(data_dir / FOLDER)
    edit((data_dir / FOLDER / file).with_suffix(".csv"), change)
    with pytest.raises(DataError, match=says):
        load_dataset("celeba", data_dir)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (packed, r"img_align_celeba is absent: unpack .*img_align_celeba.zip there"),
        (
            lambda root: rename(root, "../000003.jpg"),
            r"lists \.\./000003.jpg: write names without \. and \.\., of files in ",
        ),
        (
            lambda root: rename(root, "/000003.jpg"),
            r"lists /000003.jpg: write names without",
        ),
        (lambda root: shutil.rmtree(root), r"celeba is absent.*set data_dir.*sweep=demo"),
        (lambda root: shutil.rmtree(root / IMAGES), r"img_align_celeba is absent"),
        (lambda root: (root / ATTRIBUTES).unlink(), r"list_attr_celeba.txt is absent"),
        (
            lambda root: (root / IDENTITIES).unlink(),
            r"identity_CelebA.txt is absent: .*Kaggle's edition has none.*Anno",
        ),
        (
            lambda root: edit(root / ATTRIBUTES, lambda x: x[:-3]),
            r"line 1 announces 24 .* 21 lines",
        ),
        (lambda root: edit(root / ATTRIBUTES, lambda x: ["²", *x[1:]]), r"line 1 must be"),
        (lambda root: edit(root / ATTRIBUTES, lambda x: [x[0], "a b", *x[2:]]), r"line 2 .*not 2"),
        (
            lambda root: edit(root / ATTRIBUTES, lambda x: [*x[:4], x[4] + " 1", *x[5:]]),
            r"line 5 has 41 values",
        ),
        (
            # The next line has one value too many: only the sum is right.
            lambda root: edit(
                root / ATTRIBUTES, lambda x: [*x[:4], x[4][:-3], x[5] + " -1", *x[6:]]
            ),
            r"line 5 has 39 values",
        ),
        (lambda root: edit(root / ATTRIBUTES, lambda x: [*x[:6], "", *x[7:]]), r"line 7 has 0"),
        (
            lambda root: edit(root / ATTRIBUTES, lambda x: [*x[:4], x[4][:-2] + " 0", *x[5:]]),
            r"line 5: Young is '0'",
        ),
        (
            lambda root: edit(root / ATTRIBUTES, lambda x: [*x[:4], x[4][:-2] + "+1", *x[5:]]),
            r"line 5: Young is '\+1'",
        ),
        (
            lambda root: edit(root / ATTRIBUTES, lambda x: [*x[:4], x[3], *x[5:]]),
            r"line 5: .* second time",
        ),
        (
            lambda root: edit(root / IDENTITIES, lambda x: [*x[:3], "000004.jpg ²", *x[4:]]),
            r"identity_CelebA.txt line 4: '000004.jpg ²'",
        ),
        (
            lambda root: edit(root / IDENTITIES, lambda x: [*x[:3], "000004.jpg " + 30 * "9"]),
            r"identity_CelebA.txt line 4: .*9' is not",
        ),
        (lambda root: edit(root / IDENTITIES, lambda x: x[:-1]), r"no line for 1 pictures"),
        (lambda root: edit(root / IDENTITIES, lambda x: [*x, x[0]]), r"line 25: .*second time"),
        (
            lambda root: edit(root / IDENTITIES, lambda x: [*x, "999999.jpg 1"]),
            r"line 25: 999999.jpg is not listed",
        ),
        (lambda root: (root / IMAGES / "000007.jpg").unlink(), r"1 pictures .*absent.*000007.jpg"),
        (lambda root: (root / IMAGES / "000007.jpg").write_bytes(b""), r"empty files.*000007.jpg"),
        (
            lambda root: (root / ATTRIBUTES).write_bytes(b"\xff\xfe\x00"),
            r"list_attr_celeba.txt cannot be read",
        ),
    ],
)
def test_names_file_and_line_of_what_is_wrong(
    data_dir: Path, change: Callable[[Path], object], says: str
) -> None:
    change(data_dir / FOLDER)
    with pytest.raises(DataError, match=says) as caught:
        load_dataset("celeba", data_dir)
    assert "\n" not in str(caught.value)


def test_pictures_may_be_absent_where_they_are_not_required(data_dir: Path) -> None:
    (data_dir / FOLDER / IMAGES / "000007.jpg").unlink()
    (data_dir / FOLDER / IMAGES / "000009.jpg").write_bytes(b"")
    sizes = load_dataset("celeba", data_dir, require_files=False).sizes
    assert np.flatnonzero(sizes <= 0).tolist() == [6, 8]
    assert sizes[[6, 8]].tolist() == [-1, 0]
