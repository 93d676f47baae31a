"""What tests do to stores in buckets."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from support.object_server import SECRETS, Answer

from sweeps.graph.job import Job
from sweeps.store.bucket import RemoteEntry, RemoteStore
from sweeps.store.objects import Bucket


def forget_copies(store: RemoteStore) -> None:
    """As if the next look came from another machine."""
    shutil.rmtree(store.root)
    (store.root / ".work").mkdir(parents=True)
    (store.root / ".locks").mkdir()


def path_of(store: RemoteStore, what: Job, name: str) -> str:
    if name == "result.json":
        return f"{what.stage}/{what.key}/{name}"
    return f"{what.stage}/{what.key}/{found(store, what).attempt}/{name}"


def found(store: RemoteStore, what: Job) -> RemoteEntry:
    entry = store.find(what.stage, what.key)
    assert isinstance(entry, RemoteEntry)
    return entry


def names(bucket: Bucket) -> list[str]:
    return [one.name for one in bucket.list("")]


def refusing(status: str, code: str) -> Callable[[str, str], Answer]:
    """An answer as talkative as the real ones."""
    body = (
        f"<Error><Code>{code}</Code><AWSAccessKeyId>{SECRETS[0]}</AWSAccessKeyId>"
        f"<StringToSign>{SECRETS[1]}</StringToSign></Error>"
    )
    return lambda _method, _path: (status, body.encode())
