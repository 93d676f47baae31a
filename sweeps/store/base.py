"""What a store is, an entry in it, and the folder in which a job makes one.

An entry is the folder ``<store>/<stage>/<key>/`` with ``job.json``, data files and ``result.json``.
It exists if and only if ``result.json`` does and names every file with its size and sha256.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from oneshui.errors import OneshuiError
from sweeps.graph.job import Job, Stage, canonical, digest
from sweeps.store.checkpoints import Checkpoint
from sweeps.store.leases import Leases

MANIFEST = "result.json"
LEFT_OUT_NOTE = "left_out.json"
"""Beside the manifest in an archive: sha256 and bytes of the files that were left out of it."""
SEAL = "seal"
"""Field of a manifest that holds the sha256 over all that it says of the entry."""
USERS = "plans"
"""Folder of the records of the sweeps that use a store."""
STALE_WORK_SECONDS = 7 * 24 * 3600.0
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
"""Errors of a disk that is full or must not be written."""


class DamagedEntryError(OneshuiError):
    """An entry's files do not match its manifest, or it belongs to another job.

    Attributes:
        stage: Stage of the entry.
        key: Key of the entry.
    """

    def __init__(self, stage: Stage, key: str, what: str) -> None:
        super().__init__(f"store entry {stage}/{key} is damaged: {what}")
        self.stage = stage
        self.key = key
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.stage, self.key, self.what)


class LeftOutError(DamagedEntryError):
    """A file was left out of the archive that the store is from: its job must run again."""

    def __init__(self, stage: Stage, key: str, name: str) -> None:
        OneshuiError.__init__(
            self,
            f"{name} of {stage}/{key} was left out of this archive; mode=run computes it again "
            "where a job needs it",
        )
        self.stage, self.key, self.what = stage, key, name


def sha256(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.lru_cache(maxsize=4096)
def sha256_of(path: Path, _modified: int, _size: int) -> str:
    """As ``sha256``, once per process while the file's time and size stay."""
    return sha256(path)


def encoded(document: Mapping[str, Any]) -> bytes:
    """A document as it is stored."""
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def manifest(
    job: Job,
    folder: Path,
    value: Mapping[str, Any],
    inputs: Mapping[str, str],
    cost: Mapping[str, Any],
    made: Mapping[str, str],
) -> dict[str, Any]:
    """Add ``job.json`` to a complete folder and say what is in it, under a seal."""
    (folder / "job.json").write_bytes(encoded(job.to_json()))
    names = sorted(path.name for path in folder.iterdir())
    files = {
        name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
        for name in names
    }
    value = canonical(value)
    fields = {
        "stage": job.stage,
        "key": job.key,
        "files": files,
        "value": value,
        "content": content_of(files, value),
        "inputs": dict(inputs),
        "cost": dict(cost),
        "made": dict(made),
    }
    return {**fields, SEAL: digest(fields)}


def content_of(files: Mapping[str, Mapping[str, Any]], value: Any) -> str:
    """sha256 over what a result is: its files' names and bytes, and its value."""
    return digest({"files": {name: files[name]["sha256"] for name in files}, "value": value})


