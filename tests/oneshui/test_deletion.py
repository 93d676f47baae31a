"""What the guard stops, what it lets pass, and when it sleeps."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.processes import python

from oneshui import deletion
from oneshui.deletion import deleted
from oneshui.errors import DataAccessError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of training data, and ``databank``, another one whose name begins like it."""
    for name in ("data", "databank"):
        (tmp_path / name / "deep").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name / "deep" / "1.png")
        np.save(tmp_path / name / "cache.npy", np.zeros(3))
    return tmp_path / "data"


def opened(path: Path | bytes) -> None:
    with open(path, "rb") as stream:  # noqa: PTH123
        assert stream.read(1)


def opened_by_number(path: Path) -> None:
    os.close(os.open(path, os.O_RDONLY))


def scanned(folder: Path) -> None:
    with os.scandir(folder) as entries:
        assert list(entries)


def decoded(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


WAYS: dict[str, Callable[[Path], object]] = {
    "open": lambda data: opened(data / "deep" / "1.png"),
    "open by bytes": lambda data: opened(os.fsencode(data / "cache.npy")),
    "os.open": lambda data: opened_by_number(data / "cache.npy"),
    "Pillow": lambda data: decoded(data / "deep" / "1.png"),
    "numpy": lambda data: np.load(data / "cache.npy", mmap_mode="r"),
    "write": lambda data: (data / "new").write_text("x"),
    "listdir": lambda data: list(data.iterdir()),
    "scandir": lambda data: scanned(data / "deep"),
    "dots": lambda data: opened(data / "deep" / ".." / "cache.npy"),
}


@pytest.mark.parametrize("way", sorted(WAYS))
def test_nothing_below_a_protected_folder_is_opened_or_listed(way: str, data: Path) -> None:
    with deleted([data.parent / "elsewhere", data], "ssd"):
        with pytest.raises(DataAccessError, match=rf"method ssd tried to open {data}.*Access.FULL"):
            WAYS[way](data)
        WAYS[way](data.parent / "databank")


def test_a_pattern_finds_nothing_because_pathlib_passes_over_what_is_refused(data: Path) -> None:
    with deleted([data], "ssd"):
        assert list(data.glob("*")) == []
        assert len(list(data.parent.glob("databank/*"))) == 2


def test_links_lead_to_what_they_point_at(data: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data / "cache.npy")
    (tmp_path / "other").symlink_to(data)
    with deleted([data], "jit"):
        with pytest.raises(DataAccessError, match=r"data/cache\.npy"):
            opened(tmp_path / "link")
        with pytest.raises(DataAccessError, match="jit"):
            opened(tmp_path / "other" / "cache.npy")
    with deleted([tmp_path / "other"], "jit"), pytest.raises(DataAccessError):
        opened(data / "cache.npy")


def test_where_links_among_the_data_lead_is_protected_too(data: Path, tmp_path: Path) -> None:
    (data / "deep" / "disk").symlink_to(tmp_path / "databank")
    (data / "one.png").symlink_to(tmp_path / "single.png")
    (tmp_path / "single.png").write_text("x")
    opened(tmp_path / "single.png")
    with deleted([data], "jit"):
        for path in (tmp_path / "databank" / "cache.npy", tmp_path / "single.png"):
            with pytest.raises(DataAccessError):
                opened(path)


@pytest.mark.parametrize(
    "way",
    [
        lambda data, own: os.link(data / "cache.npy", own / "hard"),
        lambda data, own: (own / "soft").symlink_to(data / "cache.npy"),
        lambda data, own: (data / "cache.npy").rename(own / "moved"),
        lambda data, own: (own / "mine").rename(data / "cache.npy"),
        lambda data, _: os.truncate(data / "cache.npy", 0),
        lambda data, _: (data / "cache.npy").unlink(),
        lambda data, _: os.open(data.parent, os.O_RDONLY),
        lambda data, _: os.chdir(data),
        lambda data, _: sqlite3.connect(data / "cache.npy"),
        lambda data, _: subprocess.run(["cat", data / "cache.npy"], check=False),
        lambda _, __: ctypes.CDLL(None),
        lambda _, __: gc.get_objects(),
        lambda _, __: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    ],
)
def test_ways_around_opening_are_refused(
    data: Path, tmp_path: Path, way: Callable[[Path, Path], object]
) -> None:
    (tmp_path / "mine").write_text("x")
    with deleted([data], "jit"), pytest.raises(DataAccessError):
        way(data, tmp_path)
    assert np.load(data / "cache.npy").tolist() == [0, 0, 0]


def test_what_was_handed_can_be_opened_among_what_is_protected(data: Path) -> None:
    with deleted([data.parent], "jit", [data / "deep"]):
        decoded(data / "deep" / "1.png")
        with pytest.raises(DataAccessError):
            opened(data / "cache.npy")


def test_taking_the_guard_away_is_noticed(data: Path) -> None:
    with pytest.raises(DataAccessError, match="jit took away what guards"), deleted([data], "jit"):
        deletion._active.clear()


def test_relative_names_count_from_where_the_process_is(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    with deleted([data], "jit"), pytest.raises(DataAccessError):
        opened(Path("cache.npy"))


def test_what_is_open_already_stays_so_and_numbers_of_files_are_no_names(data: Path) -> None:
    with (data / "cache.npy").open("rb") as stream, deleted([data], "jit"):
        again = os.fdopen(os.dup(stream.fileno()), "rb")
        with again, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped[:6] == again.read(6) == b"\x93NUMPY"


@pytest.mark.parametrize("ending", [None, ValueError])
def test_it_sleeps_before_and_after_however_the_method_ends(
    ending: type[Exception] | None, data: Path
) -> None:
    assert np.load(data / "cache.npy").tolist() == [0, 0, 0]

    def method() -> None:
        with deleted([data], "jit"):
            if ending is not None:
                raise ending

    if ending is None:
        method()
    else:
        with pytest.raises(ending):
            method()
    assert sorted(path.name for path in data.iterdir()) == ["cache.npy", "deep"]
    assert np.load(data / "cache.npy").tolist() == [0, 0, 0]


def test_the_message_names_the_method_of_this_request(data: Path) -> None:
    for method in ("first", "second"):
        with deleted([data], method), pytest.raises(DataAccessError, match=f"method {method} "):
            list(data.iterdir())


_FIRST = """
import contextlib, sys
from oneshui.deletion import delete_for_good, deleted

with contextlib.ExitStack() as stack:
    if sys.argv[1] == "for good":
        delete_for_good([], "a", ways_out=True)
    else:
        stack.enter_context(deleted([], "a"))
    import timm
import torchvision
assert torchvision.extension._has_ops()
"""


@pytest.mark.parametrize("until", ["for one call", "for good"])
def test_timm_may_be_imported_first_while_data_are_deleted(until: str) -> None:
    with python(_FIRST, until) as process:
        assert process.wait() == 0
