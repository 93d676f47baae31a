"""What code that was handed the data leaves behind, and how it is fetched after deletion."""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from support.hostile.target import SIZE, Target, Way

from oneshui import deletion


class Shop:
    """Where a class attribute can be left."""

    held = b""


def _leave_attribute(t: Target) -> None:
    Shop.held = t.file.read_bytes()


def _leave_thread(t: Target) -> None:
    Shop.held = b""
    data = t.file.read_bytes()

    def later() -> None:
        time.sleep(0.2)
        Shop.held = data

    threading.Thread(target=later, daemon=True).start()


def _fetch_thread(_: Target) -> bytes:
    _wait_for(lambda: bool(Shop.held))
    return Shop.held


def _wait_for(what: Callable[[], bool]) -> None:
    for _ in range(50):
        if what():
            return
        time.sleep(0.1)


def _leave_at_exit(t: Target) -> None:
    data = t.file.read_bytes()
    atexit.register(lambda: setattr(Shop, "held", data))


def _fetch_at_exit(_: Target) -> bytes:
    atexit._run_exitfuncs()
    return Shop.held


def _leave_handler(t: Target) -> None:
    data = t.file.read_bytes()
    signal.signal(signal.SIGUSR1, lambda *_: setattr(Shop, "held", data))


def _fetch_handler(_: Target) -> bytes:
    signal.raise_signal(signal.SIGUSR1) if signal.getsignal(signal.SIGUSR1) else None
    return Shop.held


def _leave_open(t: Target) -> None:
    Shop.number = os.open(t.file, os.O_RDONLY)  # type: ignore[attr-defined]


def _fetch_open(_: Target) -> bytes:
    return os.pread(Shop.number, SIZE, 0)  # type: ignore[attr-defined]


def _leave_patch(t: Target) -> None:
    data = t.file.read_bytes()
    torch.zeros = lambda *_: data  # type: ignore[assignment]


LEFT_BEHIND = f"oneshui-left-behind-{os.getpid()}.bin"
LEFT_IN = (
    tempfile.gettempdir(),
    str(Path(torch.__file__).parent),
    str(Path(deletion.__file__).parent),
)


def _in(folder: str) -> tuple[Way, Way]:
    place = partial(os.path.join, folder, LEFT_BEHIND)

    def leave(t: Target) -> None:
        shutil.copyfile(t.file, place())

    def fetch(_: Target) -> bytes:
        return Path(place()).read_bytes()

    return leave, fetch


def _leave_process(t: Target) -> None:
    data = t.file.read_bytes()
    # Once a folder, and whole at once: the reader must not find half of it, and whoever
    # removes the folder must not find the file again.
    seen = {Path.cwd()}
    if os.fork() == 0:
        os.setsid()
        # Whoever called the worker would wait for this process too, which held its pipes.
        os.closerange(0, 1024)
        for _ in range(600):
            time.sleep(0.1)
            try:
                os.kill(t.worker, 0)
            except ProcessLookupError:
                break
            except OSError:
                continue
            try:
                new = set(t.root.parent.glob("oneshui-private-*")) - seen
                for folder in new:
                    (folder / "beside").write_bytes(data)
                    (folder / "beside").rename(folder / "from beyond")
                seen |= new
            except OSError:
                continue
        os._exit(0)


def _fetch_process(_: Target) -> bytes:
    left = Path("from beyond")
    _wait_for(left.exists)
    return left.read_bytes()


def _segment(mode: int) -> int:
    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_void_p
    number = libc.shmget(0x1541, SIZE, mode)
    if number < 0:
        raise PermissionError
    return int(libc.shmat(number, None, 0))


def _leave_segment(t: Target) -> None:
    ctypes.memmove(_segment(0o1600), t.file.read_bytes(), SIZE)


def _fetch_segment(_: Target) -> bytes:
    return ctypes.string_at(_segment(0o600), SIZE)


LATER: dict[str, tuple[Way, Way]] = {
    "a class's attribute": (_leave_attribute, lambda _: Shop.held),
    "a thread that lives on": (_leave_thread, _fetch_thread),
    "a handler of the process's end": (_leave_at_exit, _fetch_at_exit),
    "a handler of a signal": (_leave_handler, _fetch_handler),
    "a file left open": (_leave_open, _fetch_open),
    "a function of torch exchanged": (_leave_patch, lambda _: torch.zeros(1)),
    "a file in the temporary folder": _in(LEFT_IN[0]),
    "a file in the Python installation": _in(LEFT_IN[1]),
    "a file in the benchmark's package": _in(LEFT_IN[2]),
    "a process that lives on": (_leave_process, _fetch_process),
    "a segment of shared memory": (_leave_segment, _fetch_segment),
}
"""How it is left before deletion, and how it is fetched."""
