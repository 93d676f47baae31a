"""Ctrl-C is answered at once, before anything is waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOPPING = (
    "Ctrl-C: stopping; jobs end now, trainings keep their last checkpoint. "
    "Waiting for MLflow (at most 15 s) and Ray"
)


class Interrupts:
    """Says what an interrupt leads to, by whoever shows the sweep at that moment."""

    def __init__(self) -> None:
        """Say it on standard error until somebody shows the sweep."""
        self._say: Callable[[str], None] = _directly

    @contextlib.contextmanager
    def said_by(self, say: Callable[[str], None]) -> Iterator[None]:
        """Let somebody else say it during the block; it must do for the handler of a signal."""
        self._say = say
        try:
            yield
        finally:
            self._say = _directly

    @contextlib.contextmanager
    def answered(self) -> Iterator[None]:
        """Answer Ctrl-C during the block, and raise ``KeyboardInterrupt`` as always."""
        if threading.current_thread() is not threading.main_thread():
            # Only the main thread has handlers.
            yield
            return
        before = signal.signal(signal.SIGINT, self._answer)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        self._say(STOPPING)
        signal.default_int_handler(number, frame)


def _directly(line: str) -> None:
    # Not print: the handler may have interrupted one.
    with contextlib.suppress(OSError):
        os.write(2, f"\n{line}\n".encode())
