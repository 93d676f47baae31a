"""Who works on a job right now: one lease per job, so that two drivers never do the same twice.

A lease is a file ``<stage>-<key>.<generation>`` that its holder touches while it works. Its
holder is the one of the highest generation. Creating a file that must not exist is atomic, so a
lease is taken, or taken over, by exactly one. Whether a holder still lives is told by watching
the file change, against the watcher's own clock: the clocks of two machines are never compared.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.jobs import Job, Stage

_PROC = Path("/proc")


def name_of(stage: Stage, key: str) -> str:
    """The name of a job's lease."""
    return f"{stage}-{key}"


@functools.cache
def this_host() -> str:
    """A name that two processes share only if each can see whether the other is alive."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append((_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        # Containers on one machine share all but this.
        parts.append(str((_PROC / "self/ns/pid").readlink()))
    return " ".join(parts)


def _started(pid: int) -> str:
    """When a process was started, in the kernel's ticks; empty if there is no such process."""
    try:
        status = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    # A zombie holds nothing any more.
    return "" if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The newest lease of a job, as it is on disk.

    Attributes:
        generation: The higher, the newer.
        beat: Changes whenever the holder touches the file.
        host: The holder's machine; empty if the file is not written yet.
        pid: Its process.
        started: When that process was started, in ticks of its machine.
        node: Ray's name of the machine; empty outside of Ray.
    """

    generation: int
    beat: int
    host: str = ""
    pid: int = 0
    started: str = ""
    node: str = ""

    @property
    def is_dead(self) -> bool:
        """Whether the holder's process is known to be gone; False if that cannot be known."""
        if self.host != this_host() or not _PROC.is_dir():
            return False
        return _started(self.pid) != self.started


@dataclass(kw_only=True)
class Lease:
    """A lease that this process holds."""

    path: Path
    generation: int
    _stop: threading.Event = field(default_factory=threading.Event)

    def beat(self) -> None:
        """Say that the holder lives."""
        # A lease that was taken over may be gone, and a file system may fail for a moment; the
        # next beat, or the job itself, tells.
        with contextlib.suppress(OSError):
            os.utime(self.path)

    @contextlib.contextmanager
    def beating(self, seconds: float) -> Iterator[None]:
        """Beat from a thread of its own while the block runs."""
        thread = threading.Thread(target=self._run, args=(seconds,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.beat()


class Leases:
    """The leases of a store's jobs."""

    def __init__(self, folder: Path) -> None:
        """Use the folder, which must exist."""
        self._folder = folder

    def holders(self) -> dict[str, Holder]:
        """The newest lease of every job that has one, by ``name_of``."""
        newest: dict[str, int] = {}
        for path in self._folder.iterdir():
            name, _, generation = path.name.rpartition(".")
            if generation.isdigit():
                newest[name] = max(newest.get(name, 0), int(generation))
        found = {name: self._read(name, newest[name]) for name in newest}
        return {name: holder for name, holder in found.items() if holder is not None}

    def _path(self, name: str, generation: int) -> Path:
        return self._folder / f"{name}.{generation}"

    def _generations(self, name: str) -> list[int]:
        found = (path.name.rpartition(".") for path in self._folder.glob(f"{name}.*"))
        return sorted(int(generation) for _, _, generation in found if generation.isdigit())

    def _read(self, name: str, generation: int) -> Holder | None:
        path = self._path(name, generation)
        try:
            beat = path.stat().st_mtime_ns
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            document: dict[str, Any] = json.loads(text)
            return Holder(generation=generation, beat=beat, **document)
        except (ValueError, TypeError):
            # Its holder has created it and not written it yet, or died in between.
            return Holder(generation=generation, beat=beat)

    def acquire(self, job: Job, *, stale: int = 0, node: str = "") -> Lease | None:
        """Take the job's lease, or take it over from a dead holder.

        Args:
            job: What is to be done.
            stale: Generation that a watcher has seen without a beat for too long; 0 for none.
            node: Ray's name of this machine.

        Returns:
            The lease, or None if somebody else holds it.
        """
        name = name_of(job.stage, job.key)
        generations = self._generations(name)
        newest = generations[-1] if generations else 0
        if newest > stale:
            holder = self._read(name, newest)
            if holder is not None and not holder.is_dead:
                return None
        lease = Lease(path=self._path(name, newest + 1), generation=newest + 1)
        document = {
            "host": this_host(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "node": node,
        }
        try:
            with lease.path.open("x", encoding="utf-8") as stream:
                stream.write(json.dumps(document))
        except FileExistsError:
            return None
        except OSError:
            # A full disk: what nobody holds must not keep others away.
            with contextlib.suppress(OSError):
                lease.path.unlink(missing_ok=True)
            raise
        return lease

    def release(self, job: Job, lease: Lease) -> None:
        """Give a lease back, and clear away those that it took over."""
        name = name_of(job.stage, job.key)
        for generation in self._generations(name):
            if generation <= lease.generation:
                self._path(name, generation).unlink(missing_ok=True)


@dataclass
class _Seen:
    generation: int
    beat: int
    since: float


class Watch:
    """Tells which holders have stopped to beat, by this process's own clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without having seen anything."""
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def silence(self, holders: dict[str, Holder]) -> dict[str, float]:
        """Seconds since this watch saw each holder change; call it again and again."""
        now = self._clock()
        seen = {}
        for name, holder in holders.items():
            before = self._seen.get(name)
            same = before is not None and (before.generation, before.beat) == (
                holder.generation,
                holder.beat,
            )
            seen[name] = before if before and same else _Seen(holder.generation, holder.beat, now)
        self._seen = seen
        return {name: now - one.since for name, one in seen.items()}
