from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from oneshui.errors import InputError
from sweeps.store import private
from sweeps.store.private import lock_of, make_private, runtime_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders for what the system keeps, for temporary files, and home."""
    for name, variable in (("run", "XDG_RUNTIME_DIR"), ("tmp", "TMPDIR"), ("home", "HOME")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def as_stranger_s(monkeypatch: pytest.MonkeyPatch, strange: Path) -> None:
    """Let one path look as if it belonged to somebody else."""
    own = Path.lstat

    def lstat(self: Path) -> object:
        found = own(self)
        strange_one = SimpleNamespace(st_uid=os.getuid() + 1, st_mode=found.st_mode)
        return strange_one if self == strange else found

    monkeypatch.setattr(Path, "lstat", lstat)


@pytest.mark.usefixtures("umask")
def test_a_new_folder_is_its_owner_s_whatever_the_umask(tmp_path: Path) -> None:
    make_private(tmp_path / "own")
    assert mode(tmp_path / "own") == 0o700


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private(tmp_path)
    assert mode(tmp_path) == 0o755
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_private(tmp_path / "file")


def test_locks_are_where_the_system_keeps_what_is_the_user_s(places: Path) -> None:
    assert runtime_folder() == places / "run" / "oneshui"
    assert mode(places / "run" / "oneshui") == 0o700


def test_without_such_a_place_they_are_among_the_temporary_files(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert runtime_folder() == places / "tmp" / f"oneshui-{os.getuid()}"
    assert mode(runtime_folder()) == 0o700


@pytest.mark.parametrize("how", ["open to others", "a link", "a stranger's", "a file"])
def test_a_name_that_somebody_took_is_passed_over(
    how: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    taken = places / "tmp" / f"oneshui-{os.getuid()}"
    match how:
        case "open to others":
            taken.mkdir()
            taken.chmod(0o777)
        case "a link":
            (places / "elsewhere").mkdir(mode=0o700)
            taken.symlink_to(places / "elsewhere")
        case "a stranger's":
            taken.mkdir(mode=0o700)
            as_stranger_s(monkeypatch, taken)
        case _:
            taken.touch()
    assert runtime_folder() == places / "home" / ".oneshui"


def test_where_every_name_is_taken_it_is_said(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    for taken in (places / "tmp" / f"oneshui-{os.getuid()}", places / "home" / ".oneshui"):
        taken.touch()
    with pytest.raises(InputError, match=r"make .*/home/\.oneshui one that only you may enter"):
        runtime_folder()


def test_a_stranger_s_lock_keeps_nobody_out_but_the_user_s_own_do(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = places / "shared.lock"
    assert Path(lock_of(path).lock_file) == path
    with FileLock(path):
        as_stranger_s(monkeypatch, path)
        own = lock_of(path)
        assert Path(own.lock_file).parent == private.runtime_folder()
        with own:
            assert lock_of(path).lock_file == own.lock_file
