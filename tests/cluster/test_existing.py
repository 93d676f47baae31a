"""``cluster=existing`` as README.md says: code by ``--working-dir``, GPU machines from zero.

Ray's own Jobs API, with a token, and Ray's own autoscaler, which starts raylets of this machine
where a cloud would start machines. Their GPUs are in Ray's books only. What Kubernetes or Anyscale
add to it, a port-forward and their own way to start machines, does not run here.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from support.commands import ONE
from support.jobs_api import Head, head
from support.readme_walk import blocks

from sweeps.config import load
from sweeps.graph.launch import MachineType

pytestmark = [pytest.mark.long, pytest.mark.ray]
ROOT = Path(__file__).parents[2]
METHOD = '''"""Of this checkout alone."""

import copy
from dataclasses import dataclass

from oneshui.methods.base import Range, register
from oneshui.spec import Access


@register
@dataclass(frozen=True, kw_only=True)
class Shrink:
    name = "shrink"
    access = Access.SUPPORT
    search_space = {"factor": Range(low=0.1, high=1.0)}
    factor: float = 0.5

    def unlearn(self, request):
        model = copy.deepcopy(request.model)
        model.get_classifier().weight.data.mul_(self.factor)
        return model
'''


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Someone's checkout, with a method that no other has, and with what must not leave it."""
    folder = tmp_path_factory.mktemp("checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, names.stdout.decode().split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "oneshui" / "methods" / "shrink.py").write_text(METHOD, encoding="utf-8")
    for name in ("runs/old/face.jpg", ".venv/big.so", "uv.lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("stays here", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    gpu = {"resources": {"CPU": 1, "GPU": 1}, "max_workers": 2}
    with head(tmp_path_factory.mktemp("head"), {"gpu": gpu}) as started:
        yield started


def submit(cluster: Head, checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return cluster.job("submit", "--working-dir", ".", "--", *words, where=checkout)


@pytest.mark.timeout(900)
def test_a_sweep_asks_for_gpu_machines_where_there_are_none(
    cluster: Head, checkout: Path, tmp_path: Path
) -> None:
    done = submit(
        cluster,
        checkout,
        sys.executable,
        "tests/support/launch_on_stand_ins.py",
        "sweep=smoke",
        ONE,
        "sweep.seeds=[0]",
        "sweep.methods=[ssd,shrink]",
        "cluster=existing",
        "cluster.machines={gpu: {cpus: 1, gpus: 1, most: 2}}",
        "cluster.gpus_per_worker=1",
        f"output_dir={tmp_path}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = pd.read_parquet(tmp_path / "report" / "results.parquet")
    # The head has no processor, so all this was computed on machines that came, with this code.
    assert {"ssd", "shrink"} <= set(rows["method"])


@pytest.mark.timeout(300)
def test_what_git_ignores_stays_on_the_laptop(cluster: Head, checkout: Path) -> None:
    done = submit(cluster, checkout, "find", ".", "-maxdepth", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    there = set(done.stdout.splitlines())
    assert {"./launch.py", "./oneshui/methods", "./cluster/aws.yaml"} <= there
    assert not [name for name in there if name.startswith(("./runs", "./.venv", "./uv.lock"))]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["sweep.sseds=[0]"], "unknown configuration key 'sweep.sseds'"),
        # Nothing else says that there could be any.
        (["cluster.gpus_per_worker=1"], "cluster.machines={gpu: {cpus: 4, gpus: 1, most: 8}}"),
    ],
)
def test_bad_input_ends_the_job_with_its_sentence(
    more: list[str], says: str, cluster: Head, checkout: Path, tmp_path: Path
) -> None:
    words = ["launch.py", "sweep=smoke", ONE, "cluster=existing", f"output_dir={tmp_path}"]
    done = submit(cluster, checkout, sys.executable, *words, *more)
    # Whatever the driver's status was, that of ``ray job`` is 1; it names the driver's.
    assert done.returncode == 1
    assert "failed with exit code 2" in done.stdout
    assert says in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.timeout(300)
def test_whoever_has_no_token_submits_nothing(cluster: Head, checkout: Path) -> None:
    words = ("submit", "--working-dir", ".", "--", "true")
    done = cluster.job(*words, where=checkout, RAY_AUTH_TOKEN="0" * 32)
    assert done.returncode != 0
    assert "401" in done.stderr or "403" in done.stderr or "oken" in done.stderr
    assert "submitted successfully" not in done.stdout


def test_the_readme_submits_what_ray_and_the_sweep_understand() -> None:
    from ray.dashboard.modules.job.cli import submit as ray_job_submit

    lines = "\n".join(blocks("A Ray cluster that is there")).splitlines()
    submitted = [shlex.split(line) for line in lines if "ray job submit" in line]
    clusters = []
    for words in submitted:
        given = ray_job_submit.make_context("submit", words[words.index("submit") + 1 :]).params
        assert given["working_dir"] == "."
        assert given["entrypoint"][:2] == ("python", "launch.py")
        clusters.append(load(given["entrypoint"][2:]).cluster)
    assert [cluster.mode for cluster in clusters] == ["existing", "existing"]
    assert [dict(cluster.machines) for cluster in clusters] == [
        {},
        {"gpu": MachineType(cpus=4, gpus=1, memory_gb=16, most=8)},
    ]
