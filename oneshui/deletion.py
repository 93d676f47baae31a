"""After deletion: opening a file of the training data is an error, not a matter of good will.

What a one-shot method is handed holds no path to the training data. This guard is the second
line: while it is active, an attempt of Python code in this process to open a file below the
protected folders raises. It sees what Python's audit events see: ``open``, ``os.open``, ``numpy``,
Pillow and ``mmap``; a C library that opens files by itself is beyond it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from oneshui.errors import DataAccessError

_lock = threading.Lock()
_protected: tuple[str, ...] = ()
_method = ""
_installed = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _protected or event not in ("open", "os.listdir", "os.scandir"):
        return
    name = arguments[0]
    if not isinstance(name, (str, bytes, os.PathLike)):
        return
    path = os.path.realpath(os.fsdecode(name))
    if any(path == folder or path.startswith(folder + os.sep) for folder in _protected):
        raise DataAccessError(
            f"method {_method} tried to open {path}, but the training data are deleted when it "
            "unlearns; declare Access.FULL if it needs them"
        )


@contextlib.contextmanager
def deleted(folders: Sequence[Path], method: str) -> Iterator[None]:
    """Make the files below these folders unreachable for Python code of this process.

    Args:
        folders: Where training pictures are, as files or decoded.
        method: Name of the method that runs meanwhile, for the message.

    Raises:
        DataAccessError: From inside the block, when a protected file is opened or listed.
    """
    global _protected, _method, _installed
    with _lock:
        if not _installed:
            # An audit hook cannot be removed, so there is one, and it sleeps between requests.
            sys.addaudithook(_hook)
            _installed = True
        _protected = tuple(os.path.realpath(folder) for folder in folders)
        _method = method
    try:
        yield
    finally:
        _protected = ()
