"""What an enclosed process keeps: Python's own files, and what it was handed."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support.people import needs_people

from oneshui.data.loaders.orl import installed
from oneshui.enclosure import Walls, enclosed, kernel, packages_of
from oneshui.enclosure.walls import _without

needs_landlock = pytest.mark.skipif(not kernel.landlock_abi(), reason="this kernel has no Landlock")


def made(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_of_a_folder_with_something_protected_in_it_the_rest_stays(tmp_path: Path) -> None:
    made(tmp_path, "lib/a/1", "lib/b/deep/data/2", "lib/b/3", "lib/c")
    (tmp_path / "lib" / "link").symlink_to(tmp_path / "lib" / "b" / "deep" / "data")
    lib = tmp_path / "lib"

    def left(*protected: Path) -> set[Path]:
        return set(_without(lib, [str(path) for path in protected]))

    assert left() == left(tmp_path / "library") == left(tmp_path) == {lib}
    assert left(lib) == set()
    assert left(lib / "b" / "deep" / "data") == {lib / "a", lib / "b" / "3", lib / "c"}


def test_packages_of_a_module() -> None:
    assert packages_of("oneshui.methods.ssd") == (Path(sys.modules["oneshui"].__path__[0]),)
    assert packages_of("os") == packages_of("nobody.knows") == ()


def test_accelerators_of_every_maker_can_be_used(tmp_path: Path) -> None:
    kept = dict(Walls(protected=(), method="any")._kept(tmp_path))
    for name in ("nvidiactl", "nvidia-uvm", "kfd", "dri"):
        assert kept[Path("/dev") / name] == kernel.USE
    # Those that there are, and nothing else that a machine has.
    assert kept.keys().isdisjoint({Path("/dev"), Path("/dev/mem"), Path("/dev/shm")})


def look(paths: dict[str, Path], private: Path) -> tuple[dict[str, Any], dict[str, str]]:
    found, libc = {}, ctypes.CDLL(None)
    for name, path in paths.items():
        # Not Python's way: the kernel's answer is asked for, not the audit hook's.
        number, content = libc.open(os.fsencode(path), 0), ctypes.create_string_buffer(100)
        libc.read(number, content, 99)
        found[name] = content.value.decode() if number >= 0 else "refused"
    for name in ("library", "handed", "writable"):
        try:
            (paths[name].parent / "new").write_text("x")
            found[f"write {name}"] = "done"
        except OSError as error:
            found[f"write {name}"] = type(error).__name__
    (private / "own").write_text("x")
    return {}, found


@needs_landlock
def test_what_was_handed_can_be_read_and_what_is_beside_it_cannot(tmp_path: Path) -> None:
    made(tmp_path, "out/store/handed/kit", "out/store/beside", "lib/code", "lib/data/1", "work/w")
    paths = {
        "handed": tmp_path / "out" / "store" / "handed" / "kit",
        "beside": tmp_path / "out" / "store" / "beside",
        "library": tmp_path / "lib" / "code",
        "in library": tmp_path / "lib" / "data" / "1",
        "writable": tmp_path / "work" / "w",
        "account": Path("/etc/passwd"),
    }
    walls = Walls(
        protected=(tmp_path / "out", tmp_path / "lib" / "data"),
        method="odd",
        packages=(tmp_path / "lib",),
        handed=(paths["handed"],),
        writable=(paths["writable"].parent,),
    )

    def act(private: Path) -> Any:
        return look(paths, private)

    act.__module__, act.__qualname__ = __name__, "act"
    globals()["act"] = act
    assert enclosed(act, walls).value == {
        "handed": "out/store/handed/kit",
        "beside": "refused",
        "library": "lib/code",
        "in library": "refused",
        "writable": "work/w",
        "account": "refused",
        "write library": "PermissionError",
        "write handed": "DataAccessError",
        "write writable": "done",
    }


def read_faces(_: Path) -> tuple[dict[str, Any], Any]:
    # Something that has not been imported before.
    name = importlib.import_module("xmltodict").__name__
    try:
        return {}, [name, len((installed() / "ORL_faces" / "s1" / "1.pgm").read_bytes())]
    except OSError as error:
        return {}, [name, type(error).__name__]


@needs_landlock
@needs_people
def test_faces_among_python_s_own_packages_are_kept_too_and_the_packages_are_not() -> None:
    free = enclosed(read_faces, Walls(protected=(), method="odd")).value
    assert free == ["xmltodict", 10_318]
    kept = enclosed(read_faces, Walls(protected=(installed(),), method="odd")).value
    assert kept[0] == "xmltodict"
    assert kept[1] in ("PermissionError", "DataAccessError")


def environment(private: Path) -> tuple[dict[str, Any], Any]:
    return {}, [dict(os.environ), str(private), tempfile.gettempdir(), str(Path.home())]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are enclosed on Linux")
def test_the_environment_keeps_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = ("AWS_PROFILE", "RAY_ADDRESS", "MY_TOKEN", "DB_PASSWORD", "API_KEY", "https_proxy")
    for name in (*secret, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    there, private, *folders = enclosed(environment, Walls(protected=(), method="odd")).value
    assert there["OMP_NUM_THREADS"] == "1"
    assert not set(secret) & there.keys()
    assert folders == [private, private]


def test_a_system_without_landlock_has_version_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert kernel.landlock_abi() == 0
