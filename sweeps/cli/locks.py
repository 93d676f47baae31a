"""Keeping several drivers on one folder out of each other's way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.store.private import lock_of

if TYPE_CHECKING:
    from rich.console import Console

PUBLISH_LOCK = ".publish.lock"
"""In the output folder: who holds it writes MLflow's view and the report."""

PARTIAL_LOCK = ".partial.lock"
"""The same of the process that writes the report of a sweep that still runs."""


@contextlib.contextmanager
def alone(path: Path, what: str, console: Console) -> Iterator[None]:
    """Keep other drivers out of the block; the lock ends with the process, however that ends.

    Args:
        path: File to lock; it stays.
        what: What another run does while it holds the lock, to be printed.
        console: Where to say that it is waited for.
    """
    from filelock import Timeout

    lock = lock_of(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"another run {what}; waiting for it", soft_wrap=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
