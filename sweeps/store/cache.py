"""This machine's copies of what is in a bucket: fetched once, by whichever process comes first."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from oneshui.errors import InputError
from sweeps.store.private import lock_of

PLACE = "ONESHUI_CACHE"
LIMIT = "ONESHUI_CACHE_GB"
_DEFAULT_GB = 100.0
_IN_USE_SECONDS = 3600.0
_TIDY_SECONDS = 300.0
_LARGE_BYTES = 100 * 1024 * 1024
logger = logging.getLogger("oneshui.worker")


def cache_folder() -> Path:
    """Where copies are: ONESHUI_CACHE, or the user's folder of caches."""
    if os.environ.get(PLACE):
        return Path(os.environ[PLACE]).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "oneshui"


def _limit_bytes() -> float:
    text = os.environ.get(LIMIT, "")
    try:
        gigabytes = float(text) if text else _DEFAULT_GB
    except ValueError:
        gigabytes = -1.0
    if not gigabytes > 0:
        raise InputError(f"{LIMIT}={text} must be a number of gigabytes above 0")
    return gigabytes * 1e9


class NodeCache:
    """Folders ``<root>/<a>/<b>/<c>/`` of files that never change once they are there."""

    def __init__(self, root: Path) -> None:
        """Make the folder if need be.

        Raises:
            InputError: It cannot be written.
        """
        self.root = root
        self._limit = _limit_bytes()
        self._tidied = 0.0
        try:
            for folder in (".work", ".locks"):
                (root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the cache folder {root} cannot be written ({error.strerror}); set {PLACE} to a "
                "folder of this machine that can"
            ) from None

    @property
    def work(self) -> Path:
        """For folders that are not complete yet; on the same file system."""
        return self.root / ".work"

    def fetch(
        self, target: Path, is_whole: Callable[[Path], bool], download: Callable[[Path], None]
    ) -> Path:
        """The file, downloaded if this machine has no whole copy of it.

        Args:
            target: Where it belongs.
            is_whole: Whether a copy is what it should be.
            download: Writes a file; what it leaves is kept only if it returns.
        """
        if not self._has(target, is_whole):
            lock = hashlib.sha256(str(target).encode()).hexdigest()[:32]
            # Ends with its process, so a download that was killed keeps nobody waiting.
            with lock_of(self.root / ".locks" / lock):
                if not self._has(target, is_whole):
                    self.tidy()
                    target.parent.mkdir(parents=True, exist_ok=True)
                    partial = target.with_name(f".{target.name}.partial")
                    try:
                        _timed(download, partial, target)
                        partial.replace(target)
                    finally:
                        partial.unlink(missing_ok=True)
        self.used(target.parent)
        return target

    def _has(self, target: Path, is_whole: Callable[[Path], bool]) -> bool:
        try:
            return is_whole(target)
        except FileNotFoundError:
            return False

    def used(self, folder: Path) -> None:
        """Note that the folder's files are in use."""
        with contextlib.suppress(OSError):
            os.utime(folder)

    def adopt(self, folder: Path, target: Path) -> None:
        """Keep a folder that was just published, so that this machine need not fetch it."""
        self.tidy()
        with contextlib.suppress(OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
            self.used(target)

    def tidy(self, *, now: bool = False) -> None:
        """Remove what was used least recently while there is more than ONESHUI_CACHE_GB.

        What was used within the last hour stays: somebody may be about to open it.
        """
        if not now and time.monotonic() - self._tidied < _TIDY_SECONDS and self._tidied:
            return
        self._tidied = time.monotonic()
        folders = sorted(_ages(self.root))
        total = sum(size for _, size, _ in folders)
        for used, size, folder in folders:
            if total <= self._limit or time.time() - used < _IN_USE_SECONDS:
                break
            shutil.rmtree(folder, ignore_errors=True)
            total -= size


def _ages(root: Path) -> list[tuple[float, int, Path]]:
    """When each folder was used last, its bytes, and where it is."""
    found = []
    for folder in root.glob("[!.]*/*/*"):
        with contextlib.suppress(OSError):
            size = sum(file.stat().st_size for file in folder.iterdir())
            found.append((folder.stat().st_mtime, size, folder))
    return found


def _timed(download: Callable[[Path], None], partial: Path, target: Path) -> None:
    start = time.monotonic()
    download(partial)
    size, seconds = partial.stat().st_size, max(time.monotonic() - start, 1e-3)
    if size > _LARGE_BYTES:
        logger.info("fetched %s: %.0f MB, %.0f MB/s", target.name, size / 1e6, size / 1e6 / seconds)
