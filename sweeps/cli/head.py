"""The sign of life of a driver, which keeps the machine that it drives from.

Heads on AWS and Google Cloud end themselves when the sign is older than the minutes that it holds
(``cluster/idle_head.sh``). On other machines there is no folder for it, and nothing is written.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from rich.console import Console

from sweeps.graph.launch import ClusterSpec, Places
from sweeps.store.objects import is_bucket

FOLDER: Final = Path("/var/lib/oneshui")
"""Made by the guard of a head, for whoever logs in to write to."""

ROOT: Final = Path("/")
SIGN: Final = "driven"
KEEP: Final = "keep"
SECONDS_BETWEEN: Final = 30.0
MINUTES_WHEN_DONE: Final = 10
"""What is left to submit another sweep, and to read the job's status, when all is done and sent."""


class SignOfLife:
    """Signs while a driver lives; use it as a context manager.

    Nothing is signed where no guard has made the folder.
    """

    def __init__(
        self,
        cluster: ClusterSpec,
        places: Places,
        console: Console,
        folder: Path,
        seconds: float = SECONDS_BETWEEN,
    ) -> None:
        """Start nothing yet.

        Args:
            cluster: Holds the minutes that the head may go without a driver.
            places: Where results are; those on this machine's own disk keep it alive.
            console: Where it is said that the machine stays, or that it cannot be signed.
            folder: The guard's.
            seconds: Between two signs.
        """
        self._minutes = cluster.head_idle_minutes
        self._places, self._console = places, console
        self._folder, self._seconds = folder, seconds
        self._ended = threading.Event()
        self._has_complained = False
        self._thread = threading.Thread(target=self._run, name="sign of life", daemon=True)

    def is_done(self) -> None:
        """All is computed, published and sent: the machine may end soon."""
        if self._minutes:
            self._minutes = min(self._minutes, MINUTES_WHEN_DONE)

    def __enter__(self) -> SignOfLife:
        if self._folder.is_dir() and self._minutes and _is_on_own_disk(self._places):
            # Another sweep that stores elsewhere must not end the machine either.
            self._write(KEEP, f"{self._places.store_uri}\n")
            self._console.print(
                f"the head does not end itself: {self._places.store_uri} is on its own disk (fetch "
                f"it, and remove {self._folder / KEEP})",
                soft_wrap=True,
            )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._sign()

    def _run(self) -> None:
        self._sign()
        while not self._ended.wait(self._seconds):
            self._sign()

    def _sign(self) -> None:
        # Made while the driver runs where the guard is slower than it.
        if self._folder.is_dir():
            self._write(SIGN, f"{self._minutes}\n")

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        try:
            fresh = path.with_name(f".{name}-{os.getpid()}")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
        except OSError as error:
            if not self._has_complained:
                self._console.print(
                    f"warning: {path} cannot be written ({error.strerror}): the head may end "
                    f"itself while this sweep runs; sudo touch {self._folder / KEEP} keeps it",
                    soft_wrap=True,
                )
            self._has_complained = True


def _is_on_own_disk(places: Places) -> bool:
    """Whether results are lost with this machine: a folder of the disk that it started from."""
    if is_bucket(places.store_uri):
        return False
    path = Path(places.store_uri.removeprefix("file://")).absolute()
    existing = next(above for above in (path, *path.parents) if above.exists())
    return existing.stat().st_dev == ROOT.stat().st_dev
