from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oneshui.data import contents as contents_module
from oneshui.data.contents import fingerprint, picture_contents
from oneshui.data.table import ImageTable
from oneshui.errors import DataError

NAMES = ("p/a.bmp", "p/b.bmp", "c.bmp", "p/d.bmp")


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    root = tmp_path / "set"
    (root / "p").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (root / name).write_bytes(bytes([number]) * 9)
    return ImageTable(
        dataset="table",
        task="multilabel",
        class_names=("hat", "smile"),
        root=root,
        paths=NAMES,
        identity=np.array([0, 0, 1, 1]),
        label=np.array([[0, 1], [1, 1], [1, 0], [0, 0]], dtype=np.uint8),
        identity_order=(0, 1),
        sizes=np.full(4, 9),
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of what was hashed since; the record's own lines are longer than the pictures."""
    hashed: list[int] = []
    real = contents_module.content_hash

    def counting(content: bytes) -> str:
        hashed.extend([len(content)] * (len(content) == 9))
        return real(content)

    monkeypatch.setattr(contents_module, "content_hash", counting)
    return hashed


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents_module, "SETTLED_SECONDS", -1.0)


def test_contents_are_the_files_sha256_in_the_tables_order(table: ImageTable) -> None:
    expected = [hashlib.sha256(bytes([number]) * 9).hexdigest() for number in range(4)]
    assert list(picture_contents(table)) == expected
    turned = dataclasses.replace(table, paths=NAMES[::-1])
    assert list(picture_contents(turned)) == expected[::-1]


@pytest.mark.usefixtures("settled")
def test_only_files_that_changed_are_read_again(
    table: ImageTable, tmp_path: Path, read: list[int]
) -> None:
    record = tmp_path / "own" / "record"
    first = picture_contents(table, record)
    assert len(read) == 4
    assert picture_contents(table, record) == first
    assert len(read) == 4
    picture = table.root / NAMES[1]
    status = picture.stat()
    picture.write_bytes(b"x" * 9)
    # As `cp -p` leaves it: size and time of the content are the old ones.
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = picture_contents(table, record)
    assert len(read) == 5
    assert second[1] == hashlib.sha256(b"x" * 9).hexdigest()
    assert second[:1] + second[2:] == first[:1] + first[2:]
    assert not [
        path
        for path in table.root.rglob("*")
        if path.name not in ("p", *map(os.path.basename, NAMES))
    ]


@pytest.mark.usefixtures("settled")
def test_exchanged_files_are_noticed(table: ImageTable, tmp_path: Path) -> None:
    first = picture_contents(table, tmp_path / "record")
    one, other = table.root / NAMES[0], table.root / NAMES[2]
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    second = picture_contents(table, tmp_path / "record")
    assert second == (first[2], first[1], first[0], first[3])


def test_a_file_that_changed_a_moment_ago_is_not_recorded(
    table: ImageTable, tmp_path: Path, read: list[int]
) -> None:
    picture_contents(table, tmp_path / "record")
    picture_contents(table, tmp_path / "record")
    assert len(read) == 8


@pytest.mark.usefixtures("settled")
def test_what_was_hashed_before_a_kill_is_not_hashed_again(
    table: ImageTable, tmp_path: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(done: int, _total: int) -> None:
        if done == 2:
            raise Killed

    monkeypatch.setattr(contents_module, "_BATCH", 1)
    monkeypatch.setattr(contents_module, "_MANY", 1)
    with pytest.raises(Killed):
        picture_contents(table, tmp_path / "record", progress=kill)
    assert len(read) == 2
    seen: list[tuple[int, int]] = []
    picture_contents(table, tmp_path / "record", progress=lambda *call: seen.append(call))
    assert len(read) == 4
    assert seen == [(1, 2), (2, 2)]


def cut(record: Path) -> None:
    record.write_bytes(record.read_bytes()[:-20])


def flip(record: Path) -> None:
    content = bytearray(record.read_bytes())
    content[content.index(NAMES[0].encode()) + 20] ^= 1
    record.write_bytes(content)


@pytest.mark.parametrize("spoil", [cut, flip, lambda record: record.write_bytes(b"\xff\n\n {} \n")])
@pytest.mark.usefixtures("settled")
def test_a_damaged_record_only_costs_time(
    table: ImageTable, tmp_path: Path, read: list[int], spoil: Callable[[Path], object]
) -> None:
    record = tmp_path / "record"
    first = picture_contents(table, record)
    spoil(record)
    assert picture_contents(table, record) == first
    assert len(read) == 8
    assert picture_contents(table, record) == first
    assert len(read) == 8


@pytest.mark.usefixtures("settled")
def test_a_record_does_not_grow_with_every_change(table: ImageTable, tmp_path: Path) -> None:
    record = tmp_path / "record"
    for number in range(20):
        for name in NAMES:
            (table.root / name).write_bytes(b"%09d" % number)
        picture_contents(table, record)
    assert record.stat().st_size < 4 * len(NAMES) * 200


def test_a_picture_that_vanishes_is_named(table: ImageTable, tmp_path: Path) -> None:
    (table.root / NAMES[3]).unlink()
    with pytest.raises(DataError, match=r"p/d\.bmp cannot be read"):
        picture_contents(table, tmp_path / "record")


def test_a_listing_may_spell_names_otherwise(table: ImageTable) -> None:
    # A link stands for a file system that knows several spellings of one name.
    (table.root / "link").symlink_to("p")
    other = dataclasses.replace(table, paths=("p/../p/a.bmp", "link/b.bmp"))
    assert picture_contents(other) == picture_contents(table)[:2]


def test_a_fingerprint_follows_everything_that_counts_and_nothing_else(
    table: ImageTable, tmp_path: Path
) -> None:
    def changed(**fields: object) -> str:
        return fingerprint(dataclasses.replace(table, **fields))  # type: ignore[arg-type]

    before = fingerprint(table)
    for name in ("p/a.bmp", "c.bmp"):
        os.utime(table.root / name, (1, 1))
    table.root.rename(tmp_path / "moved")
    table = dataclasses.replace(table, root=tmp_path / "moved")
    assert fingerprint(table) == before
    prints = {
        before,
        changed(class_names=("hat", "smiles")),
        changed(class_names=("smile", "hat")),
        changed(paths=(NAMES[1], NAMES[0], *NAMES[2:])),
        changed(identity=np.array([0, 0, 1, 0])),
        changed(label=1 - table.label),
        changed(identity_order=(1, 0)),
        changed(identity_order=(0, 1, 2)),
        changed(dataset="celebahq"),
    }
    (table.root / NAMES[0]).rename(table.root / "p" / "z.bmp")
    prints.add(changed(paths=("p/z.bmp", *NAMES[1:])))
    (table.root / "p" / "z.bmp").rename(table.root / NAMES[0])
    (table.root / NAMES[0]).write_bytes(b"x" * 9)
    prints.add(fingerprint(table))
    assert len(prints) == 11


def test_names_that_are_no_unicode_have_a_fingerprint(table: ImageTable) -> None:
    name = os.fsdecode(b"p/\xff.bmp")
    (table.root / name).write_bytes(b"x" * 9)
    odd = dataclasses.replace(table, paths=(name, *NAMES[1:]))
    assert len(fingerprint(odd)) == 64