def unsealed(data: bytes, stage: Stage, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a manifest says: the fields of an ``Entry``, and what the store added to them.

    Nothing in it is believed that does not agree with its seal and its content: costs and inputs
    stand in tables too. An edit that fits both is beyond it.

    Args:
        data: The bytes of the manifest.
        stage: Of the entry.
        key: The same.

    Raises:
        DamagedEntryError: A byte of it is not as it was written, or it belongs to another job.
    """
    with damage(stage, key):
        document = json.loads(data)
        if (document["stage"], document["key"]) != (stage, key):
            raise DamagedEntryError(stage, key, "it belongs to another job")
        if SEAL not in document:
            raise DamagedEntryError(stage, key, "an earlier version of oneshui wrote it")
        seal = document.pop(SEAL)
        fields = {name: document.pop(name) for name in ENTRY_FIELDS}
        if seal != digest(fields):
            raise DamagedEntryError(stage, key, f"{MANIFEST} has changed since it was written")
        if fields["content"] != content_of(fields["files"], fields["value"]):
            raise DamagedEntryError(stage, key, "its value has changed since it was written")
        return fields, document


@contextlib.contextmanager
def damage(stage: Stage, key: str) -> Iterator[None]:
    """Take what goes wrong while an entry is read for damage of the entry."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedEntryError(stage, key, f"{type(error).__name__} {error}") from error


def record(data: bytes) -> dict[str, Any]:
    """What a record of ``Store.users`` says; empty if it is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished job.

    Attributes:
        stage: Kind of job.
        key: Of the job.
        folder: Where its files are.
        files: sha256 and size in bytes by file name.
        value: The job's small result.
        content: sha256 over files and value: equal results have equal content.
        inputs: Content of each input when the job ran, by its name in ``Job.needed``.
        cost: Seconds and peak memory; not part of the content.
        made: Code, packages, device and precision that it was computed with; nor is this.
        left_out: Files that an archive left out on purpose.
    """

    stage: Stage
    key: str
    folder: Path
    files: Mapping[str, Mapping[str, Any]]
    value: Mapping[str, Any]
    content: str
    inputs: Mapping[str, str]
    cost: Mapping[str, Any]
    made: Mapping[str, str] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()

    @property
    def address(self) -> str:
        """Where the files are, for people."""
        return str(self.folder)

    def file(self, name: str) -> Path:
        """Path of a data file, after comparing its bytes with the manifest.

        Raises:
            DamagedEntryError: The file is absent or differs.
            LeftOutError: It was left out of the archive that the store is from.
        """
        path = self.folder / name
        if name not in self.files:
            raise DamagedEntryError(self.stage, self.key, f"its manifest does not name {name}")
        if name in self.left_out:
            raise LeftOutError(self.stage, self.key, name)
        with damage(self.stage, self.key):
            status = path.stat()
            if sha256_of(path, status.st_mtime_ns, status.st_size) != self.files[name]["sha256"]:
                raise DamagedEntryError(
                    self.stage, self.key, f"{name} has changed since it was written"
                )
        return path


ENTRY_FIELDS = tuple(
    one.name for one in dataclasses.fields(Entry) if one.name not in ("folder", "left_out")
)
"""What a manifest says of an entry."""


def manifest_of(entry: Entry) -> dict[str, Any]:
    """The manifest that a folder of the entry has."""
    fields = {name: getattr(entry, name) for name in ENTRY_FIELDS}
    return {**fields, SEAL: digest(fields)}


@dataclass(frozen=True, kw_only=True)
class EntryDraft:
    """A job's private folder until it is published.

    Attributes:
        job: What is worked on.
        folder: For its files.
        adopt: How its store takes the folder with the manifest that names its files.
    """

    job: Job
    folder: Path
    adopt: Callable[[Job, Path, Mapping[str, Any]], Entry]

    def publish(
        self,
        value: Mapping[str, Any],
        inputs: Mapping[str, str],
        cost: Mapping[str, Any],
        made: Mapping[str, str] | None = None,
    ) -> Entry:
        """Make folder and value the job's entry, all or nothing; the first to publish wins."""
        document = manifest(self.job, self.folder, value, inputs, cost, made or {})
        return self.adopt(self.job, self.folder, document)


@dataclass(frozen=True)
class DraftFolders:
    """The folders of a store that are this machine's own.

    Attributes:
        root: What contains them.
    """

    root: Path

    @contextlib.contextmanager
    def one(
        self, job: Job, adopt: Callable[[Job, Path, Mapping[str, Any]], Entry]
    ) -> Iterator[EntryDraft]:
        """A private folder for the job's files, removed at the end."""
        folder = self.root / f"{job.stage}-{job.key}-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        try:
            yield EntryDraft(job=job, folder=folder, adopt=adopt)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def unfinished(self, job: Job) -> Path:
        """See ``Store.unfinished``; the job's lease keeps others away from it."""
        return self.root / f"{job.stage}-{job.key}"

    def sweep(self) -> None:
        """Remove what a crash left behind long ago."""
        for folder in self.root.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime > STALE_WORK_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)


class Store(Protocol):
    """Where results live. All methods may be called by many processes at the same time.

    Attributes:
        leases: Who works on what.
    """

    leases: Leases

    @property
    def root(self) -> Path:
        """Folder of this machine below which files or their copies are, first by stage."""
        ...

    @property
    def address(self) -> str:
        """What ``open_store`` opens it by, for people and for other processes."""
        ...

    @property
    def written_to(self) -> str:
        """The folder of this machine that is written to, for a message when it is full."""
        ...

    def checkpoint(self, job: Job, inputs: Mapping[str, str]) -> Checkpoint:
        """Where a long training keeps what it has reached; no part of any result.

        Args:
            job: Whose it is.
            inputs: Content of each input; what was reached from others does not count.
        """
        ...

    def unfinished(self, job: Job) -> Path:
        """Folder of this machine for what a later attempt may go on from; made by who uses it."""
        ...

    def sweep_leftovers(self) -> None:
        """Remove what crashes left behind long ago."""
        ...

    def find(self, stage: Stage, key: str) -> Entry | None:
        """The entry, or None if there is none.

        Sizes of the files are compared with the manifest, contents when a file is opened.

        Raises:
            DamagedEntryError: It is there but not as it was written.
        """
        ...

    def find_all(self, jobs: Iterable[Job]) -> dict[str, Entry | DamagedEntryError]:
        """What ``find`` returns or raises for each job, by key; absent ones are left out."""
        ...

    def keys(self, stage: Stage) -> set[str]:
        """Keys of a stage that something is stored under, whole or damaged.

        Raises:
            DamagedEntryError: With an empty key: the stage's place holds something else, which
                ``discard`` takes out of the way by the same key.
        """
        ...

    def work(self, job: Job) -> contextlib.AbstractContextManager[EntryDraft]:
        """A private folder for the job's files; removed at the end if it was not published."""
        ...

    def discard(self, stage: Stage, key: str) -> None:
        """Take an entry out of the way, so that its job runs again."""
        ...

    def remove(self, stage: Stage, key: str) -> None:
        """Remove an entry for good; whenever this is cut short, it is there whole or gone."""
        ...

    def holdings(self) -> dict[tuple[Stage, str], int]:
        """Bytes of all that is stored under every stage and key, whole or damaged."""
        ...

    def note_user(self, name: str, document: Mapping[str, Any]) -> None:
        """Record who uses the store, in place of an earlier record of that name.

        Args:
            name: Of the record, letters and digits.
            document: What JSON holds.
        """
        ...

    def users(self) -> dict[str, dict[str, Any]]:
        """All such records by name; one that cannot be read is empty."""
        ...
