"""Processes for methods: forked from one that has never seen data, models or other methods.

A worker keeps such a nursery from its first minute, before it reads anything and before it uses a
GPU, whose state no fork survives. Without one, a process that asks forks a nursery for one call.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import json
import logging
import os
import pickle
import select
import shutil
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from oneshui.deletion import deleted
from oneshui.enclosure import kernel
from oneshui.enclosure.report import read_result, write_error, write_result
from oneshui.enclosure.walls import Walls
from oneshui.errors import NurseryLostError

if TYPE_CHECKING:
    import torch

Action = Callable[[Path], tuple[Mapping[str, "torch.Tensor"], Any]]
"""What runs behind walls: gets its private folder, returns tensors and a value for JSON."""

logger = logging.getLogger("oneshui.worker")
_LOOK_SECONDS = 2.0
_MOST_LOG = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Enclosed:
    """What came back.

    Attributes:
        tensors: By name, on the processor.
        value: What the action returned beside them, as JSON has it.
        protection: As ``protection`` says.
    """

    tensors: dict[str, torch.Tensor]
    value: Any
    protection: str


def protection() -> str:
    """What keeps a method from the data here.

    Returns:
        "landlock <version>": the kernel, from a process of its own; "audit, own process": Python's
        audit events in a process of its own; "audit": those alone, in this process.
    """
    if not _can_fork():
        return "audit"
    abi = kernel.landlock_abi()
    return f"landlock {abi}" if abi else "audit, own process"


def _can_fork() -> bool:
    """Whether a fork of this process, or of the kept nursery, can do the work."""
    if sys.platform != "linux":
        return False
    if _kept is not None:
        return True
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return True
    from oneshui.accelerator import is_started

    # OpenMP's threads do not survive a fork, and who waits for them waits for ever.
    return torch.get_num_threads() == 1 and not is_started()


def enclosed(
    action: Action, walls: Walls, *, look: Callable[[Path], None] = lambda _private: None
) -> Enclosed:
    """Run the action behind walls.

    Args:
        action: Can be pickled; everything it refers to is handed over by that.
        walls: What it is kept from and what it keeps.
        look: Called with the private folder every two seconds, and when the action has failed.

    Raises:
        MethodError, OneshuiError, MemoryError: See ``oneshui.enclosure.report.read_result``.
        NurseryLostError: The kept nursery has been ended by somebody.
    """
    how = protection()
    private = Path(tempfile.mkdtemp(prefix="oneshui-private-"))
    try:
        if how == "audit":
            opened = (*walls.handed, *walls.writable, private, *walls.libraries())
            with deleted(walls.protected, walls.method, opened):
                tensors, value = action(private)
            on_processor = {name: tensor.cpu() for name, tensor in tensors.items()}
            found = Enclosed(tensors=on_processor, value=value, protection=how)
        elif _kept is not None:
            found = _kept.run(action, walls, private, look, how)
        else:
            with contextlib.closing(_Nursery()) as nursery:
                found = nursery.run(action, walls, private, look, how)
        return found
    except Exception:
        look(private)
        raise
    finally:
        shutil.rmtree(private, ignore_errors=True)


class _Nursery:
    """The process from which children are forked, seen from the one that asks."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with warnings.catch_warnings():
            # Python warns of threads; the child uses none of their locks.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _never_return(lambda: _serve(theirs.detach()))
        theirs.close()
        self._pid, self._socket = pid, ours

    def close(self) -> None:
        """End it, and what it began."""
        self._socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def run(
        self, action: Action, walls: Walls, private: Path, look: Callable[[Path], None], how: str
    ) -> Enclosed:
        """Have a child do the work."""
        with contextlib.ExitStack() as stack:
            request, tensors, report, log = (
                stack.enter_context(tempfile.TemporaryFile()) for _ in range(4)
            )
            pickle.dump((action, walls, private), request)
            request.seek(0)
            files = [file.fileno() for file in (request, tensors, report, log)]
            try:
                socket.send_fds(self._socket, [b"1"], files)
                status = self._wait(lambda: look(private))
            except OSError as error:
                raise NurseryLostError(f"the process that forks others is gone ({error})") from None
            _pass_on(log)
            found, value = read_result(walls.method, status, tensors, report)
        return Enclosed(tensors=found, value=value, protection=how)

    def _wait(self, look: Callable[[], None]) -> int:
        while not select.select([self._socket], [], [], _LOOK_SECONDS)[0]:
            look()
        answer = self._socket.recv(64)
        if not answer:
            raise ConnectionResetError("it ended")
        return int(json.loads(answer))


