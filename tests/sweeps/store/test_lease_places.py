from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest
from contracts.store_contract import job
from support.buckets import names, refusing
from support.object_server import ObjectServer

from sweeps.store import objects
from sweeps.store.bucket import RemoteStore
from sweeps.store.lease_places import LeaseFolder, LeaseObjects
from sweeps.store.leases import Leases, name_of
from sweeps.store.objects import Bucket, StoreUnreachableError


def test_a_lease_whose_answer_got_lost_is_ours_and_another_s_is_not(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Bucket.create

    def create(self: Bucket, name: str, data: bytes) -> None:
        """Written at the first try, of whose answer nothing came; the second finds it there."""
        real(self, name, data)

    monkeypatch.setattr(Bucket, "create", create)
    lease = store.leases.acquire(job())
    assert lease is not None
    before = store.leases.holders()[lease.name].beat
    lease.beat()
    assert store.leases.holders()[lease.name].beat != before
    ours, theirs = (LeaseObjects(Bucket(store.address)) for _ in range(2))
    assert ours.create("split-abc", 1, "ours")
    assert not theirs.create("split-abc", 1, "theirs")
    read = theirs.read("split-abc", 1)
    assert read is not None
    assert read[0] == "ours"


def test_a_beat_whose_answer_got_lost_is_followed_by_others(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = store.leases.acquire(job())
    assert lease is not None
    real = Bucket.replace

    def replace(self: Bucket, name: str, data: bytes, version: Any) -> NoReturn:
        real(self, name, data, version)
        raise StoreUnreachableError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "replace", replace)
        lease.beat()
    seen = set()
    for _ in range(3):
        lease.beat()
        seen.add(store.leases.holders()[lease.name].beat)
    assert len(seen) == 3


def test_a_lease_that_was_cleared_away_is_not_written_again_by_a_beat(
    store: RemoteStore, bucket: Bucket
) -> None:
    lease = store.leases.acquire(job())
    other = RemoteStore(store.address)
    theirs = other.leases.acquire(job(), stale=1)
    assert lease is not None
    assert theirs is not None
    other.leases.release(job(), theirs)
    lease.beat()
    assert names(bucket) == []


def test_a_look_at_the_leases_asks_once_and_for_what_has_changed(
    store: RemoteStore, server: ObjectServer
) -> None:
    leases = [store.leases.acquire(job(number)) for number in range(30)]
    watcher = RemoteStore(store.address).leases
    assert len(watcher.holders()) == 30
    server.requests.clear()
    watcher.holders()
    assert server.requests == {"LIST": 1}
    for lease in leases[:2]:
        assert lease is not None
        lease.beat()
    server.requests.clear()
    assert watcher.holders()[name_of("split", job(1).key)].pid == os.getpid()
    assert server.requests == {"LIST": 1, "GET": 2}


def test_a_holder_beats_on_after_an_outage(
    store: RemoteStore, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "RETRY_SECONDS", 0.2)
    lease = store.leases.acquire(job())
    assert lease is not None
    with lease.beating(0.01):
        server.interfere = refusing("503 Slow Down", "SlowDown")
        time.sleep(1.0)
        server.interfere = lambda _method, _path: None
        before = store.leases.holders()[lease.name].beat
        deadline = time.monotonic() + 10
        while store.leases.holders()[lease.name].beat == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_racing_beats_and_looks_do_no_harm(store: RemoteStore) -> None:
    leases = [store.leases.acquire(job(number)) for number in range(8)]
    done = threading.Event()

    def look() -> int:
        looks = 0
        while not done.is_set():
            assert len(store.leases.holders()) == 8
            looks += 1
        return looks

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        for _ in range(20):
            for lease in leases:
                assert lease is not None
                lease.beat()
        done.set()
        assert all(each.result() > 0 for each in looking)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"host": 5}', '{"node": null}'])
def test_a_lease_of_another_form_is_held_by_nobody_that_is_known(tmp_path: Path, text: str) -> None:
    place = LeaseFolder(tmp_path)
    assert place.create("split-a", 1, text)
    assert Leases(place).holders()["split-a"].host == ""


def test_what_is_no_lease_by_name_or_by_kind_does_no_harm(tmp_path: Path) -> None:
    one = job()
    name = name_of(one.stage, one.key)
    (tmp_path / f"{name}.\N{SUPERSCRIPT TWO}").write_text("{}")
    (tmp_path / f"{name}.3").mkdir()
    leases = Leases(LeaseFolder(tmp_path))
    assert leases.acquire(one) is None
    lease = leases.acquire(one, stale=3)
    assert lease is not None
    leases.release(one, lease)
    assert leases.holders() == {}
