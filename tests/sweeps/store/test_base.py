"""What all stores share: entries, drafts, and what counts as damage or as a disk's fault."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from contracts.store_contract import job, publish

from sweeps.store import DISK_ERRORS, DamagedEntryError, LocalStore
from sweeps.store.base import STALE_WORK_SECONDS, DraftFolders, EntryDraft, damage


def test_a_disk_that_is_full_or_must_not_be_written_is_told_from_other_errors() -> None:
    # As Linux numbers them: no space, quota, read-only, access denied, not permitted.
    assert set(DISK_ERRORS) == {28, 122, 30, 13, 1}


def test_a_draft_that_failed_leaves_nothing(tmp_path: Path) -> None:
    def adopt(*_: Any) -> Any:
        raise AssertionError("nothing was published")

    def fail(draft: EntryDraft) -> None:
        (draft.folder / "data.txt").write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), DraftFolders(tmp_path).one(job(), adopt) as draft:
        fail(draft)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"value": 1}'])
def test_a_manifest_that_is_none_is_damage(text: str) -> None:
    with (
        pytest.raises(DamagedEntryError, match="store entry split/abc is damaged") as told,
        damage("split", "abc"),
    ):
        json.loads(text)["files"].items()
    assert (told.value.stage, told.value.key) == ("split", "abc")


def test_old_leftovers_are_swept_and_young_ones_kept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    old, young = tmp_path / ".work" / "old", tmp_path / ".work" / "young"
    for folder in (old, young):
        folder.mkdir()
    past = time.time() - STALE_WORK_SECONDS - 60
    os.utime(old, (past, past))
    store.sweep_leftovers()
    assert not old.exists()
    assert young.exists()


def test_damage_can_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DamagedEntryError("split", "abc", "gone")))
    assert (error.stage, error.key, str(error)) == (
        "split",
        "abc",
        "store entry split/abc is damaged: gone",
    )


def test_a_file_that_changes_after_it_was_read_is_found(tmp_path: Path) -> None:
    entry = publish(LocalStore(tmp_path), job())
    path = entry.file("data.txt")
    before = path.stat().st_mtime_ns
    path.write_text("hellp")
    os.utime(path, ns=(before + 1, before + 1))
    with pytest.raises(DamagedEntryError, match="has changed"):
        entry.file("data.txt")
    with pytest.raises(DamagedEntryError, match=r"does not name other.txt"):
        entry.file("other.txt")
