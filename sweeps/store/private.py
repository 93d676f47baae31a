"""What is the user's alone: folders that nobody else enters, and locks that nobody else holds."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from oneshui.errors import InputError
from sweeps.store.aside import make_room

if TYPE_CHECKING:
    from filelock import BaseFileLock


def make_private(folder: Path) -> None:
    """Make a folder that its owner alone may enter, whatever the umask.

    One that is there stays as it is: its owner may have opened it to others.

    Raises:
        OSError: It cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        folder.chmod(0o700)


def runtime_folder() -> Path:
    """Where this user's processes on this machine find each other's locks.

    It is in the first place that is the user's alone: the one that the system keeps for that, the
    folder for temporary files, where others may have taken the name, or the home folder.

    Raises:
        InputError: There is none.
    """
    user = os.getuid()
    for folder in _candidates(user):
        try:
            make_private(folder)
            found = folder.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077:
            return folder
    raise InputError(
        f"no folder for locks is yours alone: make {folder} one that only you may enter"
    )


def _candidates(user: int) -> Iterator[Path]:
    if os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(os.environ["XDG_RUNTIME_DIR"]) / "oneshui"
    yield Path(tempfile.gettempdir()) / f"oneshui-{user}"
    yield Path.home() / ".oneshui"


def lock_of(path: Path) -> BaseFileLock:
    """A lock on a place; where its file is a stranger's, one among this user's processes.

    Args:
        path: The lock's file, which stays; it keeps out all who share the folder.
    """
    try:
        is_strange = path.lstat().st_uid != os.getuid()
    except FileNotFoundError:
        is_strange = False
    if is_strange:
        name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32]
        path = runtime_folder() / f"{name}.lock"
    from filelock import FileLock

    make_room(path)
    return FileLock(path)
