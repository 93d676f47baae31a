"""A store in a folder of this machine or of a shared file system."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from oneshui.durable import to_disk
from oneshui.errors import InputError
from sweeps.graph.job import STAGES, Job, Stage
from sweeps.store.aside import make_room
from sweeps.store.base import (
    LEFT_OUT_NOTE,
    MANIFEST,
    USERS,
    DamagedEntryError,
    DraftFolders,
    Entry,
    EntryDraft,
    damage,
    encoded,
    record,
    unsealed,
)
from sweeps.store.checkpoints import Checkpoint
from sweeps.store.lease_places import LeaseFolder
from sweeps.store.leases import Leases


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _left_out(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """The files of an entry that are absent because an archive left out these very ones."""
    absent = [name for name in files if not (folder / name).exists()]
    said = record(_read(folder / LEFT_OUT_NOTE) or b"") if absent else {}
    return frozenset(name for name in absent if said.get(name) == files[name])


def _bytes_in(folder: Path) -> int:
    """Bytes of the files in a folder; none if somebody takes it out of the way meanwhile."""
    try:
        return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    except FileNotFoundError:
        return 0


_OWN = (".work", ".discarded", ".leases", ".checkpoints")


class LocalStore:
    """A store in a folder of this machine or of a shared file system."""

    def __init__(self, root: Path, *, writes: bool = True) -> None:
        """Create the folder if need be.

        A file in the place of one of its folders is kept under another name.

        Args:
            root: The folder.
            writes: False for whoever only looks: nothing is created.

        Raises:
            InputError: It cannot be written.
        """
        self.root = root
        if writes:
            self._make_folders()
        self.leases = Leases(LeaseFolder(root / ".leases"))
        self._work = DraftFolders(root / ".work")

    def _make_folders(self) -> None:
        root = self.root
        try:
            for folder in _OWN:
                make_room(root / folder, for_folder=True)
                (root / folder).mkdir(parents=True, exist_ok=True)
            probe = root / ".work" / f"probe-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"the store folder {root} cannot be written ({error.strerror}); "
                "set output_dir or store.uri to a folder that can"
            ) from None

    @property
    def address(self) -> str:
        """See ``Store.address``."""
        return str(self.root)

    @property
    def written_to(self) -> str:
        """See ``Store.written_to``."""
        return str(self.root)

    def checkpoint(self, job: Job, inputs: Mapping[str, str]) -> Checkpoint:
        """See ``Store.checkpoint``."""
        return Checkpoint(self.root / ".checkpoints" / f"{job.stage}-{job.key}", inputs)

    def unfinished(self, job: Job) -> Path:
        """See ``Store.unfinished``; the job's lease keeps others away from it."""
        return self._work.unfinished(job)

    def _folder(self, stage: Stage, key: str) -> Path:
        return self.root / stage / key

    def find(self, stage: Stage, key: str) -> Entry | None:
        """See ``Store.find``."""
        folder = self._folder(stage, key)
        with damage(stage, key):
            data = _read(folder / MANIFEST)
            if data is None and folder.exists():
                # Somebody may have published it since: a folder appears with its manifest in it.
                data = _read(folder / MANIFEST)
                if data is None:
                    raise DamagedEntryError(stage, key, f"it has no {MANIFEST}")
            if data is None:
                return None
            fields, _ = unsealed(data, stage, key)
            left_out = _left_out(folder, fields["files"])
            for name, known in fields["files"].items():
                if name not in left_out and (folder / name).stat().st_size != known["bytes"]:
                    raise DamagedEntryError(stage, key, f"{name} has another size")
            job = Job.from_json(json.loads((folder / "job.json").read_bytes()))
            if (job.stage, job.key) != (stage, key):
                raise DamagedEntryError(stage, key, "its job.json belongs to another job")
            return Entry(folder=folder, left_out=left_out, **fields)

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
        except NotADirectoryError:
            raise DamagedEntryError(stage, "", "a file stands in its folder's place") from None

    def work(self, job: Job) -> contextlib.AbstractContextManager[EntryDraft]:
        """See ``Store.work``."""
        return self._work.one(job, self._adopt)

    def _adopt(self, job: Job, folder: Path, document: Mapping[str, Any]) -> Entry:
        """Rename a complete folder into its place; an equal entry that is there already stays."""
        (folder / MANIFEST).write_bytes(encoded(document))
        for name in (*document["files"], MANIFEST):
            to_disk(folder / name)
        to_disk(folder)
        target = self._folder(job.stage, job.key)
        target.parent.mkdir(exist_ok=True)
        for _ in range(3):
            try:
                folder.rename(target)
                to_disk(target.parent)
            except OSError:
                if not target.exists():
                    raise
            try:
                entry = self.find(job.stage, job.key)
            except DamagedEntryError:
                self.discard(job.stage, job.key)
                continue
            if entry is not None and entry.left_out:
                # What an archive has without its files is replaced by what has them.
                self.discard(job.stage, job.key)
            elif entry is not None:
                return entry
        raise OSError(f"cannot publish {target}: something keeps removing or damaging it")

    def discard(self, stage: Stage, key: str) -> None:
        """See ``Store.discard``; the entry is kept under ``.discarded`` for inspection."""
        with contextlib.suppress(FileNotFoundError):
            self._folder(stage, key).rename(
                self.root / ".discarded" / f"{stage}-{key}-{uuid.uuid4().hex[:8]}"
            )

    def remove(self, stage: Stage, key: str) -> None:
        """See ``Store.remove``; what a crash leaves is swept with other work."""
        gone = self.root / ".work" / f"removed-{stage}-{key}-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(FileNotFoundError):
            self._folder(stage, key).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def holdings(self) -> dict[tuple[Stage, str], int]:
        """See ``Store.holdings``."""
        return {
            (stage, path.name): _bytes_in(path)
            for stage in STAGES
            if (self.root / stage).is_dir()
            for path in (self.root / stage).iterdir()
        }

    def note_user(self, name: str, document: Mapping[str, Any]) -> None:
        """See ``Store.note_user``."""
        path = self.root / USERS / f"{name}.json"
        make_room(path.parent, for_folder=True)
        path.parent.mkdir(exist_ok=True)
        make_room(path)
        partial = path.with_suffix(f".{uuid.uuid4().hex}")
        partial.write_bytes(encoded(document))
        partial.replace(path)

    def users(self) -> dict[str, dict[str, Any]]:
        """See ``Store.users``."""
        paths = (self.root / USERS).glob("*.json")
        return {path.stem: record(_read(path) or b"") for path in sorted(paths) if path.is_file()}

    def sweep_leftovers(self) -> None:
        """Remove work folders that a crash left behind long ago."""
        self._work.sweep()
