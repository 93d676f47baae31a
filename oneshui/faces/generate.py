"""Writes a set of drawn pictures to disk in the layout of a published dataset.

A set appears at its place whole or not at all: it is written into a hidden folder beside the
place and moved there by one rename. A marker file, `faces.json`, says which set a folder holds.
This module must not import torch: the worker processes need only numpy and Pillow.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from oneshui.errors import InputError, unknown_name
from oneshui.faces.layouts import (
    ANNOTATION,
    IDENTITY,
    IMAGES,
    LAYOUTS,
    Layout,
    Picture,
    picture_jpeg,
)
from oneshui.spawning import leave_if_importing, spawned
from oneshui.spec import RECIPE_VERSION, FacesSpec, ProgressCallback

__all__ = [
    "ANNOTATION",
    "IDENTITY",
    "IMAGES",
    "MARKER",
    "RECIPE_VERSION",
    "FacesSpec",
    "generate",
    "generate_celeba",
    "generate_celebahq",
    "generate_mufac",
    "picture_jpeg",
]

MARKER: Final = "faces.json"
SUMS: Final = "faces.sha256"
"""Of a set that an earlier version drew there is none; its files count as whole if not empty."""

_CHUNK: Final = 16
_SCRATCH_SUFFIX: Final = ".partial"
#: What a file system answers that knows no locks, as some of a cluster's do.
_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})


@dataclass(frozen=True, kw_only=True)
class _Set:
    """A set of faces in a layout."""

    layout_name: str
    spec: FacesSpec

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.layout_name]

    @cached_property
    def pictures(self) -> list[Picture]:
        """All pictures in the layout's order."""
        return self.layout.pictures(self.spec)

    @cached_property
    def folders(self) -> list[str]:
        """All folders that hold files, as paths in the set's."""
        pictures = (picture.path.rpartition("/")[0] for picture in self.pictures)
        return sorted({*self.layout.folders, *pictures})

    @property
    def wanted(self) -> set[str]:
        """The files of the set, as paths in its folder."""
        return {*self.layout.table_files, *(picture.path for picture in self.pictures)}

    @property
    def marker_text(self) -> str:
        """The content of the marker file."""
        return json.dumps(self.marker, indent=2) + "\n"

    @property
    def marker(self) -> dict[str, Any]:
        """What the marker file says; CelebA-HQ's layout, the first there was, is not named."""
        named = {} if self.layout_name == "celebahq" else {"layout": self.layout_name}
        return {
            "recipe_version": RECIPE_VERSION,
            **named,
            **asdict(self.spec),
            "images": len(self.pictures),
        }


def generate(
    layout: str,
    spec: FacesSpec,
    folder: Path,
    *,
    workers: int = 1,
    progress: ProgressCallback | None = None,
) -> bool:
    """Makes sure that a folder holds a set of synthetic faces.

    A set that lost files gets exactly those back; nothing else in the folder is touched. Of two
    processes that make the same set at the same time, the second waits for the first.

    Args:
        layout: In which layout, one of ``oneshui.spec.FACES_LAYOUTS``, which says what it shows.
        spec: Which set.
        folder: The folder to hold the layout's own folder and `faces.json`; it and its parents
            are made.
        workers: Number of processes that draw, at least 1; the files do not depend on it.
        progress: Called in this process with the number of pictures drawn and to draw.

    Returns:
        False if the set was there already, True if something had to be drawn or written.

    Raises:
        InputError: If the layout is unknown, if `workers` is below 1, if the folder holds
            anything but this set, if it cannot be written, or if the processes that draw cannot
            start, because they import the calling script and it does not guard this call.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout of synthetic faces", layout, LAYOUTS)
    if workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}")
    folder = folder.resolve()
    faces = _Set(layout_name=layout, spec=spec)
    with _writing_into(folder.parent):
        if not _lacking(faces, folder):
            return False
        leave_if_importing()
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _exclusively(folder) as locked:
        lacking = _lacking(faces, folder)
        if not lacking:
            return False
        if locked:
            # Only who holds the lock knows that these are of killed runs.
            for left in folder.parent.glob(f".{glob.escape(folder.name)}.*{_SCRATCH_SUFFIX}"):
                shutil.rmtree(left, ignore_errors=True)
        # Beside the folder, so on its file system.
        scratch = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{_SCRATCH_SUFFIX}")
        try:
            with _writing_into(folder.parent):
                for level in faces.folders:
                    (scratch / level).mkdir(parents=True, exist_ok=True)
            _draw(
                faces, [i for i in faces.pictures if i.path in lacking], scratch, workers, progress
            )
            with _writing_into(folder.parent):
                _write_tables(faces, scratch)
                known = _sums(folder)
                if known is not None or faces.wanted <= lacking:
                    _write_sums(scratch, known or {})
                _move(faces, scratch, folder, lacking)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return True


def spoiled(layout: str, spec: FacesSpec, folder: Path) -> list[str]:
    """What a folder lacks of a set that is there, as paths in it: ``generate`` draws it again.

    Args:
        layout: In which layout.
        spec: Which set.
        folder: As ``generate`` takes it.

    Raises:
        InputError: As ``generate`` does.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return []
    return sorted(_lacking(_Set(layout_name=layout, spec=spec), folder))


