"""The results of jobs: content-addressed, published atomically, never trusted unread.

An entry is the folder ``<store>/<stage>/<key>/`` with ``job.json``, data files and ``result.json``.
It exists if and only if ``result.json`` does and names every file with its size and sha256.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from oneshui.errors import InputError, OneshuiError
from sweeps.graph.job import Job, Stage
from sweeps.store.checkpoints import Checkpoint
from sweeps.store.leases import LeaseFolder, Leases
from sweeps.store.manifests import MANIFEST, encoded, sha256_of
from sweeps.store.work import Work, WorkFolders

if TYPE_CHECKING:
    from sweeps.store.bucket import RemoteStore

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
        return DamagedEntryError, (self.stage, self.key, self.what)


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
        inputs: Content of each input when the job ran, by role.
        cost: Seconds and peak memory; not part of the content.
    """

    stage: Stage
    key: str
    folder: Path
    files: Mapping[str, Mapping[str, Any]]
    value: Mapping[str, Any]
    content: str
    inputs: Mapping[str, str]
    cost: Mapping[str, Any]

    @property
    def address(self) -> str:
        """Where the files are, for people."""
        return str(self.folder)

    def file(self, name: str) -> Path:
        """Path of a data file, after comparing its bytes with the manifest.

        Raises:
            DamagedEntryError: The file is absent or differs.
        """
        path = self.folder / name
        if name not in self.files:
            raise DamagedEntryError(self.stage, self.key, f"its manifest does not name {name}")
        with damage(self.stage, self.key):
            status = path.stat()
            if sha256_of(path, status.st_mtime_ns, status.st_size) != self.files[name]["sha256"]:
                raise DamagedEntryError(
                    self.stage, self.key, f"{name} has changed since it was written"
                )
        return path


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

    def checkpoint(self, job: Job) -> Checkpoint:
        """Where a long training keeps what it has reached; no part of any result."""
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
        """Keys of a stage that something is stored under, whole or damaged."""
        ...

    def work(self, job: Job) -> contextlib.AbstractContextManager[Work]:
        """A private folder for the job's files; removed at the end if it was not published."""
        ...

    def discard(self, stage: Stage, key: str) -> None:
        """Take an entry out of the way, so that its job runs again."""
        ...


