"""Pictures in a bucket: fetched once per machine, by whichever process needs them first."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from oneshui.errors import DataError, InputError
from oneshui.spec import ProgressCallback
from sweeps.store.aside import make_room
from sweeps.store.cache import PLACE, cache_folder
from sweeps.store.objects import Bucket, Object
from sweeps.store.private import lock_of

THREADS = 32
_SAY_SECONDS = 30.0
KEY = "data_dir"
logger = logging.getLogger("oneshui.worker")
_compared: set[Path] = set()
"""Folders that this process has compared: listing a large one takes a minute."""


@dataclass(frozen=True, kw_only=True)
class RemoteFolder:
    """A dataset's folder in a bucket.

    Attributes:
        uri: What contains it, ``s3://...`` or ``gs://...``.
        name: Of the folder; empty for all that is there.
        table: Of a table in it, where the dataset is named by its table.
    """

    uri: str
    name: str
    table: str = ""

    @property
    def folder(self) -> Path:
        """Where this machine's copy is, whether it is there or not."""
        which = hashlib.sha256(f"{self.uri} {self.name}".encode()).hexdigest()[:16]
        return cache_folder() / "data" / which

    def fetch(self, progress: ProgressCallback | None = None) -> Path:
        """This machine's copy of it or of its table, compared once per process with the bucket's.

        Only what is absent or has changed is downloaded; what a kill interrupted goes on.

        Args:
            progress: Called with the files that are there and their number; a line of the log
                every half minute if absent.

        Raises:
            DataError: There is nothing in the bucket, or a file changed while it was fetched.
            InputError: The bucket or the cache folder cannot be used.
            StoreUnreachableError: The service does not answer.
        """
        bucket, folder = Bucket(self.uri, key=KEY), self.folder
        if folder in _compared:
            return folder / self.table
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the cache folder {folder} cannot be written ({error.strerror}); set {PLACE} to "
                "a folder of this machine that can"
            ) from None
        # Ends with its process, so a machine's next process goes on where a killed one stopped.
        with lock_of(folder.with_suffix(".lock")):
            listed = self._listed(bucket)
            record = folder.with_suffix(".json")
            known = _read(record)
            if known is None:
                # Sizes alone do not tell whether the copies are of what is there now.
                known = {one.name: "" for one in listed}
            if any(_is_other(folder, one, known) for one in listed):
                self._download(bucket, listed, known, progress or _Log(self.uri))
            names = {one.name for one in listed}
            for path in _files(folder):
                if str(path.relative_to(folder)) not in names:
                    path.unlink()
            _write(record, {one.name: one.tag for one in listed})
        _compared.add(folder)
        return folder / self.table

    def _listed(self, bucket: Bucket) -> list[Object]:
        listed = bucket.list(self.name)
        # Consoles mark folders by empty objects of their name.
        above = {str(parent) for one in listed for parent in PurePosixPath(one.name).parents}
        listed = [one for one in listed if one.name not in above]
        if not listed:
            raise DataError(
                f"there is nothing in {'/'.join(filter(None, [bucket.uri, self.name]))}; put the "
                f"dataset there, or set {KEY} to where it is"
            )
        if any(".." in PurePosixPath(one.name).parts for one in listed):
            raise DataError(f"a name in {bucket.uri} points outside of it")
        return listed

    def _download(
        self,
        bucket: Bucket,
        listed: list[Object],
        known: Mapping[str, str],
        progress: ProgressCallback,
    ) -> None:
        folder = self.folder
        wanted = [one for one in listed if _is_other(folder, one, known)]
        done = len(listed) - len(wanted)
        stop = threading.Event()

        def fetch(one: Object) -> None:
            if not stop.is_set():
                _fetch(bucket, one, folder / one.name)

        with ThreadPoolExecutor(THREADS, thread_name_prefix="data") as pool:
            try:
                for future in as_completed([pool.submit(fetch, one) for one in wanted]):
                    future.result()
                    done += 1
                    progress(done, len(listed))
            except BaseException:
                stop.set()
                raise


def _fetch(bucket: Bucket, one: Object, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        bucket.download(one.name, partial, one.size)
        if partial.stat().st_size != one.size:
            raise DataError(f"{bucket.uri}/{one.name} changed while it was fetched; start again")
        partial.replace(path)
    except FileNotFoundError:
        raise DataError(f"{bucket.uri}/{one.name} vanished while it was fetched") from None
    finally:
        partial.unlink(missing_ok=True)


def _is_other(folder: Path, one: Object, known: Mapping[str, str]) -> bool:
    """Whether this machine lacks the object, as far as its size and its last tag tell."""
    try:
        size = (folder / one.name).stat().st_size
    except FileNotFoundError:
        return True
    return size != one.size or known.get(one.name, one.tag) != one.tag


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _read(record: Path) -> dict[str, str] | None:
    """Tags of what was fetched, none before the first time; None if the record is damaged."""
    try:
        found: dict[str, str] = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (IsADirectoryError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _write(record: Path, tags: Mapping[str, str]) -> None:
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps(tags), encoding="utf-8")
    make_room(record)
    partial.replace(record)


class _Log:
    """Says in the log how far it is, and how long it will take."""

    def __init__(self, what: str) -> None:
        self._what, self._start, self._said = what, time.monotonic(), time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self._first = done - 1 if self._first is None else self._first
        if now - self._said > _SAY_SECONDS or done == total:
            self._said = now
            left = (now - self._start) / (done - self._first) * (total - done)
            logger.info("fetching %s: %d of %d files, %.0f s left", self._what, done, total, left)
