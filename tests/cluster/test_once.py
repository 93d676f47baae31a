"""A sweep's own verdict is not tried again by KubeRay; what happened to it from outside is."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest
from support.cluster_files import FOLDER, filled, write_program


def attempt(folder: Path, *, status: str = "exit 0") -> subprocess.CompletedProcess[str]:
    """The entrypoint of rayjob.yaml, where a program of the test stands in for the sweep."""
    write_program(folder / "bin", "python", f'echo "$*" >>"{folder}/driven"\n{status}')
    words = shlex.split(filled("kuberay/rayjob.yaml")["spec"]["entrypoint"])
    moved = [
        word.replace("/opt/oneshui", str(FOLDER)).replace("/shared", str(folder)) for word in words
    ]
    return subprocess.run(
        moved,
        env={**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def drives(folder: Path) -> int:
    return len((folder / "driven").read_text().splitlines())


@pytest.mark.parametrize("status", [1, 2])
def test_the_sweeps_own_words_are_not_tried_again(status: int, tmp_path: Path) -> None:
    first = attempt(tmp_path, status=f"exit {status}")
    assert first.returncode == status
    assert first.stderr == ""
    for _ in range(2):
        again = attempt(tmp_path)
        assert again.returncode == status
        assert f"an earlier try ended with status {status}" in again.stderr
    assert drives(tmp_path) == 1


def test_a_lost_driver_is_tried_again(tmp_path: Path) -> None:
    assert attempt(tmp_path, status="kill -KILL $$").returncode == 137
    assert attempt(tmp_path).returncode == 0
    assert drives(tmp_path) == 2
    assert not list(tmp_path.rglob(".ended"))


def test_after_half_an_hour_or_without_the_mark_it_runs(tmp_path: Path) -> None:
    attempt(tmp_path, status="exit 2")
    (mark,) = tmp_path.rglob(".ended")
    assert mark.parent.name == "full"
    long_ago = time.time() - 31 * 60
    os.utime(mark, (long_ago, long_ago))
    assert attempt(tmp_path, status="exit 1").returncode == 1
    mark.unlink()
    assert attempt(tmp_path).returncode == 0
    assert drives(tmp_path) == 3
    assert not mark.exists()


def test_without_a_place_for_the_mark_nothing_runs() -> None:
    script = str(FOLDER / "once.sh")
    done = subprocess.run([script, "true"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "once.sh needs output_dir=FOLDER" in done.stderr
