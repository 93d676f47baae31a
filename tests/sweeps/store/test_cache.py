"""This machine's copies of what is in a bucket: what stays, and how much of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from oneshui.errors import InputError
from sweeps.store.cache import NodeCache


@pytest.mark.parametrize("limit", ["plenty", "0", "-5", "nan"])
def test_a_limit_that_is_no_number_above_0_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("ONESHUI_CACHE_GB", limit)
    with pytest.raises(InputError, match=f"ONESHUI_CACHE_GB={limit} must be a number"):
        NodeCache(tmp_path)


def test_what_was_used_least_recently_goes_first_and_what_is_in_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONESHUI_CACHE_GB", "0.0000025")
    cache = NodeCache(tmp_path)

    def copies(*minutes: int) -> dict[int, Path]:
        """Copies of 1,000 bytes each that were used so many minutes ago."""
        folders = {}
        for ago in minutes:
            folders[ago] = tmp_path / "store" / "cache" / f"{ago}"
            folders[ago].mkdir(parents=True)
            (folders[ago] / "images.npy").write_bytes(b"x" * 1000)
            os.utime(folders[ago], (time.time() - 60 * ago,) * 2)
        return folders

    made = copies(200, 70, 80, 50, 10, 0)
    cache.tidy(now=True)
    assert [ago for ago, folder in made.items() if folder.exists()] == [50, 10, 0]
    more = copies(90, 100)
    (tmp_path / "store" / "cache" / "50" / "images.npy").write_bytes(b"")
    cache.tidy(now=True)
    assert [ago for ago, folder in more.items() if folder.exists()] == []
    roomy = copies(300)
    (tmp_path / "store" / "cache" / "10" / "images.npy").write_bytes(b"")
    cache.tidy(now=True)
    assert roomy[300].exists()
