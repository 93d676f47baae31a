"""A folder is written whole or not at all, and never over another."""

from __future__ import annotations

from pathlib import Path

import pytest

from oneshui.erasure.folder import require_free, written_whole
from oneshui.errors import InputError


def test_it_is_there_when_all_is_written(tmp_path: Path) -> None:
    target = tmp_path / "above" / "new"
    with written_whole(target, mode=0o700) as partial:
        (partial / "one").write_text("1")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["new"]
    assert (target / "one").read_text() == "1"
    assert target.stat().st_mode & 0o777 == 0o700


def test_what_ends_in_between_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with written_whole(tmp_path / "new") as partial:
            (partial / "one").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not [*tmp_path.iterdir()]


def test_who_was_faster_keeps_his(tmp_path: Path) -> None:
    target = tmp_path / "new"
    with pytest.raises(InputError, match="is there already"), written_whole(target):
        target.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_place_where_nothing_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"because .*file is no folder"):
        require_free(tmp_path / "file" / "deep" / "new")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is there already"):
        require_free(tmp_path / "link")
