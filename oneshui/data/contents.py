"""What a dataset's pictures contain: each is hashed once, and again only if its file changed.

Size and times of a file decide whether it is read again; what it contains decides which picture it
is. Imports nothing heavy: planning imports the loaders, and one of them this.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from oneshui.errors import DataError

if TYPE_CHECKING:
    from oneshui.data.table import ImageTable
    from oneshui.spec import ProgressCallback

SETTLED_SECONDS = 2.0
"""Clocks of file systems are coarse: a file that changed less than this before it was hashed may
change again without showing it, so it is not recorded."""

_BATCH: Final = 1000
_MANY: Final = 10_000

_Stamp: TypeAlias = tuple[int, int, int]
"""Size in bytes, and when content and file changed last, in nanoseconds."""


class _Seen(NamedTuple):
    """A file as it was when it was hashed."""

    stamp: _Stamp
    content: str


def content_hash(content: bytes) -> str:
    """By what a picture is known: sha256 of its file's bytes, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}); restore it") from None


def read_file(path: Path) -> bytes:
    """A picture's bytes.

    Raises:
        DataError: It cannot be read.
    """
    with _named():
        return path.read_bytes()


def picture_contents(
    table: ImageTable,
    record: Path | None = None,
    *,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[str, ...]:
    """The content hash of every picture, in the table's order.

    Args:
        table: The pictures, none of them absent.
        record: File that remembers size, times and hash of every picture, so that a later call
            reads only what has changed since; it is written while hashing, so a kill loses little.
        threads: Threads that hash; None uses one per processor.
        progress: Called with (done, total) now and then where many pictures must be hashed.

    Raises:
        DataError: A picture is absent or cannot be read.
    """
    memory = None if record is None else _Record(record)
    known = {} if memory is None else memory.read()
    with _named():
        stamps = _stamps(table)
    contents = {path: known[path].content for path in stamps if _is_known(path, stamps, known)}
    missing = [path for path in stamps if path not in contents]

    def hashed(path: str) -> tuple[str, _Seen]:
        file = table.root / path
        # The stamp is taken before the bytes, so that a change meanwhile shows the next time.
        with _named():
            return path, _Seen(_stamp(file.stat()), content_hash(file.read_bytes()))

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for start in range(0, len(missing), _BATCH):
            settled = time.time_ns() - int(SETTLED_SECONDS * 1e9)
            batch = dict(pool.map(hashed, missing[start : start + _BATCH]))
            contents.update((path, seen.content) for path, seen in batch.items())
            if memory is not None:
                memory.add({p: seen for p, seen in batch.items() if max(seen.stamp[1:]) < settled})
            if progress is not None and len(missing) > _MANY:
                progress(start + len(batch), len(missing))
    return tuple(contents[path] for path in table.paths)


def fingerprint(table: ImageTable, contents: Sequence[str] | None = None) -> str:
    """What a dataset is: sha256 over all that numbers can depend on, hexadecimal.

    Order, names and contents of the pictures, identities and their order, labels, and the names of
    the classes or attributes count; the folder and the files' times do not.

    Args:
        table: The dataset.
        contents: What ``picture_contents`` returned; None hashes all pictures now.
    """
    import numpy as np

    known = picture_contents(table) if contents is None else contents
    texts = (table.class_names, table.paths, tuple(known), table.identity_order)
    digest = hashlib.sha256(json.dumps([table.dataset, table.task, *texts]).encode())
    for column in (table.identity, table.label):
        digest.update(b"|" + np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _is_known(path: str, stamps: Mapping[str, _Stamp], known: Mapping[str, _Seen]) -> bool:
    return path in known and known[path].stamp == stamps[path]


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _stamps(table: ImageTable) -> dict[str, _Stamp]:
    """The stamps of all pictures, by path.

    Folders are listed, which over a network brings all their files' stamps at once.
    """
    listed: dict[str, os.DirEntry[str]] = {}
    for folder in dict.fromkeys(map(posixpath.dirname, table.paths)):
        with os.scandir(table.root / folder) as entries:
            listed.update((posixpath.join(folder, entry.name), entry) for entry in entries)
    return {
        # A listing may spell a name otherwise than the table.
        path: _stamp(listed[path].stat() if path in listed else (table.root / path).stat())
        for path in table.paths
    }


class _Record:
    """What was hashed, batch by batch: a line each, with its own sha256.

    Lines that are damaged, or that a kill cut short, do not count.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> dict[str, _Seen]:
        """What is known of every picture; a record that says much twice is written anew."""
        if not self._file.is_file():
            return {}
        known: dict[str, _Seen] = {}
        said = 0
        for line in self._file.read_bytes().split(b"\n"):
            check, _, body = line.partition(b" ")
            if body and check == content_hash(body).encode():
                rows = json.loads(body)
                said += len(rows)
                known.update((path, _Seen(tuple(stamp), content)) for path, stamp, content in rows)
        if said > 2 * len(known):
            self._file.unlink()
            self.add(known)
        return known

    def add(self, hashed: Mapping[str, _Seen]) -> None:
        """Take down what was hashed."""
        if not hashed:
            return
        body = json.dumps([[path, *seen] for path, seen in hashed.items()]).encode()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("ab") as stream:
            # A line that a kill cut short must not spoil this one.
            stream.write(b"\n%s %s\n" % (content_hash(body).encode(), body))
