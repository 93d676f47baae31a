"""Commands of the README that must not hide an error, run with stand-ins for the programs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from support.cluster_files import FOLDER, write_program

README = (FOLDER / "README.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"^```\w*\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def block(mark: str) -> str:
    """The only block of commands that contains a text."""
    (found,) = [text for text in BLOCKS if mark in text]
    return found


def run(commands: str, folder: Path, **others: str) -> tuple[int, str, str]:
    """Status and output of commands that a person typed, and what they asked of the programs."""
    done = subprocess.run(
        ["bash", "-c", commands],
        env={**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **others},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    log = folder / "asked"
    asked = log.read_text(encoding="utf-8") if log.exists() else ""
    return done.returncode, done.stdout + done.stderr, asked


@pytest.mark.parametrize(
    ("answer", "says", "is_deleted"),
    [
        ("exit 0", "", True),
        ("echo pod/oneshui-gpu-spot-worker-1", "this is left: pod/oneshui-gpu-spot", False),
        ("echo 'no such resource: rayjob' >&2; exit 1", "no such resource: rayjob", False),
        ("echo pod/x; exit 1", "unknown, since kubectl failed", False),
    ],
)
def test_the_volume_goes_only_if_kubernetes_says_that_nothing_runs(
    answer: str, says: str, is_deleted: bool, tmp_path: Path
) -> None:
    kubectl = f'echo "$*" >>"{tmp_path}/asked"\ncase "$1" in get) {answer} ;; esac'
    write_program(tmp_path / "bin", "kubectl", kubectl)
    _, output, asked = run(block("delete pvc"), tmp_path)
    assert says in output
    assert ("delete pvc oneshui-shared" in asked) == is_deleted


def test_no_command_hides_what_it_could_not_find_out() -> None:
    assert len(BLOCKS) > 10
    assert not [text for text in BLOCKS if "2>/dev/null" in text]


FETCHES = [("ray down cluster/aws.yaml", "aws"), ("gcloud storage rsync", "gcloud")]


@pytest.mark.parametrize(("mark", "program"), FETCHES)
@pytest.mark.parametrize("arrives", [True, False])
def test_a_cluster_ends_only_when_its_report_is_here(
    mark: str, program: str, arrives: bool, tmp_path: Path
) -> None:
    """On a laptop that has no folder for it yet."""
    last = '"${@: -1}"'
    fetch = f"mkdir -p {last}/report; echo page >{last}/report/index.html" if arrives else "exit 1"
    write_program(tmp_path / "bin", program, fetch)
    write_program(tmp_path / "bin", "uv", f'echo "$*" >>"{tmp_path}/asked"')
    _, _, asked = run(block(mark), tmp_path, BUCKET="b")
    assert ("run ray down cluster/" in asked) == arrives


@pytest.mark.parametrize("arrives", [True, False])
def test_jobs_of_skypilot_are_cancelled_only_when_the_report_is_here(
    arrives: bool, tmp_path: Path
) -> None:
    fetch = 'mkdir -p "$4/report"; echo page >"$4/report/index.html"' if arrives else "exit 1"
    write_program(tmp_path / "bin", "aws", f"[ $1 = iam ] || {{ {fetch}; }}")
    write_program(tmp_path / "bin", "sky", f'echo "$*" >>"{tmp_path}/asked"')
    _, _, asked = run(block("sky jobs cancel"), tmp_path, BUCKET="b")
    assert ("jobs cancel --name oneshui --yes" in asked) == arrives


def test_data_go_in_and_results_come_out_through_a_pod(tmp_path: Path) -> None:
    """Commands for the pod run here, in a folder that stands in for the volume."""
    volume, data = tmp_path / "volume", tmp_path / "data"
    for folder in (volume / "data", volume / "runs/full/report", volume / "runs/full/logs", data):
        folder.mkdir(parents=True)
    (data / "faces").mkdir()
    (data / "faces/1.jpg").write_bytes(b"a face")
    (volume / "runs/full/report/index.html").write_text("page")
    (volume / "runs/full/logs/a.log").write_text("log")
    write_program(
        tmp_path / "bin",
        "kubectl",
        f'[ "$1" = exec ] || exit 0\nwhile [ "$1" != -- ]; do shift; done; shift\n'
        f'exec "${{@//\\/shared/{volume}}}"',
    )
    status, output, _ = run(block("tar -C /data").replace("/data -c", f"{data} -c"), tmp_path)
    assert status == 0, output
    assert (volume / "data/faces/1.jpg").read_bytes() == b"a face"
    status, output, _ = run(block("tar -C /shared/runs/full"), tmp_path)
    assert status == 0, output
    assert (tmp_path / "runs/full/report/index.html").read_text() == "page"
    assert (tmp_path / "runs/full/logs/a.log").read_text() == "log"
