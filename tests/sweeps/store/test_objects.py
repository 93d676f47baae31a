from __future__ import annotations

import dataclasses
import os
import pickle
import socket
import sys
import time
import traceback
from pathlib import Path

import pytest
from contracts.store_contract import job, publish
from support.buckets import refusing
from support.object_server import SECRETS, Answer, ObjectServer
from support.processes import python

from oneshui.errors import InputError
from sweeps.graph.job import Job
from sweeps.stages.context import WorkerEnvironment
from sweeps.stages.preflight import preflight
from sweeps.store import objects, open_store, store_exists
from sweeps.store.bucket import RemoteStore
from sweeps.store.objects import SERVICES, Bucket, Service, StoreUnreachableError


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        ("403 Forbidden", "AccessDenied", r"denied \(403 AccessDenied\); check the credentials"),
        ("403 Forbidden", "SignatureDoesNotMatch", "denied"),
        ("400 Bad Request", "ExpiredToken", "denied"),
        ("301 Moved", "PermanentRedirect", "another region; set AWS_REGION"),
        ("404 Not Found", "NoSuchBucket", "there is no bucket"),
        ("503 Slow Down", "SlowDown", r"cannot be reached at .* \(503 SlowDown, tried for 0.5 s\)"),
    ],
)
def test_what_a_service_refuses_is_one_sentence_without_what_it_said(
    address: str,
    server: ObjectServer,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    code: str,
    says: str,
) -> None:
    monkeypatch.setattr(objects, "RETRY_SECONDS", 0.5)
    server.interfere = refusing(status, code)
    for use in (open_store, store_exists):
        with pytest.raises(InputError, match=says) as caught:
            use(address)
        assert str(caught.value).count("\n") == 0
        shown = "".join(traceback.format_exception(caught.value))
        assert not any(secret in shown for secret in SECRETS)


def test_a_service_that_does_not_answer_is_given_up_in_the_end(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "RETRY_SECONDS", 1.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    address = store.address
    start = time.monotonic()
    with pytest.raises(InputError, match=r"127.0.0.1:9 \(no connection, tried for 1 s\)"):
        open_store(address)
    assert time.monotonic() - start < 5
    with pytest.raises(StoreUnreachableError):
        RemoteStore(address).find("split", job().key)


def test_a_short_outage_is_not_noticed(store: RemoteStore, server: ObjectServer) -> None:
    over = time.monotonic() + 1.5
    refused = []

    def busy(method: str, _path: str) -> Answer | None:
        if time.monotonic() > over:
            return None
        refused.append(method)
        return "503 Slow Down", b"<Error><Code>SlowDown</Code></Error>"

    server.interfere = busy
    assert publish(store, job()).file("data.txt").read_text() == "hello"
    assert len(refused) >= 3


def test_a_machine_without_credentials_is_told_which(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "RETRY_SECONDS", 0.5)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"no credentials .* set AWS_ACCESS_KEY_ID"):
        open_store(address)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    with pytest.raises(InputError, match=r"no credentials .* set GOOGLE_APPLICATION_CREDENTIALS"):
        open_store("gs://bucket/prefix")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("abfs://bucket/store", r"not supported: give a folder, s3://bucket/prefix or gs://"),
        ("s3://", "not of the form s3://bucket/prefix"),
        ("gs:///prefix", "not of the form"),
        ("s3://bucket/../up", "not of the form"),
        ("s3://bucket/a?b", "not of the form"),
        ("s3://key:secret@bucket/store", "holds credentials"),
    ],
)
def test_an_address_that_cannot_be_used_is_bad_input(uri: str, says: str) -> None:
    for use in (open_store, store_exists):
        with pytest.raises(InputError, match=says) as caught:
            use(uri)
        assert "secret" not in str(caught.value)


