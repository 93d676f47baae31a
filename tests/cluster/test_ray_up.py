"""`ray up` and `ray down` with aws.yaml: EC2 is on loopback, ssh and rsync only take notes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from support.cluster_files import FOLDER, write_program

pytestmark = pytest.mark.long
REGION = "us-west-2"


def run_ray(*arguments: str, path: Path) -> str:
    ray = Path(sys.executable).parent / "ray"
    done = subprocess.run(
        [str(ray), *arguments],
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def states() -> list[str]:
    found = boto3.client("ec2", REGION).describe_instances()
    return [
        machine["State"]["Name"]
        for reservation in found["Reservations"]
        for machine in reservation["Instances"]
    ]


def test_up_and_down(account: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "commands"
    for name in ("ssh", "rsync"):
        write_program(tmp_path / "bin", name, f'echo "{name} $*" >>"{log}"')
    text = (FOLDER / "aws.yaml").read_text(encoding="utf-8")
    for blank, value in {**account, "FILL_BUCKET": "a-bucket"}.items():
        text = text.replace(blank, value)
    config = tmp_path / "aws.yaml"
    config.write_text(text, encoding="utf-8")

    output = run_ray("up", str(config), "--yes", "--no-config-cache", path=tmp_path / "bin")
    assert states() == ["running"]
    commands = log.read_text(encoding="utf-8")
    copied = [line for line in commands.splitlines() if line.startswith("rsync")]
    assert any(line.split()[-2].endswith(".ray/oneshui_token") for line in copied)
    sources = {line.split()[-2].rstrip("/") for line in copied}
    assert {"oneshui", "sweeps", "pyproject.toml", "cluster/mlflow.sh"} <= sources
    assert not any(word in source for source in sources for word in (".git", "data", "runs"))
    assert "uv sync --quiet --no-dev --extra cluster --extra aws" in commands
    assert "oneshui/mlflow.sh" in commands
    start = next(line for line in commands.splitlines() if "ray start --head" in line)
    assert "RAY_AUTH_MODE=token" in start
    assert "--dashboard-host=127.0.0.1" in start
    assert "RAY_enable_autoscaler_v2" in start
    assert '{"CPU":0,"GPU":0}' in start.replace("\\", "").replace(" ", "")
    assert "nobody's" not in commands + output  # the token's text
    assert "ray-wheels" not in commands
    assert "cp310" not in commands

    run_ray("down", str(config), "--yes", path=tmp_path / "bin")
    assert set(states()) <= {"shutting-down", "terminated"}
