from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.text_files import edit

from oneshui import load_dataset
from oneshui.data.contents import fingerprint
from oneshui.data.loaders.mufac import FOLDER, PARTS
from oneshui.errors import DataError
from oneshui.faces.families import draw_relative, picture_class
from oneshui.faces.generate import FacesSpec
from oneshui.faces.layouts import LAYOUTS

LAYOUT = "mufac"
SPEC = FacesSpec(identities=12, pictures=4, size=16)
(TRAIN, TRAIN_IMAGES), (VAL, VAL_IMAGES), (TEST, TEST_IMAGES) = PARTS


def rows_of(data_dir: Path, name: str) -> list[list[str]]:
    lines = (data_dir / FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [line.split(",") for line in lines[1:]]


def test_pools_the_three_files_in_order(pristine: Path) -> None:
    table = load_dataset("mufac", pristine)
    expected = [
        (f"{folder}/{row[3]}", f"{row[0]}_{row[1]}", "abcdefgh".index(row[2]))
        for name, folder in PARTS
        for row in rows_of(pristine, name)
    ]
    assert (table.dataset, table.task, len(table.class_names)) == ("mufac", "multiclass", 8)
    assert list(table.paths) == [path for path, _, _ in expected]
    assert table.label.tolist() == [label for _, _, label in expected]
    people = list(dict.fromkeys(person for _, person, _ in expected))
    assert table.identity.tolist() == [people.index(person) for _, person, _ in expected]
    assert table.identity_order == tuple(range(len(people)))
    assert len(people) == SPEC.identities
    for path, size in zip(table.paths, table.sizes.tolist(), strict=True):
        assert (pristine / FOLDER / path).stat().st_size == size


def test_labels_are_those_that_were_drawn(pristine: Path) -> None:
    table = load_dataset("mufac", pristine)
    drawn = {item.path.removeprefix(f"{FOLDER}/"): item for item in LAYOUTS["mufac"].pictures(SPEC)}
    assert drawn.keys() == set(table.paths)
    number = dict(
        zip((drawn[path].identity for path in table.paths), table.identity.tolist(), strict=True)
    )
    for path, identity, label in zip(
        table.paths, table.identity.tolist(), table.label.tolist(), strict=True
    ):
        item = drawn[path]
        assert label == picture_class(SPEC.seed, item.identity, item.picture)
        assert number[item.identity] == identity
        assert draw_relative(SPEC.seed, item.identity).code in path


def test_the_fingerprint_does_not_know_where_the_folder_lies(
    pristine: Path, data_dir: Path
) -> None:
    here, there = load_dataset("mufac", pristine), load_dataset("mufac", data_dir)
    assert here.root != there.root
    assert fingerprint(here) == fingerprint(there)
    assert fingerprint(here) != fingerprint(load_dataset("mufac_clean", pristine))


def test_columns_are_found_by_name_or_by_place(data_dir: Path) -> None:
    before = fingerprint(load_dataset("mufac", data_dir))
    path = data_dir / FOLDER / VAL
    rows = rows_of(data_dir, VAL)
    path.write_text(
        "fam,person,class,x,file\n"
        + "".join(
            f"{family}, {person},{letter},y,{file}\n" for family, person, letter, file in rows
        )
    )
    assert fingerprint(load_dataset("mufac", data_dir)) == before
    path.write_text(
        "\ufeffimage_path,age_class,person_id,family_id\n\n"
        + "".join(f"{file},{letter},{person},{family}\n" for family, person, letter, file in rows),
        encoding="utf-8",
    )
    assert fingerprint(load_dataset("mufac", data_dir)) == before


def cells(place: int, value: str) -> Callable[[list[str]], list[str]]:
    """Sets one cell of line 3."""

    def change(lines: list[str]) -> list[str]:
        row = lines[2].split(",")
        row[place] = value
        return [*lines[:2], ",".join(row), *lines[3:]]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda root: shutil.rmtree(root), r"mufac is absent.*consent form"),
        (lambda root: shutil.rmtree(root / VAL_IMAGES), r"val_images is absent"),
        (lambda root: (root / TEST).unlink(), r"custom_test_dataset.csv is absent"),
        (
            lambda root: edit(root / TRAIN, lambda _: ["a,b"]),
            r"train.* line 1 must be a header.*'a,b'",
        ),
        (lambda root: (root / TRAIN).write_text(""), r"train_dataset.csv line 1 must be a header"),
        (lambda root: edit(root / VAL, lambda x: x[:1]), r"val_dataset.csv lists no picture"),
        (lambda root: edit(root / TRAIN, cells(2, "i")), r"train.*line 3: age class 'i'"),
        (lambda root: edit(root / TRAIN, cells(2, "ab")), r"train.*line 3: age class 'ab'"),
        (lambda root: edit(root / TRAIN, cells(2, "")), r"train.*line 3: age class ''"),
        (lambda root: edit(root / TRAIN, cells(1, " ")), r"line 3 lacks a family, a person"),
        (
            lambda root: edit(root / TRAIN, cells(3, "../val_images/x.jpg")),
            r"train_dataset.csv lists train_images/\.\./val_images/x.jpg: write names without",
        ),
        (lambda root: edit(root / TRAIN, cells(3, "a,b")), r"line 3 has 5 cells.*header has 4"),
        (
            lambda root: edit(root / TRAIN, lambda x: [*x, x[1]]),
            r"train.*line \d+: F\S+ is listed a second time",
        ),
        (
            lambda root: edit(root / TRAIN, cells(3, '"open' + 200_000 * "x")),
            r"train.*quotation mark left open",
        ),
        (
            lambda root: next((root / VAL_IMAGES).iterdir()).unlink(),
            r"1 pictures listed in .*val_dataset.csv are absent.*val_images/F",
        ),
        (
            lambda root: next((root / TEST_IMAGES).iterdir()).write_bytes(b""),
            r"1 pictures in .* empty files, for example test_images/F",
        ),
    ],
)
def test_names_file_and_line_of_what_is_wrong(
    data_dir: Path, change: Callable[[Path], object], says: str
) -> None:
    change(data_dir / FOLDER)
    with pytest.raises(DataError, match=says) as caught:
        load_dataset("mufac", data_dir)
    assert "\n" not in str(caught.value)


