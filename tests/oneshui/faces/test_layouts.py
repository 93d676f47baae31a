"""The other layouts of drawn pictures: CelebA's, MUFAC's families, and two without faces."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneshui import load_dataset, make_split
from oneshui.errors import InputError
from oneshui.faces import render_relative
from oneshui.faces.ageing import aged, aged_shot
from oneshui.faces.families import (
    draw_relative,
    num_pictures,
    picture_age,
    picture_class,
    true_class,
)
from oneshui.faces.generate import MARKER, FacesSpec, generate
from oneshui.faces.layouts import LAYOUTS, MUFAC, MUFAC_HEADER, MUFAC_SETS
from oneshui.faces.parameters import SHOT, draw_shot, generator

SPEC = FacesSpec(identities=12, pictures=3, size=22, seed=4)
PEOPLE = 400
each_layout = pytest.mark.parametrize("layout", sorted(LAYOUTS))


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_celebahqs_files_are_those_of_the_first_version(tmp_path: Path) -> None:
    """Sets that users have must be found again: the recipe's version stayed 1."""
    generate("celebahq", FacesSpec(identities=10, pictures=2, size=32), tmp_path / "set")
    text = (tmp_path / "set" / MARKER).read_text()
    assert json.loads(text) == {
        "recipe_version": 1,
        "identities": 10,
        "pictures": 2,
        "size": 32,
        "seed": 0,
        "images": 20,
    }
    # Not of the JPEG files, whose bytes depend on the version of the JPEG library.
    with Image.open(tmp_path / "set" / "CelebAMask-HQ" / "CelebA-HQ-img" / "0.jpg") as image:
        mean = np.asarray(image, dtype=float).mean(axis=(0, 1))
    assert mean.round(1).tolist() == pytest.approx(FIRST_PICTURE, abs=0.5)


FIRST_PICTURE = [98.9, 75.3, 98.5]


@each_layout
def test_any_picture_alone_and_any_number_of_workers_give_the_same_bytes(
    tmp_path: Path, layout: str
) -> None:
    calls: list[tuple[int, int]] = []
    assert generate(layout, SPEC, tmp_path / "one")
    assert generate(
        layout, SPEC, tmp_path / "two", workers=2, progress=lambda *call: calls.append(call)
    )
    first = contents(tmp_path / "one")
    assert first == contents(tmp_path / "two")
    pictures = LAYOUTS[layout].pictures(SPEC)
    assert calls[-1] == (len(pictures), len(pictures))
    for item in reversed(pictures):
        alone = LAYOUTS[layout].content(SPEC, item.identity, item.picture)
        assert hashlib.sha256(alone).hexdigest() == first[item.path]


