"""Who works on a job right now: one lease per job, so that two drivers never do the same twice.

A lease is a file or object with a name and a generation that its holder touches while it works.
Its holder is the one of the highest generation. Creating one that must not exist is atomic, so a
lease is taken, or taken over, by exactly one. Whether a holder still lives is told by watching
the lease change, against the watcher's own clock: the clocks of two machines are never compared.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from oneshui.errors import OneshuiError
from sweeps.graph.job import Job, Stage
from sweeps.store.objects import in_parallel

_PROC = Path("/proc")
_READ_AT_A_TIME = 32
Beat = int | str
"""Changes whenever a lease is touched."""


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
    if not _PROC.is_dir():
        asked = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip()
    try:
        status = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    # A zombie holds nothing any more.
    return "" if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The newest lease of a job, as it is stored.

    Attributes:
        generation: The higher, the newer.
        beat: Changes whenever the holder touches the lease.
        host: The holder's machine; empty if the lease is not written yet.
        pid: Its process.
        started: When that process was started, in ticks of its machine.
        node: Ray's name of the machine; empty outside of Ray.
        since: When it was taken, by the clock of the holder's machine, for people to read; 0 if
            the lease does not say.
    """

    generation: int
    beat: Beat
    host: str = ""
    pid: int = 0
    started: str = ""
    node: str = ""
    since: float = 0.0

    @property
    def process(self) -> str:
        """The holder's machine and process, as results name who made them."""
        return f"{self.host.split(' ')[0]}:{self.pid}"

    @property
    def is_dead(self) -> bool:
        """Whether the holder's process is known to be gone; False if that cannot be known."""
        if self.host != this_host() or not _PROC.is_dir():
            return False
        return _started(self.pid) != self.started

    def kill(self) -> None:
        """End the holder's process, if host, id and time of its start all say that it is here.

        An id alone may be another process's by now, and a file is easily written by others.
        """
        is_here = self.host == this_host() and self.pid > 0 and bool(self.started)
        if is_here and _started(self.pid) == self.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class LeasePlace(Protocol):
    """Where leases are; each is of a name and a generation. Any method may raise OSError.

    Leases are read from several threads at the same time.
    """

    def every(self) -> dict[tuple[str, int], Beat]:
        """The beats of all leases."""
        ...

    def generations(self, name: str) -> list[int]:
        """The generations of one name, ascending."""
        ...

    def read(self, name: str, generation: int, beat: Beat | None = None) -> tuple[str, Beat] | None:
        """What stands in a lease, and its beat; None if it is gone.

        Args:
            name: Of the lease.
            generation: Of the lease.
            beat: Its beat, if that was just seen: what was read at that beat may be remembered.
        """
        ...

    def create(self, name: str, generation: int, text: str) -> bool:
        """Write a lease that must not exist; whether it did not."""
        ...

    def touch(self, name: str, generation: int) -> None:
        """Change the beat of a lease that this process made and that is still there."""
        ...

    def remove(self, name: str, generations: Sequence[int]) -> None:
        """Remove leases; those that are gone already do not matter."""
        ...


@dataclass(kw_only=True)
class Lease:
    """A lease that this process holds."""

    place: LeasePlace
    name: str
    generation: int
    _stop: threading.Event = field(default_factory=threading.Event)

    def beat(self) -> None:
        """Say that the holder lives."""
        # A lease that was taken over may be gone, and a store may fail for a moment; the next
        # beat, or the job itself, tells.
        with contextlib.suppress(OSError, OneshuiError):
            self.place.touch(self.name, self.generation)

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

    def __init__(self, place: LeasePlace) -> None:
        """Use what is there."""
        self._place = place

    def holders(self, names: Container[str] | None = None) -> dict[str, Holder]:
        """The newest lease of every job that has one, by ``name_of``.

        Args:
            names: Of the jobs that matter; None for all. Other sweeps' leases are not read.
        """
        every = self._place.every()
        newest: dict[str, int] = {}
        for name, generation in every:
            if names is None or name in names:
                newest[name] = max(newest.get(name, 0), generation)
        # Where a store is far, what counts is how long one answer takes, not how many there are.
        found = in_parallel(
            lambda one: self._read(one[0], one[1], every[one]), newest.items(), _READ_AT_A_TIME
        )
        return {
            name: holder for name, holder in zip(newest, found, strict=True) if holder is not None
        }

    def holder(self, job: Job) -> Holder | None:
        """The newest lease of one job, without a look at the others."""
        name = name_of(job.stage, job.key)
        generations = self._place.generations(name)
        return self._read(name, generations[-1]) if generations else None

    def _read(self, name: str, generation: int, beat: Beat | None = None) -> Holder | None:
        read = self._place.read(name, generation, beat)
        if read is None:
            return None
        text, now = read
        # Its holder has created it and not written it yet, or died in between.
        unwritten = Holder(generation=generation, beat=now)
        try:
            document: dict[str, Any] = json.loads(text)
            holder = Holder(generation=generation, beat=now, **document)
        except (ValueError, TypeError, RecursionError):
            return unwritten
        texts = (holder.host, holder.started, holder.node)
        is_sound = isinstance(holder.pid, int) and all(isinstance(it, str) for it in texts)
        is_sound = is_sound and isinstance(holder.since, int | float)
        return holder if is_sound else unwritten

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
        generations = self._place.generations(name)
        newest = generations[-1] if generations else 0
        if newest > stale:
            holder = self._read(name, newest)
            if holder is not None and not holder.is_dead:
                return None
        document = {
            "host": this_host(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "node": node,
            "since": time.time(),
        }
        if not self._place.create(name, newest + 1, json.dumps(document)):
            return None
        return Lease(place=self._place, name=name, generation=newest + 1)

    def release(self, job: Job, lease: Lease) -> None:
        """Give a lease back, and clear away those that it took over."""
        name = name_of(job.stage, job.key)
        known = self._place.generations(name)
        self._place.remove(name, [each for each in known if each <= lease.generation])


@dataclass
class _Seen:
    generation: int
    beat: Beat
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
