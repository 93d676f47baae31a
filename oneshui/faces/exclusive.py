"""Folders that appear whole or not at all, made by one process at a time.

Imports the standard library and the errors only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from oneshui.errors import InputError

_SCRATCH_SUFFIX: Final = ".partial"
#: What a file system answers that knows no locks, as some of a cluster's do.
_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})


def scratch_beside(folder: Path) -> Path:
    """The place of a new hidden folder beside this one, on the same file system."""
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{_SCRATCH_SUFFIX}")


def remove_leftovers(folder: Path) -> None:
    """Removes the scratch folders of killed runs; only who holds the lock knows that they are."""
    for entry in folder.parent.iterdir():
        if entry.name.startswith(f".{folder.name}.") and entry.name.endswith(_SCRATCH_SUFFIX):
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
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
def exclusively(folder: Path) -> Iterator[bool]:
    """Waits until no other process makes this folder, and keeps others waiting meanwhile.

    The operating system drops the lock of a process that dies, so none is ever left behind.

    Yields:
        Whether there is a lock: False on file systems that have none.
    """
    path = folder.with_name(f".{folder.name}.lock")
    with writing_into(folder.parent):
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