def test_a_clean_set_loses_nothing(pristine: Path) -> None:
    raw, clean = load_dataset("mufac", pristine), load_dataset("mufac_clean", pristine)
    assert clean.dataset == "mufac_clean"
    assert clean.paths == raw.paths


def copy_over(root: Path, source: str, target: str) -> None:
    (root / target).write_bytes((root / source).read_bytes())


def test_the_clean_variant_drops_copies(data_dir: Path) -> None:
    raw = load_dataset("mufac", data_dir)
    first, second, third = (np.flatnonzero(raw.identity == person).tolist() for person in (0, 1, 2))
    # Twice in one person, and in another across two people.
    copy_over(raw.root, raw.paths[first[0]], raw.paths[first[-1]])
    copy_over(raw.root, raw.paths[second[0]], raw.paths[third[0]])
    copy_over(raw.root, raw.paths[second[0]], raw.paths[third[1]])
    clean = load_dataset("mufac_clean", data_dir)
    gone = {raw.paths[row] for row in (first[-1], second[0], third[0], third[1])}
    assert clean.paths == tuple(path for path in raw.paths if path not in gone)
    assert clean.identity_order == raw.identity_order
    kept = [raw.paths.index(path) for path in clean.paths]
    assert clean.identity.tolist() == raw.identity[kept].tolist()
    assert clean.label.tolist() == raw.label[kept].tolist()
    assert clean.sizes.shape == (len(kept),)
    assert len(load_dataset("mufac", data_dir)) == len(raw)


def test_a_person_without_pictures_keeps_a_number(data_dir: Path) -> None:
    raw = load_dataset("mufac", data_dir)
    rows, other = (np.flatnonzero(raw.identity == person).tolist() for person in (3, 4))
    for row in rows:
        copy_over(raw.root, raw.paths[other[0]], raw.paths[row])
    clean = load_dataset("mufac_clean", data_dir)
    assert 3 not in clean.identity
    assert clean.identity_order == raw.identity_order


def test_absent_pictures_are_no_copies_of_each_other(data_dir: Path) -> None:
    raw = load_dataset("mufac", data_dir)
    for row in (0, 1):
        (raw.root / raw.paths[row]).unlink()
    clean = load_dataset("mufac_clean", data_dir, require_files=False)
    assert clean.paths == raw.paths
    assert clean.sizes[:2].tolist() == [-1, -1]