@contextlib.contextmanager
def damage(stage: Stage, key: str) -> Iterator[None]:
    """Take what goes wrong while an entry is read for damage of the entry."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedEntryError(stage, key, f"{type(error).__name__} {error}") from error


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalStore:
    """A store in a folder of this machine or of a shared file system."""

    def __init__(self, root: Path) -> None:
        """Create the folder if need be.

        Raises:
            InputError: It cannot be written.
        """
        self.root = root
        try:
            for folder in (".work", ".discarded", ".leases", ".checkpoints"):
                (root / folder).mkdir(parents=True, exist_ok=True)
            probe = root / ".work" / f"probe-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"the store folder {root} cannot be written ({error.strerror}); "
                "set output_dir or store.uri to a folder that can"
            ) from None

        self.leases = Leases(LeaseFolder(root / ".leases"))
        self._work = WorkFolders(root / ".work")

    @property
    def address(self) -> str:
        """See ``Store.address``."""
        return str(self.root)

    @property
    def written_to(self) -> str:
        """See ``Store.written_to``."""
        return str(self.root)

    def checkpoint(self, job: Job) -> Checkpoint:
        """Where a long training keeps what it has reached; no part of any result."""
        return Checkpoint(self.root / ".checkpoints" / f"{job.stage}-{job.key}")

    def unfinished(self, job: Job) -> Path:
        """See ``Store.unfinished``; the job's lease keeps others away from it."""
        return self._work.unfinished(job)

    def _folder(self, stage: Stage, key: str) -> Path:
        return self.root / stage / key

    def find(self, stage: Stage, key: str) -> Entry | None:
        """See ``Store.find``."""
        folder = self._folder(stage, key)
        text = _read(folder / MANIFEST)
        if text is None and folder.exists():
            # Somebody may have published it since: a folder appears with its manifest in it.
            text = _read(folder / MANIFEST)
            if text is None:
                raise DamagedEntryError(stage, key, f"it has no {MANIFEST}")
        if text is None:
            return None
        with damage(stage, key):
            document = json.loads(text)
            if (document["stage"], document["key"]) != (stage, key):
                raise DamagedEntryError(stage, key, "it belongs to another job")
            for name, known in document["files"].items():
                if (folder / name).stat().st_size != known["bytes"]:
                    raise DamagedEntryError(stage, key, f"{name} has another size")
            job = Job.from_json(json.loads((folder / "job.json").read_text(encoding="utf-8")))
            if (job.stage, job.key) != (stage, key):
                raise DamagedEntryError(stage, key, "its job.json belongs to another job")
            return Entry(
                stage=stage,
                key=key,
                folder=folder,
                files=document["files"],
                value=document["value"],
                content=document["content"],
                inputs=document["inputs"],
                cost=document["cost"],
            )

    def find_all(self, jobs: Iterable[Job]) -> dict[str, Entry | DamagedEntryError]:
        """See ``Store.find_all``."""
        found: dict[str, Entry | DamagedEntryError] = {}
        for job in jobs:
            try:
                entry = self.find(job.stage, job.key)
            except DamagedEntryError as error:
                found[job.key] = error
            else:
                if entry is not None:
                    found[job.key] = entry
        return found

    def keys(self, stage: Stage) -> set[str]:
        """See ``Store.keys``."""
        try:
            return {path.name for path in (self.root / stage).iterdir()}
        except FileNotFoundError:
            return set()

    def work(self, job: Job) -> contextlib.AbstractContextManager[Work]:
        """See ``Store.work``."""
        return self._work.one(job, self._adopt)

    def _adopt(self, job: Job, folder: Path, document: Mapping[str, Any]) -> Entry:
        """Rename a complete folder into its place; an equal entry that is there already stays."""
        (folder / MANIFEST).write_bytes(encoded(document))
        for name in (*document["files"], MANIFEST):
            _sync(folder / name)
        _sync(folder)
        target = self._folder(job.stage, job.key)
        target.parent.mkdir(exist_ok=True)
        for _ in range(3):
            try:
                folder.rename(target)
                _sync(target.parent)
            except OSError:
                if not target.exists():
                    raise
            try:
                entry = self.find(job.stage, job.key)
            except DamagedEntryError:
                self.discard(job.stage, job.key)
                continue
            if entry is not None:
                return entry
        raise OSError(f"cannot publish {target}: something keeps removing or damaging it")

    def discard(self, stage: Stage, key: str) -> None:
        """See ``Store.discard``; the entry is kept under ``.discarded`` for inspection."""
        with contextlib.suppress(FileNotFoundError):
            self._folder(stage, key).rename(
                self.root / ".discarded" / f"{stage}-{key}-{uuid.uuid4().hex[:8]}"
            )

    def sweep_leftovers(self) -> None:
        """Remove work folders that a crash left behind long ago."""
        self._work.sweep()


def _remote(uri: str) -> RemoteStore | None:
    if "://" not in uri or uri.startswith("file://"):
        return None
    from sweeps.store.bucket import RemoteStore

    return RemoteStore(uri)


def _folder_of(uri: str) -> Path:
    return Path(uri.removeprefix("file://")).absolute()


def store_exists(uri: str) -> bool:
    """Whether there is a store at a folder or address.

    Raises:
        InputError: It cannot be asked, or the address is of a kind that is not supported.
    """
    remote = _remote(uri)
    return remote.exists() if remote is not None else _folder_of(uri).is_dir()


def open_store(uri: str) -> Store:
    """The store at a folder or at an address ``s3://bucket/prefix`` or ``gs://bucket/prefix``.

    Raises:
        InputError: It cannot be reached or written, or the address is of a kind that is not
            supported.
    """
    remote = _remote(uri)
    if remote is None:
        return LocalStore(_folder_of(uri))
    remote.check()
    return remote
