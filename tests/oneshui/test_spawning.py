from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from oneshui.errors import InputError
from oneshui.spawning import leave_if_importing, spawned
{guard}
    leave_if_importing()
    with spawned(2, "add", print) as pool:
        print(sum(pool.map(abs, [1, -2])))
"""
COMMAND = """
import sys
from sweeps.cli import main
status = main(["sweep=smoke", "sweep.datasets=[synthetic_tiny]", "output_dir=" + sys.argv[1]])
print(status)
"""


def done(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(code)
    return subprocess.run(
        [sys.executable, str(script), str(folder / "out")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_script_with_a_guard_gets_its_work_done(tmp_path: Path) -> None:
    assert done(SCRIPT.format(guard='if __name__ == "__main__":'), tmp_path).stdout.split() == ["3"]


def test_a_script_without_one_is_told_so(tmp_path: Path) -> None:
    found = done(SCRIPT.format(guard="if True:"), tmp_path)
    last = found.stderr.splitlines()[-1]
    assert last.startswith("oneshui.errors.InputError: the processes that add cannot start")
    assert found.stderr.count("Traceback") == 1


@pytest.mark.skipif((os.cpu_count() or 1) == 1, reason="one processor alone draws the faces")
def test_a_script_that_runs_the_command_without_one_is_told_so(tmp_path: Path) -> None:
    found = done(COMMAND, tmp_path)
    assert found.stdout.splitlines()[-1:] == ["2"]
    assert "the processes that draw faces cannot start" in found.stderr
    assert found.stderr.count("\n") == 1
