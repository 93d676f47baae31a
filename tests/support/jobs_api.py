"""A head with Ray's Jobs API on loopback, and what submits to it as a person would."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.processes import children, free_port, kill_tree, wait_for

ROOT = Path(__file__).parents[2]
OF_THE_API = (
    "aiohttp-cors",
    "colorful",
    "grpcio",
    "opencensus",
    "opencensus-context",
    "opentelemetry-exporter-prometheus",
    "prometheus-client",
    "smart-open",
)
"""What the extra ``cluster`` brings and a laptop has not: it would serve metrics to everybody."""

_LISTS = (
    *("setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "initialization_commands"),
    *("cluster_synced_files", "rsync_exclude", "rsync_filter"),
)


def api_packages(folder: Path) -> Path:
    """A folder with them in the tested versions, for ``PYTHONPATH`` of a head alone."""
    if importlib.util.find_spec("prometheus_client"):
        return folder
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pins = [re.search(rf'"({re.escape(name)}==[^";]+)', text) for name in OF_THE_API]
    pinned = [found[1] for found in pins if found]
    assert len(pinned) == len(OF_THE_API), pinned
    command = [
        "uv",
        "pip",
        "install",
        "--compile-bytecode",
        "--quiet",
        "--no-deps",
        "--python",
        sys.executable,
    ]
    try:
        done = subprocess.run(
            [*command, "--target", str(folder), *pinned],
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"what Ray's Jobs API needs cannot be installed: {error}")
    if done.returncode != 0:
        pytest.skip(f"what Ray's Jobs API needs cannot be installed: {done.stderr[-300:]}")
    return folder


@dataclass(frozen=True)
class Head:
    """A head that runs.

    Attributes:
        gcs: Address of its control service.
        jobs: Address of its Jobs API.
        environment: Of who may talk to it, or start a machine for it.
        log: What its processes print.
    """

    gcs: str
    jobs: str
    environment: Mapping[str, str]
    log: Path

    def job(self, *words: str, where: Path, **others: str) -> subprocess.CompletedProcess[str]:
        """``ray job WORDS`` as it is typed in a folder, with the packages of a laptop."""
        environment = {**self.environment, "RAY_API_SERVER_ADDRESS": self.jobs, **others}
        environment.pop("PYTHONPATH")
        return subprocess.run(
            [str(Path(sys.executable).parent / "ray"), "job", *words],
            cwd=where,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )


@contextmanager
def head(folder: Path, machines: Mapping[str, Any]) -> Iterator[Head]:
    """A head without processors, whose autoscaler may add machines of these types.

    Args:
        folder: For its files.
        machines: As ``available_node_types`` of a launcher file names them; each of them is a
            raylet of this machine.
    """
    gcs, api = free_port(), free_port()
    # Sockets have short paths.
    own = Path(tempfile.mkdtemp(prefix="oneshui-", dir="/tmp"))
    first = "f" * 55 + "0"
    config = {
        "cluster_name": "fake",
        "max_workers": sum(kind["max_workers"] for kind in machines.values()),
        "idle_timeout_minutes": 0.3,
        "provider": {
            "type": "external",
            "module": "support.raylets.Raylets",
            "folder": str(own),
            "gcs_address": f"127.0.0.1:{gcs}",
            "launch_multiple": True,
            "head_node_id": first,
        },
        "available_node_types": {
            **{
                name: {"node_config": {}, "min_workers": 0, **one} for name, one in machines.items()
            },
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        # What a provider of Ray's own gets filled in.
        **{name: [] for name in _LISTS},
    }
    (folder / "scaling.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    packages = api_packages(folder / "packages")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{packages}:{ROOT / 'tests'}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": os.urandom(16).hex(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }
    of_the_head = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": first,
        "RAY_NODE_TYPE_NAME": "ray.head.default",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": first,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    log = folder / "head.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "ray"),
                "start",
                "--head",
                f"--port={gcs}",
                "--node-ip-address=127.0.0.1",
                "--num-cpus=0",
                "--dashboard-host=127.0.0.1",
                f"--dashboard-port={api}",
                "--min-worker-port=0",
                "--max-worker-port=0",
                f"--autoscaling-config={folder / 'scaling.yaml'}",
                f"--temp-dir={own}",
                "--object-store-memory=80000000",
                "--block",
            ],
            env={**environment, **of_the_head},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    found = Head(f"127.0.0.1:{gcs}", f"http://127.0.0.1:{api}", environment, log)
    try:
        wait_for(
            lambda: "Ray runtime started" in log.read_text() or process.poll() is not None,
            "the head",
            480,
        )
        assert process.poll() is None, log.read_text()
        yield found
    finally:
        _end(process, own)


def _end(process: subprocess.Popen[bytes], own: Path) -> None:
    """End the head and the machines that it started, which are nobody's children any more."""
    kill_tree(process.pid)
    process.wait()
    for pid, words in children(1):
        if str(own) in words:
            kill_tree(pid)
    shutil.rmtree(own, ignore_errors=True)
