from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from oneshui.errors import InputError
from sweeps.executor.before_ray import guard_token, require_short_paths


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    before = os.umask(0)
    yield tmp_path / "home"
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_token_is_its_owner_s_alone(home: Path) -> None:
    guard_token(home / "out", create=True)
    token = home / ".ray" / "auth_token"
    assert (mode(token.parent), mode(token)) == (0o700, 0o600)
    assert len(token.read_text()) == 64
    assert list(token.parent.iterdir()) == [token]


def test_a_token_that_others_could_read_is_closed_and_kept(home: Path) -> None:
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("a" * 64)
    guard_token(home / "out", create=True)
    assert (mode(token), token.read_text()) == (0o600, "a" * 64)


def test_a_token_of_another_place_is_guarded_there(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "mine" / "token"))
    guard_token(home / "out", create=True)
    assert mode(home / "mine" / "token") == 0o600
    assert not (home / ".ray").exists()


def test_no_token_is_made_for_a_cluster_that_runs_or_wants_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard_token(home / "out", create=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    guard_token(home / "out", create=True)
    assert not (home / ".ray").exists()


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_deep_for_sockets_is_refused_with_a_way_out(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")
    require_short_paths()
    deep = "/tmp/" + "é" * 40
    monkeypatch.setenv(variable, deep)
    with pytest.raises(InputError, match=f"{deep}, has a path of 85 bytes, .* set RAY_TMPDIR"):
        require_short_paths()


def test_ray_takes_the_longest_path_that_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.utils import validate_socket_filepath

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    session = f"ray/session_2026-11-30_04-08-32_123456_{os.getpid()}/sockets/plasma_store"

    def is_taken(length: int) -> bool:
        monkeypatch.setenv("TMPDIR", "/" + "x" * (length - 1))
        try:
            require_short_paths()
        except InputError:
            return False
        validate_socket_filepath(f"{os.environ['TMPDIR']}/{session}")
        return True

    longest = max(filter(is_taken, range(2, 108)))
    with pytest.raises(OSError, match="cannot exceed"):
        validate_socket_filepath("/" + "x" * longest + "/" + session)