def generate_celebahq(
    spec: FacesSpec, folder: Path, *, workers: int = 1, progress: ProgressCallback | None = None
) -> bool:
    """As ``generate``: square portraits with 40 attributes in `CelebAMask-HQ/`."""
    return generate("celebahq", spec, folder, workers=workers, progress=progress)


def generate_celeba(
    spec: FacesSpec, folder: Path, *, workers: int = 1, progress: ProgressCallback | None = None
) -> bool:
    """As ``generate``: upright portraits with 40 attributes in `celeba/`.

    The spec's size is the height; at 218 the pictures are 178 x 218 like the real ones.
    """
    return generate("celeba", spec, folder, workers=workers, progress=progress)


def generate_mufac(
    spec: FacesSpec, folder: Path, *, workers: int = 1, progress: ProgressCallback | None = None
) -> bool:
    """As ``generate``: families, everybody at several ages, with 8 age classes in `mufac/`."""
    return generate("mufac", spec, folder, workers=workers, progress=progress)


@contextlib.contextmanager
def _writing_into(folder: Path) -> Iterator[None]:
    """Turns a failure to write into one sentence.

    Raises:
        InputError: If the file system refuses.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot write synthetic faces into {folder}: {reason};"
            " make it writable, free space there, or choose another folder"
        ) from error


@contextlib.contextmanager
def _exclusively(folder: Path) -> Iterator[bool]:
    """Waits until no other process makes this folder, and keeps others waiting meanwhile.

    Yields:
        Whether there is a lock: False on file systems that have none.
    """
    # Without flock a set is made twice rather than waited for: a lock that is a mere file stays
    # when its process is killed on another machine.
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), fallback_to_soft=False)
    with _writing_into(folder.parent):
        try:
            lock.acquire()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    try:
        yield lock.is_locked
    finally:
        # Removed while still locked: who waited for it sees that the file is gone and starts anew.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _lacking(faces: _Set, folder: Path) -> set[str]:
    """The files of the set that the folder does not hold, as paths in it.

    Raises:
        InputError: If the folder holds anything but this set.
    """
    everything = faces.wanted | {MARKER, SUMS}
    if not folder.exists():
        return everything
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the synthetic faces")
    present = [entry.name for entry in folder.iterdir()]
    if not present:
        return everything
    sums = _sums(folder)
    reason = _foreign(faces, folder)
    lacking: set[str] = {SUMS} if sums is not None and not sums else set()
    if reason is not None and sums and sums.get(MARKER) == _sha256(faces.marker_text.encode()):
        # The marker was written for this set, and is not what it was.
        lacking.add(MARKER)
    elif reason is not None:
        raise InputError(
            f"{folder} holds something else than the synthetic faces that were asked for"
            f" ({reason}); choose another folder, or remove this one"
        )
    return lacking | (faces.wanted - _whole(faces, folder, sums))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sums(folder: Path) -> Mapping[str, str] | None:
    """sha256 of every file as it was drawn; empty if the record is damaged, None if there is none.

    The record's first line is the sha256 of the others.
    """
    try:
        text = (folder / SUMS).read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        return {}
    seal, _, body = text.partition(b"\n")
    if seal != _sha256(body).encode():
        return {}
    lines = (line.split("  ", 1) for line in body.decode().splitlines())
    return {path: digest for digest, path in lines}


def _write_sums(scratch: Path, known: Mapping[str, str]) -> None:
    """Note the files of the scratch folder, and of others what was known."""
    drawn = {
        str(path.relative_to(scratch)): _sha256(path.read_bytes())
        for path in scratch.rglob("*")
        if path.is_file()
    }
    sums = {**known, **drawn}
    body = "".join(f"{sums[path]}  {path}\n" for path in sorted(sums)).encode()
    (scratch / SUMS).write_bytes(_sha256(body).encode() + b"\n" + body)


def _whole(faces: _Set, folder: Path, sums: Mapping[str, str] | None) -> set[str]:
    """The files that are there as they were drawn, as paths in the set's folder.

    Only what changed after the sums were written is read.
    """
    present = _files_in(faces, folder)
    if sums is None:
        return set(present)
    written = (folder / SUMS).stat().st_mtime_ns
    return {
        path
        for path, changed in present.items()
        if path in sums
        and (changed <= written or _sha256((folder / path).read_bytes()) == sums[path])
    }


def _foreign(faces: _Set, folder: Path) -> str | None:
    """What shows that a folder does not hold this set, or None if it does."""
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"it has no {MARKER}"
    except (OSError, ValueError, RecursionError):
        return f"its {MARKER} cannot be read"
    if found == faces.marker:
        return None
    if not isinstance(found, dict):
        return f"its {MARKER} is none of ours"
    there, here = ({"layout": "celebahq", **marker} for marker in (found, faces.marker))
    other = [
        f"{key} is {there.get(key)} there and {value} here"
        for key, value in here.items()
        if there.get(key) != value
    ]
    return ", ".join(other) or f"its {MARKER} says more than ours"


def _files_in(faces: _Set, folder: Path) -> dict[str, int]:
    """When the files of the layout's folders changed that are not empty, by path in the set's."""
    found: dict[str, int] = {}
    for level in faces.folders:
        if (folder / level).is_dir():
            with os.scandir(folder / level) as entries:
                files = ((entry.name, entry.stat()) for entry in entries if entry.is_file())
                found.update(
                    (f"{level}/{name}", max(status.st_mtime_ns, status.st_ctime_ns))
                    for name, status in files
                    if status.st_size > 0
                )
    return found


def _draw(
    faces: _Set,
    pictures: Sequence[Picture],
    scratch: Path,
    workers: int,
    progress: ProgressCallback | None,
) -> None:
    """Draws the pictures into the scratch folder, in this process or in several others."""
    chunks = [pictures[start : start + _CHUNK] for start in range(0, len(pictures), _CHUNK)]
    done = 0
    draw = partial(_draw_chunk, faces.layout_name, faces.spec, scratch)
    # Closed here and not by the garbage collector: workers must have ended before an error goes on.
    with contextlib.closing(_drawn(draw, chunks, min(workers, len(chunks)))) as counts:
        for count in counts:
            done += count
            if progress is not None:
                progress(done, len(pictures))


def _drawn(
    draw: Callable[[Sequence[Picture]], int], chunks: Sequence[Sequence[Picture]], workers: int
) -> Generator[int, None, None]:
    """The sizes of the chunks as they get finished."""
    if workers < 2:
        yield from map(draw, chunks)
        return
    with spawned(workers, "draw faces", _die_with_parent) as pool:
        for future in as_completed([pool.submit(draw, chunk) for chunk in chunks]):
            yield future.result()


def _draw_chunk(layout: str, spec: FacesSpec, scratch: Path, pictures: Sequence[Picture]) -> int:
    """Draws some pictures; runs in a worker process."""
    for picture in pictures:
        content = LAYOUTS[layout].content(spec, picture.identity, picture.picture)
        with _writing_into(scratch.parent):
            (scratch / picture.path).write_bytes(content)
    return len(pictures)


def _die_with_parent() -> None:
    """Ends this worker when its parent is gone, since a killed parent cannot tell it to end."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write_tables(faces: _Set, scratch: Path) -> None:
    """Writes the annotation files and the marker."""
    tables: Mapping[str, str] = faces.layout.tables(faces.spec, faces.pictures)
    for name, text in tables.items():
        (scratch / name).write_text(text, encoding="utf-8")
    (scratch / MARKER).write_text(faces.marker_text, encoding="utf-8")


def _move(faces: _Set, scratch: Path, folder: Path, lacking: set[str]) -> None:
    """Moves a whole set, or what a damaged one lacks, from the scratch folder to its place."""
    if not folder.is_dir() or not any(folder.iterdir()):
        try:
            scratch.rename(folder)
        except OSError:
            # Without locks another process may have been first; its files are equal to these.
            if _lacking(faces, folder):
                raise
        return
    for level in faces.folders:
        if (folder / level).is_file():
            (folder / level).unlink()
        (folder / level).mkdir(parents=True, exist_ok=True)
    # The sums come last: whatever is interrupted before is compared again.
    sums = [SUMS] if (scratch / SUMS).exists() else []
    for path in [*sorted(lacking - {SUMS}), *sums]:
        if (folder / path).is_dir():
            shutil.rmtree(folder / path)
        (scratch / path).replace(folder / path)
