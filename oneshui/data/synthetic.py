"""Writes a set of synthetic faces to disk in CelebA-HQ's layout.

A set appears at its place whole or not at all: it is written into a hidden folder beside the
place and moved there by one rename. A marker file, `faces.json`, says which set a folder holds.
This module must not import torch: the worker processes need only numpy and Pillow.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from oneshui.data.faces import ATTRIBUTES, picture_labels, render
from oneshui.data.faces.parameters import IMAGE_ORDER, generator
from oneshui.errors import InputError

#: Goes up whenever the same spec would give other bytes, so that no old set passes for a new one.
RECIPE_VERSION: Final = 1
MARKER: Final = "faces.json"
ROOT: Final = "CelebAMask-HQ"
IMAGES: Final = f"{ROOT}/CelebA-HQ-img"
ANNOTATION: Final = f"{ROOT}/CelebAMask-HQ-attribute-anno.txt"
IDENTITY: Final = f"{ROOT}/CelebA-HQ-identity.txt"

_JPEG_QUALITY: Final = 92
_CHUNK: Final = 16
_SCRATCH_SUFFIX: Final = ".partial"
_LIMITS: Final[dict[str, tuple[int, int | None]]] = {
    "identities": (10, None),
    "pictures": (2, None),
    "size": (16, 2048),
    "seed": (0, None),
}
#: What a file system answers that knows no locks, as some of a cluster's do.
_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})


@dataclass(frozen=True, kw_only=True)
class FacesSpec:
    """Which set of faces: two equal specs give equal files.

    Attributes:
        identities: Number of identities, at least 10.
        pictures: Number of pictures of each identity, at least 2.
        size: Side of the square pictures in pixels, 16 to 2048.
        seed: Seed of everything that is drawn, at least 0. The size does not enter: the same
            seed shows the same faces at every size.
    """

    identities: int = 400
    pictures: int = 8
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            InputError: If a field is no integer or is out of its range.
        """
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or value < low or (high is not None and value > high):
                allowed = f"at least {low}" if high is None else f"from {low} to {high}"
                raise InputError(f"{name} must be an integer {allowed}, not {value!r}")

    @property
    def num_images(self) -> int:
        """Number of pictures in the set."""
        return self.identities * self.pictures


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One picture of a set: its number in the layout, and what it shows."""

    number: int
    identity: int
    picture: int

    @property
    def path(self) -> str:
        return f"{IMAGES}/{self.number}.jpg"


def generate_celebahq(
    spec: FacesSpec,
    folder: Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Makes sure that a folder holds a set of synthetic faces in CelebA-HQ's layout.

    A set that lost files gets exactly those back; nothing else in the folder is touched. Of two
    processes that make the same set at the same time, the second waits for the first.

    Args:
        spec: Which set.
        folder: The folder to hold `CelebAMask-HQ/` and `faces.json`; it and its parents are made.
        workers: Number of processes that draw, at least 1; the files do not depend on it.
        progress: Called in this process with the number of pictures drawn and to draw.

    Returns:
        False if the set was there already, True if something had to be drawn or written.

    Raises:
        InputError: If `workers` is below 1, if the folder holds anything but this set, or if it
            cannot be written.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}")
    folder = folder.resolve()
    items = _items(spec)
    with _writing_into(folder.parent):
        if not _lacking(spec, items, folder):
            return False
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _exclusively(folder) as locked:
        lacking = _lacking(spec, items, folder)
        if not lacking:
            return False
        if locked:
            _remove_leftovers(folder)
        scratch = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{_SCRATCH_SUFFIX}")
        try:
            with _writing_into(folder.parent):
                (scratch / IMAGES).mkdir(parents=True)
            _draw(spec, [i for i in items if i.path in lacking], scratch, workers, progress)
            with _writing_into(folder.parent):
                _write_tables(spec, items, scratch)
                _move(spec, items, scratch, folder, lacking)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return True


def picture_jpeg(spec: FacesSpec, identity: int, picture: int) -> bytes:
    """The JPEG file of one picture of a set, which depends on nothing else in the set.

    Args:
        spec: Which set.
        identity: Whose picture, 0 to spec.identities - 1.
        picture: Which of that identity's pictures, 0 to spec.pictures - 1.
    """
    buffer = io.BytesIO()
    image = render(spec.seed, identity, picture, (spec.size, spec.size))
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _items(spec: FacesSpec) -> list[_Item]:
    """All pictures by number; as in the real set, an identity's pictures are scattered."""
    rng = generator(spec.seed, IMAGE_ORDER)
    order = rng.permutation(spec.num_images).tolist()
    return [
        _Item(number=number, identity=place // spec.pictures, picture=place % spec.pictures)
        for number, place in enumerate(order)
    ]


def _marker(spec: FacesSpec) -> dict[str, int]:
    return {"recipe_version": RECIPE_VERSION, **asdict(spec), "images": spec.num_images}


def _lacking(spec: FacesSpec, items: Sequence[_Item], folder: Path) -> set[str]:
    """The files of the set that the folder does not hold, as paths in it.

    Raises:
        InputError: If the folder holds anything but this set.
    """
    wanted = {ANNOTATION, IDENTITY, *(item.path for item in items)}
    if not folder.exists():
        return wanted | {MARKER}
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the synthetic faces")
    present = [entry.name for entry in folder.iterdir()]
    if not present:
        return wanted | {MARKER}
    reason = _foreign(spec, folder)
    if reason is not None:
        raise InputError(
            f"{folder} holds something else than the synthetic faces that were asked for"
            f" ({reason}); choose another folder, or remove this one"
        )
    return wanted - _files_in(folder)


def _foreign(spec: FacesSpec, folder: Path) -> str | None:
    """What shows that a folder does not hold this set, or None if it does."""
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"it has no {MARKER}"
    except (OSError, ValueError):
        return f"its {MARKER} cannot be read"
    wanted = _marker(spec)
    if found == wanted:
        return None
    if not isinstance(found, dict):
        return f"its {MARKER} is none of ours"
    other = [
        f"{key} is {found.get(key)} there and {value} here"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    return ", ".join(other) or f"its {MARKER} says more than ours"


def _files_in(folder: Path) -> set[str]:
    """The files of the layout's two levels that are not empty, as paths in the folder."""
    found: set[str] = set()
    for level in (ROOT, IMAGES):
        if (folder / level).is_dir():
            with os.scandir(folder / level) as entries:
                found.update(
                    f"{level}/{entry.name}"
                    for entry in entries
                    if entry.is_file() and entry.stat().st_size > 0
                )
    return found


def _draw(
    spec: FacesSpec,
    items: Sequence[_Item],
    scratch: Path,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Draws the pictures into the scratch folder, in this process or in several others."""
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    done = 0
    draw = partial(_draw_chunk, spec, scratch)
    # Closed here and not by the garbage collector: workers must have ended before an error goes on.
    with closing(_drawn(draw, chunks, min(workers, len(chunks)))) as counts:
        for count in counts:
            done += count
            if progress is not None:
                progress(done, len(items))


def _drawn(
    draw: Callable[[Sequence[_Item]], int], chunks: Sequence[Sequence[_Item]], workers: int
) -> Generator[int, None, None]:
    """The sizes of the chunks as they get finished."""
    if workers < 2:
        yield from map(draw, chunks)
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_die_with_parent
    )
    try:
        for future in as_completed([pool.submit(draw, chunk) for chunk in chunks]):
            yield future.result()
    finally:
        # Also reached when the caller stops early: what has not begun need not begin.
        pool.shutdown(cancel_futures=True)


def _draw_chunk(spec: FacesSpec, scratch: Path, items: Sequence[_Item]) -> int:
    """Draws some pictures; runs in a worker process."""
    for item in items:
        content = picture_jpeg(spec, item.identity, item.picture)
        with _writing_into(scratch.parent):
            (scratch / item.path).write_bytes(content)
    return len(items)


def _die_with_parent() -> None:
    """Ends this worker when its parent is gone, since a killed parent cannot tell it to end."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write_tables(spec: FacesSpec, items: Sequence[_Item], scratch: Path) -> None:
    """Writes the labels, the identities and the marker."""
    labels = [f"{spec.num_images}\n{' '.join(ATTRIBUTES)}\n"]
    for item in items:
        values = picture_labels(spec.seed, item.identity, item.picture)
        row = " ".join("1" if value else "-1" for value in values)
        labels.append(f"{item.number}.jpg  {row}\n")
    identities = [f"{item.number}.jpg {item.identity}\n" for item in items]
    (scratch / ANNOTATION).write_text("".join(labels), encoding="utf-8")
    (scratch / IDENTITY).write_text("".join(identities), encoding="utf-8")
    marker = json.dumps(_marker(spec), indent=2) + "\n"
    (scratch / MARKER).write_text(marker, encoding="utf-8")


def _move(
    spec: FacesSpec, items: Sequence[_Item], scratch: Path, folder: Path, lacking: set[str]
) -> None:
    """Moves a whole set, or what a damaged one lacks, from the scratch folder to its place."""
    if MARKER in lacking:
        try:
            scratch.rename(folder)
        except OSError:
            # Without locks another process may have been first; its files are equal to these.
            if _lacking(spec, items, folder):
                raise
        return
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    for path in sorted(lacking):
        (scratch / path).replace(folder / path)


def _remove_leftovers(folder: Path) -> None:
    """Removes the scratch folders of killed runs; only who holds the lock knows that they are."""
    for entry in folder.parent.iterdir():
        if entry.name.startswith(f".{folder.name}.") and entry.name.endswith(_SCRATCH_SUFFIX):
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
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


@contextmanager
def _exclusively(folder: Path) -> Iterator[bool]:
    """Waits until no other process makes this folder, and keeps others waiting meanwhile.

    The operating system drops the lock of a process that dies, so none is ever left behind.

    Yields:
        Whether there is a lock: False on file systems that have none.
    """
    path = folder.with_name(f".{folder.name}.lock")
    with _writing_into(folder.parent):
        descriptor, locked = _locked(path)
    try:
        yield locked
    finally:
        # Removed while still locked: who waited for it sees that the file is gone and starts anew.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path) -> tuple[int, bool]:
    """An open and locked lock file, and whether it could be locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return descriptor, False
            os.close(descriptor)
            raise
        if _is_at(path, descriptor):
            return descriptor, True
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
