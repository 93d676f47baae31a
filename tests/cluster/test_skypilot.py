"""skypilot.yaml: SkyPilot itself takes it, our rules do, and what it runs is a command of ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster_files import FOLDER, filled, write_program

from cluster.check import problems as file_problems
from cluster.checks.skypilot import problems
from sweeps.config import load

ROOT = FOLDER.parent
README = (FOLDER / "README.md").read_text(encoding="utf-8")
Task = dict[str, Any]

PARSED = """
import json, sys
import jsonschema, sky, yaml
from sky.utils import schemas
file, settings = sys.argv[1:]
keys = [("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "nothing")]
task = sky.Task.from_yaml_config(yaml.safe_load(open(file)), secrets_overrides=keys)
jsonschema.validate(yaml.safe_load(settings), schemas.get_config_schema())
kinds = [
    [r.accelerators, r.use_spot, r.autostop_config.down, r.job_recovery] for r in task.resources
]
print(json.dumps({"kinds": kinds, "mounts": task.file_mounts, "nodes": task.num_nodes}))
"""


@pytest.mark.long
def test_skypilot_takes_the_file_and_the_settings(tmp_path: Path) -> None:
    (version,) = re.findall(r"skypilot\[aws,gcp\]==([\d.]+)", README)
    (settings,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    uv = ["uv", "run", "--quiet", "--no-project", "--python", "3.11", "--with"]
    done = subprocess.run(
        [*uv, f"skypilot=={version}", "python", "-c", PARSED, "cluster/skypilot.yaml", settings],
        cwd=ROOT,
        # It writes into the home folder.
        env={**os.environ, "HOME": str(tmp_path), "UV_CACHE_DIR": cache()},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if "not found in the package registry" in done.stderr or "no version of" in done.stderr:
        pytest.skip(f"the package index has no skypilot {version}")
    assert done.returncode == 0, done.stderr
    parsed = json.loads(done.stdout.splitlines()[-1])
    given = yaml.safe_load((FOLDER / "skypilot.yaml").read_text())
    kinds = sorted(name for (found, *_) in parsed["kinds"] for name in found)
    assert kinds == sorted(given["resources"]["accelerators"])
    assert all([*rest] == [True, True, RECOVERY] for _, *rest in parsed["kinds"])
    assert parsed["mounts"] == given["file_mounts"]
    assert parsed["nodes"] == 1


RECOVERY = {"strategy": "EAGER_NEXT_REGION", "max_restarts_on_errors": 0}


def cache() -> str:
    found = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_our_own_rules_have_nothing_against_it() -> None:
    assert problems(filled("skypilot.yaml")) == []
    found = file_problems(FOLDER / "skypilot.yaml")
    assert found
    assert all(problem.startswith("fill in FILL_") for problem in found)


def test_it_runs_a_command_of_ours_on_its_own_ray(tmp_path: Path) -> None:
    task = filled("skypilot.yaml")
    home = tmp_path / "home"
    program = home / "oneshui" / ".venv" / "bin"
    write_program(program, "oneshui", 'echo "${RAY_ADDRESS-none}"; printf "%s\\n" "$@"; exit 7')
    done = subprocess.run(
        ["bash", "-c", task["run"]],
        env={**os.environ, **task["envs"], "HOME": str(home), "RAY_ADDRESS": "127.0.0.1:6380"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 7, done.stderr  # what SkyPilot goes by
    address, *given = done.stdout.splitlines()
    assert address == "none"
    spec = load(given)
    assert (spec.sweep.name, spec.cluster.mode) == ("full", "local")
    assert spec.places.store_uri == "s3://a-bucket/store"
    assert spec.places.data_dir == "s3://a-bucket/data"
    assert spec.places.copy_to == "s3://a-bucket/store-results/full"


def test_what_is_installed_there_is_what_a_bucket_needs(tmp_path: Path) -> None:
    for name in ("uv", "python3"):
        write_program(tmp_path / ".local/bin", name, f'echo "$PWD {name} $*" >>"{tmp_path}/asked"')
    (tmp_path / "oneshui").mkdir()
    subprocess.run(
        ["bash", "-c", filled("skypilot.yaml")["setup"]],
        env={**os.environ, "HOME": str(tmp_path)},
        check=True,
        timeout=60,
    )
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [f"{tmp_path}/oneshui uv sync --quiet --no-dev --extra cloud --python 3.11"]


MISTAKES: dict[str, tuple[Callable[[Task], object], str]] = {
    "machines at full price": (lambda t: t["resources"].pop("use_spot"), "use_spot is not true"),
    "one kind of GPU": (
        lambda t: t["resources"].update(accelerators="L4:1"),
        "names one kind of GPU",
    ),
    "several GPUs each": (
        lambda t: t["resources"].update(accelerators={"L4": 4, "A10G": 4}),
        "asks for more than one GPU",
    ),
    "machines that are only stopped": (
        lambda t: t["resources"].update(autostop=10),
        "autostop does not say down",
    ),
    "bad input again and again": (
        lambda t: t["resources"].update(job_recovery={"max_restarts_on_errors": 3}),
        "max_restarts_on_errors is not 0",
    ),
    "a port": (lambda t: t["resources"].update(ports=8265), "ports opens ports"),
    "the whole folder": (lambda t: t.update(workdir="."), "workdir copies the whole folder"),
    "data": (
        lambda t: t["file_mounts"].update({"~/data": "./data"}),
        "file_mounts: ~/data is not on the list",
    ),
    "a cluster": (lambda t: t.update(run="oneshui $SWEEP"), "run: cluster=local is missing"),
    "a store that goes": (
        lambda t: t["envs"].update(STORE="/tmp/store"),
        "envs.STORE is no bucket",
    ),
    "a key in the file": (
        lambda t: t["secrets"].update(AWS_ACCESS_KEY_ID="abc"),
        "secrets.AWS_ACCESS_KEY_ID holds a value",
    ),
    "a sweep that is none": (lambda t: t["envs"].update(SWEEP="sweep=fulll"), "envs.SWEEP: "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake: str) -> None:
    task = filled("skypilot.yaml")
    change, complaint = MISTAKES[mistake]
    change(task)
    found = problems(task)
    assert any(complaint in problem for problem in found), found
