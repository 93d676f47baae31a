"""Tests on an accelerator, where there is none, each file in a process that plays one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.played_device import PLAYED, is_on_device, needed

TESTS = Path(__file__).parent
FILES = sorted(
    str(file.relative_to(TESTS))
    for file in TESTS.rglob("test_*.py")
    if file != Path(__file__) and is_on_device(file)
)

pytestmark = [pytest.mark.long, needed]


def test_there_are_tests_of_methods_training_and_stages() -> None:
    rooms = {file.split("/")[-2] for file in FILES}
    assert rooms >= {"contracts", "training", "stages", "executor"}


@pytest.mark.parametrize("file", FILES)
def test_a_file_passes_on_a_device_that_is_played(file: str) -> None:
    alone = ["-q", "-p", "no:xdist", "-o", "addopts=--import-mode=importlib --strict-markers"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *alone, str(TESTS / file)],
        cwd=TESTS.parent,
        env={**os.environ, PLAYED: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    first = done.stdout.partition("= FAILURES =")[2][:6000]
    assert done.returncode == 0, f"{first}\n[...]\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
    assert " passed" in done.stdout.splitlines()[-1]
