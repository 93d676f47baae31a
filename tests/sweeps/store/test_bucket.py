from __future__ import annotations

import dataclasses
import json
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from contracts.store_contract import StoreContract, job, publish, sealed
from support.buckets import forget_copies, found, names, path_of, refusing
from support.google_server import TOKEN
from support.inline_sweep import inline_sweep
from support.object_server import ObjectServer
from support.processes import python

from oneshui.errors import InputError
from sweeps.executor.worker import execute
from sweeps.graph.job import Job
from sweeps.schedule.failure import ATTEMPTS
from sweeps.stages.context import JobContext, WorkerEnvironment
from sweeps.stages.run import STAGES
from sweeps.store import objects, open_store, store_exists
from sweeps.store.base import STALE_WORK_SECONDS, encoded
from sweeps.store.bucket import RemoteEntry, RemoteStore
from sweeps.store.objects import Bucket
from sweeps.store.status import scan


class TestRemoteStore(StoreContract):
    @pytest.fixture
    def store(self, address: str) -> RemoteStore:
        return RemoteStore(address)

    def overwrite(self, store: Any, what: Job, name: str, text: str) -> None:
        store._bucket.put(path_of(store, what, name), text.encode())
        forget_copies(store)

    def remove(self, store: Any, what: Job, name: str) -> None:
        store._bucket.remove([path_of(store, what, name)])

    def move(self, store: Any, what: Job, to: Job) -> None:
        for one in store._bucket.list(f"split/{what.key}"):
            store._bucket.copy(one.name, one.name.replace(what.key, to.key))
            store._bucket.remove([one.name])


class TestGoogleStore(TestRemoteStore):
    @pytest.fixture
    def store(self, google_address: str) -> RemoteStore:
        return RemoteStore(google_address)

    def test_large_files_leftovers_and_credentials(self, store: RemoteStore) -> None:
        store.check()
        with store.work(job()) as work:
            content = os.urandom(3 * objects.PIECE_BYTES + 5)
            (work.folder / "big.bin").write_bytes(content)
            entry = work.publish({}, {}, {})
        forget_copies(store)
        assert entry.file("big.bin").read_bytes() == content
        store.discard("split", job().key)
        store.sweep_leftovers()
        known = pickle.dumps((store, entry)) + repr((store, entry)).encode()
        assert TOKEN.encode() not in known


def test_two_processes_publish_at_once_and_one_wins(
    store: RemoteStore, bucket: Bucket, tmp_path: Path
) -> None:
    code = (
        "import sys, pathlib\n"
        "from contracts.store_contract import job, publish\n"
        "from sweeps.store import open_store\n"
        "store = open_store(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "while not pathlib.Path(sys.argv[2]).exists():\n"
        "    pass\n"
        "for number in range(20):\n"
        "    entry = publish(store, job(number), text=sys.argv[3])\n"
        "    print(entry.file('data.txt').read_text(), flush=True)\n"
    )
    start = tmp_path / "start"
    racers = [python(code, store.address, str(start), text) for text in ("one", "two")]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    start.touch()
    answers = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 20
    forget_copies(store)
    kept = [found(store, job(number)).file("data.txt").read_text() for number in range(20)]
    assert kept == answers[0]
    # Nothing of those who came second is left: a manifest and two files for each entry.
    assert len([name for name in names(bucket) if name.startswith("split/")]) == 60


def test_a_publisher_killed_before_its_manifest_leaves_no_entry(
    store: RemoteStore, bucket: Bucket
) -> None:
    code = (
        "import os, sys\n"
        "from contracts.store_contract import job, publish\n"
        "from sweeps.store.objects import Bucket\n"
        "from sweeps.store import open_store\n"
        "Bucket.create = lambda *_: os.kill(os.getpid(), 9)\n"
        "publish(open_store(sys.argv[1]), job())\n"
    )
    killed = python(code, store.address)
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    assert [name.rpartition("/")[2] for name in names(bucket) if "split" in name] == [
        "data.txt",
        "job.json",
    ]
    assert store.find("split", job().key) is None
    assert store.find_all([job()]) == {}
    assert publish(store, job()).file("data.txt").read_text() == "hello"


