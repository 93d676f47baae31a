"""A store in a bucket of S3 or Google Cloud Storage, shared by any number of machines.

A job's files are the objects ``<stage>/<key>/<attempt>/<file>``, each attempt under a name of its
own. The entry is the manifest ``<stage>/<key>/result.json``, which names the attempt that counts
and is written last, by a request that fails if it is there: so an entry is whole or not there, and
the first to publish wins. Files are read from this machine's copies.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from oneshui.errors import InputError, OneshuiError
from sweeps.graph.job import STAGES, Job, Stage
from sweeps.store.base import (
    ENTRY_FIELDS,
    MANIFEST,
    STALE_WORK_SECONDS,
    USERS,
    DamagedEntryError,
    DraftFolders,
    Entry,
    EntryDraft,
    damage,
    encoded,
    record,
    sha256_of,
    unsealed,
)
from sweeps.store.cache import NodeCache, cache_folder
from sweeps.store.checkpoints import Checkpoint, CheckpointObject
from sweeps.store.lease_places import LeaseObjects
from sweeps.store.leases import Leases
from sweeps.store.objects import Bucket, Object, StoreUnreachableError, in_parallel

LOOKUPS = 32
"""Requests at the same time when many entries are looked up."""

_FEW = 8
"""So many entries of a stage are looked up one by one rather than by listing the stage."""

_DISCARDED = ".discarded"
_CHECKPOINTS = ".checkpoints"


@dataclass(frozen=True, kw_only=True)
class RemoteEntry(Entry):
    """A finished job whose files are in a bucket.

    Attributes:
        store: Where.
        attempt: Under which name.
    """

    store: RemoteStore
    attempt: str

    def __reduce__(self) -> tuple[Any, ...]:
        # The other machine's copies are elsewhere.
        return _entry, (
            self.store,
            self.attempt,
            {name: getattr(self, name) for name in ENTRY_FIELDS},
        )

    @property
    def address(self) -> str:
        """Where the files are, for people."""
        return f"{self.store.address}/{self.stage}/{self.key}/{self.attempt}"

    def file(self, name: str) -> Path:
        """See ``Entry.file``; fetched if this machine has no copy."""
        if name not in self.files:
            raise DamagedEntryError(self.stage, self.key, f"its manifest does not name {name}")
        return self.store.fetch(self, name)


def _entry(store: RemoteStore, attempt: str, document: Mapping[str, Any]) -> RemoteEntry:
    folder = store.root / document["stage"] / document["key"] / attempt
    return RemoteEntry(store=store, attempt=attempt, folder=folder, **document)


class RemoteStore:
    """A store in a bucket; another process opens it again from its address."""

    def __init__(self, address: str) -> None:
        """Parse the address; nothing is asked of the service yet.

        Raises:
            InputError: It is no address of a bucket.
        """
        self._bucket = Bucket(address)
        self.address = self._bucket.uri
        self.leases = Leases(LeaseObjects(self._bucket))
        self._manifests: dict[str, tuple[str, bytes]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteStore, (self.address,)

    def __repr__(self) -> str:
        return f"RemoteStore({self.address!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteStore) and self._bucket == other._bucket

    def __hash__(self) -> int:
        return hash(self._bucket)

    @property
    def _work(self) -> DraftFolders:
        return DraftFolders(self._cache.work)

    @cached_property
    def _cache(self) -> NodeCache:
        which = hashlib.sha256(f"{self._bucket.endpoint} {self.address}".encode()).hexdigest()
        name = self.address.partition("://")[2].replace("/", "-")
        return NodeCache(cache_folder() / f"{name}-{which[:8]}")

    @property
    def root(self) -> Path:
        """Folder of this machine's copies, ``<stage>/<key>/<attempt>/<file>``."""
        return self._cache.root

    @property
    def written_to(self) -> str:
        """The folder that is written to, and how to have another."""
        return f"{self.root} (ONESHUI_CACHE says where)"

    def exists(self) -> bool:
        """Whether anything is stored there.

        Raises:
            InputError: It cannot be asked.
        """
        try:
            return not self._bucket.is_empty()
        except StoreUnreachableError as error:
            raise InputError(str(error)) from None

    def check(self) -> None:
        """Find out whether the store can be used, before anything starts.

        Raises:
            InputError: It cannot be listed or written.
        """
        probe = f".work/probe-{uuid.uuid4().hex}"
        try:
            self._bucket.put(probe, b"")
            if not any(one.name == probe for one in self._bucket.list(".work")):
                raise InputError(f"what is written to {self.address} cannot be seen there")
            self._bucket.remove([probe])
        except StoreUnreachableError as error:
            raise InputError(str(error)) from None
        self._cache.tidy(now=True)

    def checkpoint(self, job: Job, inputs: Mapping[str, str]) -> Checkpoint:
        """See ``Store.checkpoint``."""
        name = f"{_CHECKPOINTS}/{job.stage}-{job.key}"
        return Checkpoint(CheckpointObject(self._bucket, name), inputs)

    def unfinished(self, job: Job) -> Path:
        """See ``Store.unfinished``; the job's lease keeps others away from it."""
        return self._work.unfinished(job)

    def find(self, stage: Stage, key: str) -> Entry | None:
        """See ``Store.find``: a listing, and the manifest unless this process knows it."""
        try:
            return self._whole(stage, key, self._bucket.list(f"{stage}/{key}"))
        except DamagedEntryError:
            # It may have been replaced between the listing and the reading.
            self._manifests.pop(f"{stage}/{key}/{MANIFEST}", None)
            return self._whole(stage, key, self._bucket.list(f"{stage}/{key}"))

    def find_all(self, jobs: Iterable[Job]) -> dict[str, Entry | DamagedEntryError]:
        """See ``Store.find_all``: a listing for a thousand objects, manifests side by side."""
        wanted: dict[Stage, list[str]] = defaultdict(list)
        for job in jobs:
            wanted[job.stage].append(job.key)
        listed: dict[tuple[Stage, str], list[Object]] = {}
        for stage, keys in wanted.items():
            if len(keys) <= _FEW:
                listed |= {(stage, key): [] for key in keys}
            else:
                by_key = self._by_key(stage)
                listed |= {(stage, key): by_key[key] for key in keys if key in by_key}

        def look(which: tuple[Stage, str]) -> Entry | DamagedEntryError | None:
            with contextlib.suppress(DamagedEntryError):
                if listed[which]:
                    return self._whole(*which, listed[which])
            try:
                return self.find(*which)
            except DamagedEntryError as error:
                return error

        found = in_parallel(look, listed, LOOKUPS)
        return {key: it for (_, key), it in zip(listed, found, strict=True) if it is not None}

    def _by_key(self, stage: str) -> dict[str, list[Object]]:
        found: dict[str, list[Object]] = defaultdict(list)
        for one in self._bucket.list(stage):
            found[one.name.split("/")[1]].append(one)
        return found

    def _whole(self, stage: Stage, key: str, objects: Collection[Object]) -> Entry | None:
        """The entry of a key whose objects were listed."""
        path = f"{stage}/{key}/{MANIFEST}"
        sizes = {one.name: one.size for one in objects}
        tag = next((one.tag for one in objects if one.name == path), None)
        data = self._manifest(path, tag) if tag is not None else None
        if data is None:
            return None
        with damage(stage, key):
            fields, added = unsealed(data, stage, key)
            attempt = str(added["attempt"])
            for name, known in fields["files"].items():
                if sizes.get(f"{stage}/{key}/{attempt}/{name}") != known["bytes"]:
                    raise DamagedEntryError(stage, key, f"{name} is gone or has another size")
        # Outside: a cache folder that cannot be written is no damage of the entry.
        return _entry(self, attempt, fields)

    def _manifest(self, path: str, tag: str) -> bytes | None:
        known = self._manifests.get(path)
        if known is not None and known[0] == tag:
            return known[1]
        found = self._bucket.get(path)
        if found is None:
            return None
        self._manifests[path] = (tag, found[0])
        return found[0]

    def keys(self, stage: Stage) -> set[str]:
        """See ``Store.keys``."""
        return self._bucket.folders(stage)

    def work(self, job: Job) -> contextlib.AbstractContextManager[EntryDraft]:
        """See ``Store.work``; the folder is this machine's."""
        return self._work.one(job, self._adopt)

    def _adopt(self, job: Job, folder: Path, document: Mapping[str, Any]) -> Entry:
        """Upload a complete folder, then its manifest unless there is one already."""
        attempt = uuid.uuid4().hex
        above = f"{job.stage}/{job.key}"
        names = [f"{above}/{attempt}/{name}" for name in document["files"]]
        try:
            for name in document["files"]:
                self._bucket.put(f"{above}/{attempt}/{name}", folder / name)
        except OneshuiError:
            self._forget(names)
            raise
        for _ in range(3):
            # A failure from here on may be a success whose answer got lost: the files must stay.
            self._bucket.create(f"{above}/{MANIFEST}", encoded({**document, "attempt": attempt}))
            try:
                entry = self.find(job.stage, job.key)
            except DamagedEntryError:
                self.discard(job.stage, job.key)
                continue
            if isinstance(entry, RemoteEntry):
                if entry.attempt == attempt:
                    self._cache.adopt(folder, entry.folder)
                else:
                    self._forget(names)
                return entry
        raise OSError(
            f"cannot publish {self.address}/{above}: something keeps removing or damaging it"
        )

    def _forget(self, names: Collection[str]) -> None:
        """Remove objects that no manifest names; what stays is swept one day."""
        with contextlib.suppress(OneshuiError):
            self._bucket.remove(list(names))

    def fetch(self, entry: RemoteEntry, name: str) -> Path:
        """This machine's copy of a file of an entry, with the bytes that the manifest names.

        Raises:
            DamagedEntryError: The object is absent or differs.
        """
        known = entry.files[name]
        target = self.root / entry.stage / entry.key / entry.attempt / name
        source = f"{entry.stage}/{entry.key}/{entry.attempt}/{name}"

        def is_whole(path: Path) -> bool:
            status = path.stat()
            if status.st_size != known["bytes"]:
                return False
            digest = sha256_of(path, status.st_mtime_ns, status.st_size)
            return digest == str(known["sha256"])

        def download(path: Path) -> None:
            try:
                self._bucket.download(source, path, known["bytes"])
            except FileNotFoundError:
                raise DamagedEntryError(entry.stage, entry.key, f"{name} is gone") from None
            if not is_whole(path):
                raise DamagedEntryError(
                    entry.stage, entry.key, f"{name} has changed since it was written"
                )

        return self._cache.fetch(target, is_whole, download)

    def discard(self, stage: Stage, key: str) -> None:
        """See ``Store.discard``; manifest and files are kept for a week, for inspection."""
        path = f"{stage}/{key}/{MANIFEST}"
        if self._bucket.copy(path, f"{_DISCARDED}/{stage}-{key}-{uuid.uuid4().hex[:8]}.json"):
            self._bucket.remove([path])

    def remove(self, stage: Stage, key: str) -> None:
        """See ``Store.remove``; files without their manifest are swept one day."""
        above = f"{stage}/{key}"
        names = [one.name for one in self._bucket.list(above)]
        self._bucket.remove([f"{above}/{MANIFEST}"])
        self._forget([name for name in names if name != f"{above}/{MANIFEST}"])

    def holdings(self) -> dict[tuple[Stage, str], int]:
        """See ``Store.holdings``."""
        return {
            (stage, key): sum(one.size for one in objects)
            for stage in STAGES
            for key, objects in self._by_key(stage).items()
        }

    def note_user(self, name: str, document: Mapping[str, Any]) -> None:
        """See ``Store.note_user``."""
        self._bucket.put(f"{USERS}/{name}.json", encoded(document))

    def users(self) -> dict[str, dict[str, Any]]:
        """See ``Store.users``."""
        names = [one.name for one in self._bucket.list(USERS)]
        found = in_parallel(self._bucket.get, names, LOOKUPS)
        return {
            Path(name).stem: record(it[0])
            for name, it in zip(names, found, strict=True)
            if it is not None
        }

    def sweep_leftovers(self) -> None:
        """Remove what crashes left behind long ago, here and in the bucket."""
        before = datetime.now(UTC) - timedelta(seconds=STALE_WORK_SECONDS)
        self._work.sweep()
        aside = (".work", _DISCARDED, _CHECKPOINTS)
        old = [
            one.name
            for folder in aside
            for one in self._bucket.list(folder)
            if one.modified < before
        ]
        for stage in STAGES:
            for key, objects in self._by_key(stage).items():
                old += self._unnamed(stage, key, objects, before)
        self._forget(old)

    def _unnamed(
        self, stage: Stage, key: str, objects: Collection[Object], before: datetime
    ) -> list[str]:
        """Old objects of attempts that the manifest does not name."""
        manifests = [one for one in objects if one.name == f"{stage}/{key}/{MANIFEST}"]
        attempts = {one.name.split("/")[2] for one in objects} - {MANIFEST}
        old = [one.name for one in objects if one.modified < before and one not in manifests]
        if not old or (manifests and len(attempts) == 1):
            return []
        try:
            entry = self._whole(stage, key, objects)
        except DamagedEntryError:
            return []
        kept = entry.attempt if isinstance(entry, RemoteEntry) else ""
        return [name for name in old if name.split("/")[2] != kept]
