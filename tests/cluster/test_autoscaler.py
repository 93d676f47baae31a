"""Ray's autoscaler with aws.yaml: machines come for a sweep, one is taken back, all leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from support.cluster_files import filled
from support.commands import ONE, PROJECT, finished, half, results
from support.machines import KIND, Machines, end
from support.processes import free_port, wait_for

pytestmark = [pytest.mark.long, pytest.mark.ray]
REGION = "us-west-2"
MOST = 2


def scaling_file(account: dict[str, str], folder: Path) -> tuple[Path, str]:
    """aws.yaml as ``ray up`` leaves it on a head, for two small machines; the head's instance."""
    from ray.autoscaler._private.commands import _bootstrap_config

    from sweeps.executor.spot.aws import AwsSpotFirst

    config: dict[str, Any] = _bootstrap_config(filled("aws.yaml", **account), no_config_cache=True)
    make: Any = AwsSpotFirst
    provider = make(config["provider"], config["cluster_name"])
    given = config["available_node_types"]["head"]["node_config"]
    provider.create_node(given, {KIND: "head", "ray-user-node-type": "head"}, 1)
    (head,) = provider.non_terminated_nodes({KIND: "head"})
    # The raylets that stand in for machines are given by the test, not over ssh.
    config["provider"]["disable_node_updaters"] = True
    config["idle_timeout_minutes"] = 0.4
    config["max_workers"] = MOST
    config.pop("head_node", None)
    for name, kind in config["available_node_types"].items():
        # Ray adds what a raylet on this machine has not: the memory and the model of a GPU.
        kind["resources"] = {"CPU": 0} if name == "head" else {"CPU": 1, "GPU": 1}
        kind["max_workers"] = 0 if name == "head" else MOST
    path = folder / "scaling.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path, str(head)


@pytest.fixture
def cluster(account: dict[str, str], tmp_path: Path) -> Iterator[Machines]:
    """A head without processors whose autoscaler may add two machines."""
    config, head = scaling_file(account, tmp_path)
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": os.urandom(16).hex(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    with (tmp_path / "head.log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "ray"),
                "start",
                "--head",
                f"--port={address.rpartition(':')[2]}",
                "--node-ip-address=127.0.0.1",
                "--num-cpus=0",
                "--include-dashboard=false",
                f"--autoscaling-config={config}",
                f"--temp-dir=/tmp/oneshui-{os.getpid()}",
                "--object-store-memory=80000000",
                "--block",
            ],
            env={**environment, "RAY_CLOUD_INSTANCE_ID": head, "RAY_NODE_TYPE_NAME": "head"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    machines = Machines(
        region=REGION,
        address=address,
        resources={"gpu": ["--num-cpus=1", "--num-gpus=1"]},
        folder=tmp_path,
        environment=environment,
    )
    try:
        wait_for(
            lambda: "Ray runtime started" in (tmp_path / "head.log").read_text(), "the head", 240
        )
        with machines:
            yield machines
    finally:
        end(process)


@pytest.mark.timeout(1500)
def test_machines_come_for_a_sweep_one_is_taken_back_and_all_leave(
    undisturbed: Path, cluster: Machines, tmp_path: Path
) -> None:
    output, printed = tmp_path / "sweep", tmp_path / "printed.txt"
    assert cluster.workers() == []
    with (
        printed.open("wb") as stream,
        subprocess.Popen(
            [
                sys.executable,
                str(PROJECT / "tests" / "support" / "launch_on_stand_ins.py"),
                "sweep=smoke",
                ONE,
                "cluster=existing",
                "cluster.gpus_per_worker=1",
                f"cluster.machines_file={tmp_path / 'scaling.yaml'}",
                f"output_dir={output}",
            ],
            env={**cluster.environment, "RAY_ADDRESS": cluster.address},
            cwd=PROJECT,
            stdout=stream,
            stderr=subprocess.STDOUT,
        ) as driver,
    ):

        def wait(condition: Callable[[], bool], what: str) -> None:
            wait_for(lambda: condition() or driver.poll() is not None, what, 600)
            assert driver.poll() is None, f"{what}: {printed.read_text()}"

        wait(lambda: len(cluster.workers()) == MOST, "all machines")
        wait(lambda: finished(output, "prepare") >= 1, "some work")
        cluster.interrupt(cluster.workers()[0])
        wait(lambda: len(cluster.seen) > MOST, "a machine in its place")
        driver.wait(timeout=600)
    assert driver.returncode == 0, printed.read_text()
    assert results(output).equals(half(undisturbed))
    try:
        wait_for(lambda: cluster.workers() == [], "the machines to leave", 300)
    except AssertionError:
        for log in sorted(Path(f"/tmp/oneshui-{os.getpid()}/session_latest/logs").glob("monitor*")):
            print(log.name, log.read_text()[-8000:], sep="\n")  # noqa: T201
        raise
    instances = boto3.client("ec2", REGION).describe_instances(
        Filters=[{"Name": f"tag:{KIND}", "Values": ["worker"]}]
    )
    workers = [one for found in instances["Reservations"] for one in found["Instances"]]
    assert {one["InstanceLifecycle"] for one in workers} == {"spot"}
    assert {one["State"]["Name"] for one in workers} <= {"shutting-down", "terminated"}
    counts = [count for _, count in cluster.timeline]
    assert max(counts) == MOST
    assert (counts[0], counts[-1]) == (0, 0)
    for at, count in cluster.timeline:
        print(f"{at:6.1f} s: {count} machines")  # noqa: T201
