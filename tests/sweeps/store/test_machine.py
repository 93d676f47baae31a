"""Places for jobs that drivers of one machine share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.processes import python

from sweeps.store.machine import place

_WORKER = """
import sys, time
from pathlib import Path
from sweeps.store.machine import place
for turn in range(4):
    is_mine = False
    while not is_mine:
        with place(2) as is_mine:
            if is_mine:
                begin = time.monotonic()
                time.sleep(0.05)
                print(begin, time.monotonic(), flush=True)
"""
_HOLDER = """
import time
from sweeps.store.machine import place
with place(1) as is_mine:
    print(is_mine, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("sweeps.store.machine.PATIENCE_SECONDS", 0.1)


def test_workers_of_several_drivers_never_run_more_jobs_than_there_are_places() -> None:
    spans = []
    for worker in [python(_WORKER) for _ in range(4)]:
        said, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0
        spans += [tuple(map(float, line.split())) for line in said.splitlines()]
    assert len(spans) == 16
    at_once = [sum(begin <= at < end for begin, end in spans) for at, _ in spans]
    assert max(at_once) == 2


def test_a_worker_that_is_killed_frees_its_place() -> None:
    holder = python(_HOLDER)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with place(1) as is_mine:
        assert not is_mine
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=60)
    with place(1) as is_mine:
        assert is_mine
        with place(1) as another:
            assert not another


def test_without_a_limit_nobody_waits() -> None:
    with place(0) as one, place(0) as other:
        assert one
        assert other