_kept: _Nursery | None = None


def keep_nursery() -> None:
    """Fork the nursery of this process, if there is none, while there is nothing to be seen in it.

    To be called before the process reads data, uses a GPU or computes with several threads; on
    other systems than Linux nothing happens.
    """
    global _kept
    if _kept is None and sys.platform == "linux":
        _kept = _Nursery()


@contextlib.contextmanager
def nursery_kept() -> Iterator[None]:
    """As ``keep_nursery``, inside the block alone; one that was kept before stays."""
    global _kept
    was_kept = _kept is not None
    keep_nursery()
    try:
        yield
    finally:
        if _kept is not None and not was_kept:
            _kept.close()
            _kept = None


def _pass_on(log: IO[bytes]) -> None:
    log.seek(0)
    text = log.read(_MOST_LOG).decode(errors="replace").rstrip()
    if text:
        logger.info("the method said:\n%s", text)


# What follows runs in the nursery and its children.


def _never_return(work: Callable[[], None]) -> None:
    """Do the work and end this process without what its parent would do at its end."""
    status = 70
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def _serve(number: int) -> None:
    """Fork a child for each request, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    kernel.adopt_orphans()
    (number,) = _keep_only([number])
    with socket.socket(fileno=number) as channel:
        while True:
            _, files, _, _ = socket.recv_fds(channel, 1, 4)
            if not files:
                return
            child = os.fork()
            if child == 0:
                channel.detach()
                _never_return(partial(_work, files))
            for file in files:
                os.close(file)
            status = _attend(child, channel)
            _end_all()
            if status is None:
                return
            channel.sendall(json.dumps(status).encode())


def _attend(child: int, channel: socket.socket) -> int | None:
    """Wait for the child; None, and its end, if the other side goes first."""
    handle = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([channel.fileno(), handle], [], [])
        if handle not in ready:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        return os.waitpid(child, 0)[1]
    finally:
        os.close(handle)


def _end_all() -> None:
    """Kill what the child left running: the kernel has made it this process's own."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(ChildProcessError, OSError):
        while True:
            for pid in listed.read_text(encoding="ascii").split():
                os.kill(int(pid), signal.SIGKILL)
            os.waitpid(-1, 0)


def _keep_only(numbers: list[int]) -> list[int]:
    """Close all files but these, which get new numbers.

    The old numbers lead to nowhere instead of being free: an object that still has one would
    close whatever came to stand there.
    """
    listed = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    kept = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, max(listed) + 1) for number in numbers]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in listed:
        with contextlib.suppress(OSError):
            os.fstat(number)
            os.dup2(nowhere, number)
    return kept


def _work(files: list[int]) -> None:
    """A child's whole life."""
    kernel.end_with_parent(signal.SIGKILL)
    request, tensors, report, log = _keep_only(files)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr)
    logging.root.handlers = [logging.StreamHandler(sys.stderr)]
    try:
        with open(request, "rb") as stream:  # noqa: PTH123
            action, walls, private = pickle.load(stream)
        walls.close(private)
        found, value = action(private)
        write_result(found, value, (tensors, report))
    except BaseException as error:
        write_error(error, report)
    sys.stdout.flush()
