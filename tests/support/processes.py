"""Processes that a test starts, looks at and ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_TESTS = Path(__file__).parents[1]


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another Python, which can import what tests can."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": f"{_TESTS}:{_TESTS.parent}"},
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], what: str = "it", seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def children(pid: int) -> list[tuple[int, str]]:
    """Process ids and names of all descendants."""
    table = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in table.splitlines()]
    found = [(pid, "")]
    for parent, _ in found:
        found += [(int(own), name) for own, above, name in rows if int(above) == parent]
    return found[1:]


def kill_tree(pid: int) -> None:
    """As if the machine lost its power."""
    for one in [*(child for child, _ in children(pid)), pid]:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            continue


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
