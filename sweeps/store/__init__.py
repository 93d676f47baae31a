"""The results of jobs: content-addressed, published atomically, never trusted unread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.store.base import DISK_ERRORS, DamagedEntryError, Entry, EntryDraft, Store
from sweeps.store.local import LocalStore
from sweeps.store.objects import is_bucket

if TYPE_CHECKING:
    from sweeps.store.bucket import RemoteStore

__all__ = [
    "DISK_ERRORS",
    "DamagedEntryError",
    "Entry",
    "EntryDraft",
    "LocalStore",
    "Store",
    "open_store",
    "store_exists",
]


def store_exists(uri: str) -> bool:
    """Whether there is a store at a folder or address.

    Raises:
        InputError: It cannot be asked, or the address is of a kind that is not supported.
    """
    return _remote(uri).exists() if is_bucket(uri) else _folder(uri).is_dir()


def open_store(uri: str, *, writes: bool = True) -> Store:
    """The store in a folder, or at an address ``<service>://bucket/prefix``.

    Args:
        uri: Where it is.
        writes: False for whoever only looks: nothing is created, nothing is tried.

    Raises:
        InputError: It cannot be reached or written, or the address is of a kind that is not
            supported.
    """
    if not is_bucket(uri):
        return LocalStore(_folder(uri), writes=writes)
    remote = _remote(uri)
    if writes:
        remote.check()
    return remote


def _remote(uri: str) -> RemoteStore:
    from sweeps.store.bucket import RemoteStore

    return RemoteStore(uri)


def _folder(uri: str) -> Path:
    return Path(uri.removeprefix("file://")).absolute()