@each_layout
def test_a_set_that_lost_files_gets_only_those_back(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "set"
    generate(layout, SPEC, folder)
    before = contents(folder)
    item = LAYOUTS[layout].pictures(SPEC)[5]
    (folder / item.path).write_bytes(b"")
    for table in LAYOUTS[layout].table_files[-1:]:
        (folder / table).unlink()
    calls: list[tuple[int, int]] = []
    assert generate(layout, SPEC, folder, progress=lambda *call: calls.append(call))
    assert calls == [(1, 1)]
    assert contents(folder) == before
    assert not generate(layout, SPEC, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("first", "second"), [("celebahq", "celeba"), ("celeba", "mufac"), ("mufac", "celebahq")]
)
def test_a_set_in_another_layout_is_refused(tmp_path: Path, first: str, second: str) -> None:
    generate(first, SPEC, tmp_path / "set")
    before = contents(tmp_path / "set")
    with pytest.raises(InputError, match=f"layout is {first} there and {second} here"):
        generate(second, SPEC, tmp_path / "set")
    assert contents(tmp_path / "set") == before


def test_an_unknown_layout_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'mufak'; did you mean 'mufac'"):
        generate("mufak", SPEC, tmp_path / "set")


@pytest.mark.parametrize(("size", "width"), [(218, 178), (64, 52), (16, 13)])
def test_celebas_pictures_are_upright(size: int, width: int) -> None:
    content = LAYOUTS["celeba"].content(FacesSpec(size=size), 0, 0)
    assert content[:2] == b"\xff\xd8"
    (folder,) = (f for f in LAYOUTS["celeba"].folders if "/" in f)
    assert folder == "celeba/img_align_celeba"
    assert Image.open(io.BytesIO(content)).size == (width, size)


def test_celebas_text_files_look_like_the_real_ones(tmp_path: Path) -> None:
    generate("celeba", SPEC, tmp_path / "set")
    root = tmp_path / "set" / "celeba"
    lines = (root / "list_attr_celeba.txt").read_text().splitlines()
    assert lines[0] == "36"
    assert lines[2].startswith("000001.jpg ")
    # As in the original, columns stand below each other.
    assert len({len(line) for line in lines[2:]}) == 1
    partition = [
        line.split() for line in (root / "list_eval_partition.txt").read_text().splitlines()
    ]
    assert [name for name, _ in partition] == [line.split()[0] for line in lines[2:]]
    assert {number for _, number in partition} == {"0", "1", "2"}


def test_mufacs_files_look_like_the_real_ones(tmp_path: Path) -> None:
    generate("mufac", SPEC, tmp_path / "set")
    listed = set()
    for table, folder, _ in MUFAC_SETS:
        header, *rows = (tmp_path / "set" / table).read_text().splitlines()
        assert header == MUFAC_HEADER
        for row in rows:
            family, person, letter, file = row.split(",")
            assert file.startswith(f"{family}_AGE_{person}_")
            assert 0 <= int(file.split("_")[3]) <= 80
            assert letter in "abcdefgh"
            with Image.open(tmp_path / "set" / folder / file) as image:
                assert image.size == (22, 22)
            listed.add(f"{folder}/{file}")
    on_disk = (tmp_path / "set" / MUFAC).rglob("*.jpg")
    assert listed == {str(path.relative_to(tmp_path / "set")) for path in on_disk}
    assert load_dataset("mufac", tmp_path / "set").identity.max() == 11


def test_people_have_about_as_many_pictures_as_asked_for() -> None:
    counts = [num_pictures(0, person, 10) for person in range(PEOPLE)]
    assert (min(counts), max(counts)) == (7, 13)
    assert abs(np.mean(counts) - 10) < 0.4
    assert {num_pictures(0, person, 2) for person in range(50)} == {2}


def test_families_share_skin_and_hair_and_nothing_else() -> None:
    people = [draw_relative(0, person) for person in range(PEOPLE)]
    sizes = Counter(person.family for person in people)
    assert set(sizes) == set(range(len(sizes)))
    assert set(list(sizes.values())[:-1]) == {2, 3, 4, 5}
    assert len({(person.family, person.code) for person in people}) == PEOPLE
    by_family: dict[int, list[int]] = {}
    for number, person in enumerate(people):
        by_family.setdefault(person.family, []).append(number)
    for numbers in by_family.values():
        looks = [people[number].looks for number in numbers]
        assert len({(one.hair, one.warmth, one.eye_colour) for one in looks}) == 1
        assert max(one.skin for one in looks) - min(one.skin for one in looks) < 0.25
        assert len({one.face_width for one in looks}) == len(looks)
    assert len({person.looks.hair for person in people}) == 4


def test_a_person_does_not_depend_on_the_size_of_the_set() -> None:
    small = {item.path: item for item in LAYOUTS["mufac"].pictures(SPEC)}
    large = LAYOUTS["mufac"].pictures(dataclasses.replace(SPEC, identities=40))
    assert set(small.values()) <= {item for item in large if item.identity < 12}


def test_classes_follow_ages_with_the_persons_shift_and_some_noise() -> None:
    people = [draw_relative(0, person) for person in range(PEOPLE)]
    shifts = Counter(person.shift for person in people)
    for shift, share in ((-1, 0.2), (0, 0.6), (1, 0.2)):
        # 4 standard errors
        assert abs(shifts[shift] / PEOPLE - share) < 4 * (share * (1 - share) / PEOPLE) ** 0.5
    wrong = total = 0
    classes = Counter[int]()
    spans = []
    for number, person in enumerate(people):
        ages = [picture_age(0, number, picture) for picture in range(10)]
        spans.append(max(ages) - min(ages))
        for picture, age in enumerate(ages):
            given = picture_class(0, number, picture)
            wrong += given != min(max(true_class(age) + person.shift, 0), 7)
            total += 1
            classes[given] += 1
    # Of the 3 % that are drawn anew, one in eight is right by chance.
    assert abs(wrong / total - 0.03 * 7 / 8) < 0.01
    assert all(classes[number] > 0.06 * total for number in range(8))
    assert np.median(spans) > 10


@pytest.mark.parametrize(("age", "number"), [(0, 0), (6, 0), (7, 1), (30, 3), (31, 4), (80, 7)])
def test_ages_have_mufacs_classes(age: int, number: int) -> None:
    assert true_class(age) == number


def test_children_have_childrens_proportions_and_the_old_are_grey() -> None:
    for number in range(30):
        person = draw_relative(1, number)
        child, adult, old = (
            aged(person.looks, age, person.grey_from, person.bald_from) for age in (4, 30, 78)
        )
        assert child.eye_size > 1.15 * adult.eye_size
        assert child.eye_y > adult.eye_y + 0.1
        assert child.nose_length < 0.75 * adult.nose_length
        assert child.face_height < 0.9 * adult.face_height
        assert child.grey == adult.grey == 0
        assert old.grey == 1
        assert child.beard == "none"
        assert child.p_makeup == child.p_tie == child.p_lipstick == 0
        assert child.age < adult.age < old.age
        shot = aged_shot(draw_shot(generator(1, SHOT, number, 0), child), 4)
        assert not shot.unshaven
    men = [p for p in (draw_relative(1, n) for n in range(100)) if p.looks.male]
    recession = [
        [aged(m.looks, age, m.grey_from, m.bald_from).recession for m in men] for age in (20, 75)
    ]
    assert np.mean(recession[0]) == 0
    assert np.mean(recession[1]) > 0.3


def test_a_person_stays_recognisable_and_ages_show() -> None:
    assert (
        render_relative(0, 3, 1, (32, 32)).tobytes() == render_relative(0, 3, 1, (32, 32)).tobytes()
    )
    assert (
        render_relative(0, 3, 1, (32, 32)).tobytes() != render_relative(0, 4, 1, (32, 32)).tobytes()
    )
    assert render_relative(0, 3, 1, (40, 24)).size == (40, 24)


def test_a_set_in_mufacs_layout_can_be_split(tmp_path: Path) -> None:
    generate("mufac", FacesSpec(identities=20, pictures=4, size=16), tmp_path / "set")
    table = load_dataset("mufac", tmp_path / "set")
    split = make_split(table.identity, table.identity_order, num_forget=3, seed=0)
    assert len(split.forget) == 3