def test_an_answer_that_gets_lost_does_not_make_the_publisher_lose(
    store: RemoteStore, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Bucket.create

    def create(self: Bucket, name: str, data: bytes) -> Any:
        real(self, name, data)
        return real(self, name, data)

    monkeypatch.setattr(Bucket, "create", create)
    assert publish(store, job(), text="mine").file("data.txt").read_text() == "mine"
    assert len(names(bucket)) == 3
    lease = store.leases.acquire(job())
    assert lease is not None
    before = store.leases.holders()[lease.name].beat
    lease.beat()
    assert store.leases.holders()[lease.name].beat != before


def test_files_are_fetched_once_per_machine_and_read_by_all(
    store: RemoteStore, server: ObjectServer
) -> None:
    with store.work(job()) as work:
        (work.folder / "big.bin").write_bytes(os.urandom(3 * objects.PIECE_BYTES + 5))
        content = (work.folder / "big.bin").read_bytes()
        entry = work.publish({}, {}, {})
    server.requests.clear()
    assert entry.file("big.bin").read_bytes() == content
    assert server.requests == {}, "the machine that wrote it need not fetch it"
    forget_copies(store)
    code = (
        "import sys\n"
        "from contracts.store_contract import job\n"
        "from sweeps.store import open_store\n"
        "entry = open_store(sys.argv[1]).find('split', job().key)\n"
        "print(len(entry.file('big.bin').read_bytes()))\n"
    )
    readers = [python(code, store.address) for _ in range(3)]
    assert [reader.communicate(timeout=60)[0] for reader in readers] == [f"{len(content)}\n"] * 3
    # Four pieces, and the manifest for each of the three.
    assert server.requests["GET"] == 4 + 3
    assert found(store, job()).file("big.bin").read_bytes() == content


def test_a_download_that_is_interrupted_leaves_nothing_half(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = publish(store, job())
    forget_copies(store)

    def stop(_self: Bucket, _name: str, path: Path, _size: int) -> NoReturn:
        path.write_text("hel")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "download", stop)
        with pytest.raises(KeyboardInterrupt):
            entry.file("data.txt")
    assert not [path for path in (store.root / "split").rglob("*") if path.is_file()]
    assert entry.file("data.txt").read_text() == "hello"


def test_a_reader_that_is_killed_while_it_downloads_is_in_nobodys_way(store: RemoteStore) -> None:
    publish(store, job())
    forget_copies(store)
    code = (
        "import os, sys\n"
        "from contracts.store_contract import job\n"
        "from sweeps.store.objects import Bucket\n"
        "from sweeps.store import open_store\n"
        "def download(self, name, path, size):\n"
        "    path.write_text('hel')\n"
        "    os.kill(os.getpid(), 9)\n"
        "Bucket.download = download\n"
        "open_store(sys.argv[1]).find('split', job().key).file('data.txt')\n"
    )
    killed = python(code, store.address)
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    assert found(store, job()).file("data.txt").read_text() == "hello"
    assert len([path for path in (store.root / "split").rglob("*") if path.is_file()]) == 1


def test_a_copy_that_went_bad_on_this_machine_is_fetched_again(store: RemoteStore) -> None:
    entry = publish(store, job())
    (entry.folder / "data.txt").write_text("hellp")
    assert entry.file("data.txt").read_text() == "hello"
    (entry.folder / "data.txt").write_text("longer than it was")
    assert entry.file("data.txt").read_text() == "hello"


def test_a_cache_folder_that_cannot_be_written_is_no_damage(
    store: RemoteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, job())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONESHUI_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match=r"cache folder .* cannot be written .* set ONESHUI_CACHE"):
        RemoteStore(store.address).find("split", job().key)
    monkeypatch.setenv("ONESHUI_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("ONESHUI_CACHE_GB", "plenty")
    with pytest.raises(InputError, match="ONESHUI_CACHE_GB=plenty must be a number"):
        open_store(store.address)


def test_copies_that_were_not_used_for_long_make_room(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [publish(store, job(number), text="x" * 1000) for number in range(3)]
    long_ago = time.time() - 7200
    for entry in entries[:2]:
        os.utime(entry.folder, (long_ago, long_ago))
    entries[0].file("data.txt")
    monkeypatch.setenv("ONESHUI_CACHE_GB", "0.000001")
    store = RemoteStore(store.address)
    store._cache.tidy(now=True)
    # The first was used just now, the last was made just now.
    assert [entry.folder.exists() for entry in entries] == [True, False, True]
    assert found(store, job(1)).file("data.txt").read_text() == "x" * 1000


@pytest.mark.slow
def test_looking_up_a_plan_asks_for_each_manifest_once(
    store: RemoteStore, server: ObjectServer, bucket: Bucket
) -> None:
    entry = publish(store, job())
    whole = {one.name: bucket.get(one.name) for one in bucket.list("split")}
    jobs = [job(number) for number in range(700)]

    def pretend(one: Job) -> None:
        # As publishing would, in a third of the time.
        for name, read in whole.items():
            assert read is not None
            text = encoded(sealed(dataclasses.replace(entry, key=one.key)))
            content = text if name.endswith("result.json") else read[0]
            bucket.put(name.replace(job().key, one.key), content)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(pretend, jobs[1:]))
    fresh = RemoteStore(store.address)
    server.requests.clear()
    found = fresh.find_all(jobs)
    assert all(isinstance(entry, RemoteEntry) for entry in found.values())
    assert len(found) == 700
    # A thousand objects a listing; there are three for each job.
    assert server.requests == {"LIST": 3, "GET": 700}
    server.requests.clear()
    assert fresh.find_all(jobs) == found
    assert server.requests == {"LIST": 3}


def test_old_leftovers_are_swept_and_the_rest_kept(
    store: RemoteStore, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = publish(store, job())
    publish(store, job(1))
    store.discard("split", job(1).key)
    lost = (f"split/{job().key}/lost/data.txt", "pretrain/abc/lost/weights", ".work/probe")
    for name in (*lost, ".checkpoints/pretrain-abc.json"):
        bucket.put(name, b"half")
    before = names(bucket)
    store.sweep_leftovers()
    assert names(bucket) == before

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) + timedelta(seconds=STALE_WORK_SECONDS + 60)

    monkeypatch.setattr("sweeps.store.bucket.datetime", Later)
    store.sweep_leftovers()
    assert isinstance(entry, RemoteEntry)
    own = f"split/{job().key}"
    assert set(names(bucket)) == {
        f"{own}/{entry.attempt}/data.txt",
        f"{own}/{entry.attempt}/job.json",
        f"{own}/result.json",
    }


def test_a_store_exists_once_something_is_in_it(store: RemoteStore) -> None:
    assert not store_exists(store.address)
    publish(store, job())
    assert store_exists(store.address)
    assert store_exists(store.address + "/")


def test_a_manifest_says_what_there_is(store: RemoteStore, bucket: Bucket) -> None:
    entry = publish(store, job())
    read = bucket.get(f"split/{job().key}/result.json")
    assert read is not None
    document = json.loads(read[0])
    assert isinstance(entry, RemoteEntry)
    assert document["attempt"] == entry.attempt
    assert document["files"]["data.txt"]["bytes"] == 5
    assert entry.address == f"{store.address}/split/{job().key}/{entry.attempt}"


def test_a_worker_that_cannot_reach_the_store_is_tried_again(
    store: RemoteStore, server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = WorkerEnvironment(store=store, data_folders={}, logs=tmp_path / "logs")
    monkeypatch.setattr(objects, "RETRY_SECONDS", 0.2)
    monkeypatch.setitem(STAGES, "split", lambda _inputs: {"done": True})
    server.interfere = refusing("503 Slow Down", "SlowDown")
    failure = execute(job(), {job().key: job()}, env).failure
    assert failure is not None
    assert ATTEMPTS[failure.kind] == 6
    assert "cannot be reached" in failure.message
    # Gone while the job runs.
    server.interfere = lambda _method, _path: None

    def cut_off(_inputs: JobContext) -> dict[str, Any]:
        server.interfere = refusing("503 Slow Down", "SlowDown")
        return {}

    monkeypatch.setitem(STAGES, "split", cut_off)
    failure = execute(job(), {job().key: job()}, env).failure
    assert failure is not None
    assert failure.kind == "lost"
    server.interfere = lambda _method, _path: None
    assert store.find("split", job().key) is None


def test_a_sweep_leaves_the_same_results_as_on_a_disk(address: str, tmp_path: Path) -> None:
    tiny = ("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0]")
    methods = "sweep.methods=[pretrain,retrain,ssd]"
    there = inline_sweep(tmp_path / "there", *tiny, methods, f"store.uri={address}")
    here = inline_sweep(tmp_path / "here", *tiny, methods)
    assert isinstance(there.store, RemoteStore)
    assert there.scheduler.finished
    assert not there.scheduler.failures()
    contents = [
        {key: entry.content for key, entry in scan(here.plan, store, discard=False).entries.items()}
        for store in (here.store, there.store)
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == len(here.plan.jobs)
