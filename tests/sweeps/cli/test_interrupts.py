from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from sweeps.cli.interrupts import STOPPING, Interrupts


def test_whoever_shows_the_sweep_says_it() -> None:
    said: list[str] = []
    interrupts = Interrupts()
    before = signal.getsignal(signal.SIGINT)
    with interrupts.answered(), interrupts.said_by(said.append), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert said == [STOPPING]
    assert signal.getsignal(signal.SIGINT) is before


def test_before_anything_is_shown_it_is_said_on_standard_error() -> None:
    code = (
        "import os, signal, time\n"
        "from sweeps.cli.interrupts import Interrupts\n"
        "with Interrupts().answered():\n"
        "    os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr.startswith(f"\n{STOPPING}\n")
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


def test_another_thread_has_no_handler_to_set() -> None:
    found: list[object] = []

    def enter() -> None:
        with Interrupts().answered():
            found.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before]
