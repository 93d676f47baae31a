from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from contracts.store_contract import StoreContract, job, publish

from oneshui.errors import InputError
from sweeps.graph.job import Stage
from sweeps.store import DamagedEntryError, LocalStore, open_store, store_exists


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        return LocalStore(tmp_path / "store")


def test_a_process_killed_while_it_writes_leaves_no_entry(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from contracts.store_contract import job\n"
        "from sweeps.store import LocalStore\n"
        "store = LocalStore(pathlib.Path(sys.argv[1]))\n"
        "with store.work(job()) as work:\n"
        "    (work.folder / 'data.txt').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"},
        check=False,
    )
    assert done.returncode == -9
    store = LocalStore(tmp_path)
    assert store.find("split", job().key) is None
    assert publish(store, job()).file("data.txt").read_text() == "hello"


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.store cannot be written"):
        open_store(str(tmp_path / "file" / "store"))


def test_an_entry_that_appears_while_it_is_looked_for_is_not_taken_for_damaged(
    tmp_path: Path,
) -> None:
    store = LocalStore(tmp_path)
    jobs = [job(number) for number in range(150)]
    done = threading.Event()

    def look() -> int:
        found = 0
        while not done.is_set():
            found += sum(store.find("split", one.key) is not None for one in jobs)
        return found

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        for one in jobs:
            publish(store, one)
        done.set()
        assert looking.result() > 0


def test_files_and_folders_are_on_the_disk_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    happened: list[tuple[str, str]] = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        happened.append(("synced", Path(f"/proc/self/fd/{descriptor}").readlink().name))

    def renamed(path: Path, target: Path) -> Path:
        happened.append(("renamed", path.name))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    with store.work(job()) as work:
        (work.folder / "data.txt").write_text("hello")
        folder = work.folder.name
        work.publish({}, {}, {})
    before, after = happened[: happened.index(("renamed", folder))], happened[-1]
    assert {name for _, name in before} == {"data.txt", "job.json", "result.json", folder}
    # The folder's own list of names counts only once all of them are in it.
    assert before[-1] == ("synced", folder)
    assert after == ("synced", "split")


def test_a_disk_that_is_full_leaves_no_entry_and_no_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)

    def full(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="No space left"):
            publish(store, job())
    assert store.find("split", job().key) is None
    assert not list((tmp_path / ".work").iterdir())
    assert publish(store, job()).value == {"value": 1.5}


def test_publishing_gives_up_where_a_damaged_entry_comes_back_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    place = tmp_path / "split" / job().key
    discard = LocalStore.discard

    def damaged() -> None:
        place.mkdir(parents=True)
        (place / "result.json").write_text("{")

    def discard_in_vain(self: LocalStore, stage: Stage, key: str) -> None:
        discard(self, stage, key)
        damaged()

    damaged()
    monkeypatch.setattr(LocalStore, "discard", discard_in_vain)
    with pytest.raises(OSError, match="something keeps removing or damaging it"):
        publish(store, job())
    assert len(list((tmp_path / ".discarded").iterdir())) == 3


def test_what_is_discarded_is_kept_for_inspection(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for text in ("one", "two"):
        publish(store, job(), text=text)
        store.discard("split", job().key)
    kept = sorted((tmp_path / ".discarded").glob(f"split-{job().key}-*/data.txt"))
    assert sorted(path.read_text() for path in kept) == ["one", "two"]


def test_a_job_file_of_another_job_and_a_folder_without_manifest_are_damage(
    tmp_path: Path,
) -> None:
    store = LocalStore(tmp_path)
    folder = publish(store, job(1)).folder
    (folder / "job.json").write_text(json.dumps(job(2).to_json(), indent=1, sort_keys=True) + "\n")
    with pytest.raises(DamagedEntryError, match=r"its job.json belongs to another job"):
        store.find("split", job(1).key)
    (folder / "result.json").unlink()
    with pytest.raises(DamagedEntryError, match=r"it has no result.json"):
        store.find("split", job(1).key)


def test_a_store_is_a_folder_or_its_address_and_opening_it_leaves_no_trace(tmp_path: Path) -> None:
    place = tmp_path / "store"
    assert not store_exists(str(place))
    made = open_store(f"file://{place}")
    assert made.address == str(place)
    assert store_exists(str(place))
    assert store_exists(f"file://{place}")
    assert [path for path in place.rglob("*") if path.is_file()] == []


def test_bytes_that_are_no_text_are_damage_as_is_a_file_in_an_entrys_place(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    publish(store, job())
    folder = tmp_path / "split" / job().key
    (folder / "result.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(DamagedEntryError):
        store.find("split", job().key)
    store.discard("split", job().key)
    folder.write_text("a file")
    with pytest.raises(DamagedEntryError):
        store.find("split", job().key)
    assert publish(store, job()).file("data.txt").read_text() == "hello"


def test_a_file_in_the_place_of_a_stage_is_damage_and_makes_room(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    (tmp_path / "store" / "score").write_text("hello")
    with pytest.raises(DamagedEntryError, match="a file stands in its folder's place") as caught:
        store.keys("score")
    store.discard(caught.value.stage, caught.value.key)
    assert store.keys("score") == set()
    (kept,) = (tmp_path / "store" / ".discarded").iterdir()
    assert kept.read_text() == "hello"


def test_files_in_the_places_of_a_store_s_own_folders_make_room(tmp_path: Path) -> None:
    for name in (".work", ".discarded", ".leases", ".checkpoints"):
        (tmp_path / name).write_text("hello")
    LocalStore(tmp_path)
    assert sum(path.is_dir() for path in tmp_path.iterdir()) == 4
    assert len(list(tmp_path.glob(".*.unreadable-1"))) == 4
