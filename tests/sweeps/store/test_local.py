from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from contracts.store_contract import StoreContract, job, publish

from oneshui.errors import InputError
from sweeps.store import DamagedEntryError, LocalStore, open_store
from sweeps.store.work import STALE_WORK_SECONDS


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


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.store cannot be written"):
        open_store(str(tmp_path / "file" / "store"))


def test_damage_can_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DamagedEntryError("split", "abc", "gone")))
    assert (error.stage, error.key, str(error)) == (
        "split",
        "abc",
        "store entry split/abc is damaged: gone",
    )


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