def test_http_is_for_loopback_only(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://10.0.0.7:9000")
    with pytest.raises(InputError, match=r"AWS_ENDPOINT_URL names http://10.0.0.7, .* use https"):
        open_store(address)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://me:secret@10.0.0.7:9000")
    with pytest.raises(InputError, match="must be of the form") as caught:
        open_store(address)
    assert "secret" not in str(caught.value)
    for url, endpoint in {
        "http://localhost": "http://localhost",
        "https://minio.example": "https://minio.example",
        "http://127.0.0.1:9000/": "http://127.0.0.1:9000",
    }.items():
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert Bucket(address).endpoint == endpoint
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio:port")
    with pytest.raises(InputError, match="must be of the form"):
        Bucket(address)


def test_without_the_package_it_says_what_to_install(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("obstore", "obstore.store", "obstore.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"install 'oneshui\[cloud\]'"):
        open_store(address)


def test_a_further_service_is_one_entry(
    address: str, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"'mine://.*' is not supported"):
        open_store(address.replace("s3://", "mine://"))
    mine = Service(
        client="S3Store",
        options={"conditional_put": "etag"},
        endpoints=("MINE_ENDPOINT",),
        credentials="ask Ann for a key",
    )
    monkeypatch.setattr(objects, "SERVICES", {**SERVICES, "mine": mine})
    monkeypatch.setenv("MINE_ENDPOINT", server.environment()["AWS_ENDPOINT_URL"])
    store = open_store(address.replace("s3://", "mine://"))
    assert store.address.startswith("mine://")
    publish(store, job())
    again = open_store(store.address)
    assert publish(again, job(), text="late").file("data.txt").read_text() == "hello"
    with pytest.raises(InputError, match=r"gs://bucket/prefix or mine://bucket/prefix"):
        open_store("ftp://bucket/store")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(objects, "RETRY_SECONDS", 0.2)
    with pytest.raises(InputError, match=r"there are no credentials .*; ask Ann for a key"):
        open_store(store.address)


def test_a_file_of_many_pieces_arrives_whole_though_the_disk_takes_few_bytes_at_once(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, real = bytes(range(40)), os.pwrite
    bucket.put("some/file", whole)
    monkeypatch.setattr(objects, "PIECE_BYTES", 7)
    monkeypatch.setattr(os, "pwrite", lambda to, data, start: real(to, data[:3], start))
    bucket.download("some/file", tmp_path / "file", 40)
    assert (tmp_path / "file").read_bytes() == whole


def test_an_object_is_replaced_only_while_it_is_what_was_read(bucket: Bucket) -> None:
    first = bucket.create("some/object", b"one")
    assert first is not None
    assert bucket.replace("some/object", b"two", first) is not None
    assert bucket.replace("some/object", b"three", first) is None
    read = bucket.get("some/object")
    assert read is not None
    assert read[0] == b"two"


def test_a_folder_needs_nothing_of_all_this(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from sweeps.store import open_store\n"
        "open_store(sys.argv[1])\n"
        "print([name for name in sys.modules if 'obstore' in name or 'bucket' in name])\n"
    )
    assert python(code, str(tmp_path)).communicate(timeout=60)[0] == "[]\n"


def test_credentials_are_in_no_pickle_and_no_text(store: RemoteStore) -> None:
    entry = publish(store, job())
    store.leases.acquire(job())
    for thing in (store, entry, store.leases.holders(), store._bucket):
        known = pickle.dumps(thing) + repr(thing).encode()
        assert not any(secret.encode() in known for secret in SECRETS)
    again = pickle.loads(pickle.dumps(store))
    assert again == store
    assert again.root == store.root
    assert again.find("split", job().key) == entry


def test_a_worker_without_credentials_says_on_which_machine(
    store: RemoteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "RETRY_SECONDS", 0.5)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    env = WorkerEnvironment(store=RemoteStore(store.address), data_folders={}, logs=tmp_path)
    cache = Job(stage="cache", spec={}, inputs={"index": "abc"}, label="cache")
    with pytest.raises(InputError, match=f"on the machine {socket.gethostname()}: .* no cred"):
        preflight([cache], env)
    # A service that does not answer for a while is for the jobs to meet.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRETS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    preflight([cache], dataclasses.replace(env, store=RemoteStore(store.address)))
