"""A folder that is written whole or not at all, and never over another."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from oneshui.durable import to_disk
from oneshui.errors import InputError


def require_free(folder: Path) -> None:
    """Refuse a place where something is already, or where no folder can be.

    Raises:
        InputError: Naming it.
    """
    if os.path.lexists(folder):
        raise InputError(f"{folder} is there already, and nothing is overwritten: set out anew")
    above = next(it for it in folder.absolute().parents if os.path.lexists(it))
    if not above.is_dir():
        raise InputError(f"{folder} cannot be made, because {above} is no folder: set out anew")


@contextlib.contextmanager
def written_whole(folder: Path, mode: int = 0o777) -> Iterator[Path]:
    """A new folder to write into, which takes its place when the block has ended well.

    Args:
        folder: The place.
        mode: Of the folder.

    Raises:
        InputError: Something is there by then.
        OSError: It cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True, mode=mode)
        yield partial
        for path in (*partial.iterdir(), partial):
            to_disk(path)
        require_free(folder)
        partial.rename(folder)
        to_disk(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
