"""Machines of an EC2 on loopback: for each instance that runs, a raylet on this machine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from support.processes import kill_tree

KIND, TYPE = "ray-node-type", "ray-user-node-type"


def end(process: subprocess.Popen[bytes]) -> None:
    """As if the power were cut."""
    kill_tree(process.pid)
    process.wait()


@dataclass
class Machines:
    """Gives every running worker instance a raylet, and takes it away with the instance.

    Attributes:
        region: Of the instances.
        address: Of the cluster's head.
        resources: What a machine of each type has, as ``ray start`` takes it.
        folder: Of the logs.
        environment: Of the raylets.
        timeline: Seconds since the start, and how many machines ran; one line per change.
        seen: Every instance that ever ran.
    """

    region: str
    address: str
    resources: Mapping[str, list[str]]
    folder: Path
    environment: Mapping[str, str]
    timeline: list[tuple[float, int]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    _raylets: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _closing: threading.Event = field(default_factory=threading.Event)
    # One look or one interruption at a time: an instance that is taken back between them would
    # be given a second raylet, which is a machine that the autoscaler knows to be gone.
    _one: threading.Lock = field(default_factory=threading.Lock)

    def instances(self) -> dict[str, dict[str, str]]:
        """Tags of the instances that run, by id."""
        client: Any = boto3.client("ec2", self.region)
        found = client.describe_instances(
            Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        )
        return {
            machine["InstanceId"]: {tag["Key"]: tag["Value"] for tag in machine.get("Tags", [])}
            for reservation in found["Reservations"]
            for machine in reservation["Instances"]
        }

    def workers(self) -> list[str]:
        """Ids of the workers that have a raylet."""
        return list(self._raylets)

    def interrupt(self, instance: str) -> None:
        """Take a spot machine back, in the middle of whatever it does."""
        with self._one:
            boto3.client("ec2", self.region).terminate_instances(InstanceIds=[instance])
            # Whoever looks after the machines may have seen it first.
            raylet = self._raylets.pop(instance, None)
            if raylet is not None:
                end(raylet)

    def _look(self) -> None:
        wanted = {name: t for name, t in self.instances().items() if t.get(KIND) == "worker"}
        for name in set(self._raylets) - set(wanted):
            end(self._raylets.pop(name))
        for name in set(wanted) - set(self._raylets):
            self._raylets[name] = self._start(name, wanted[name][TYPE])
            self.seen.append(name)

    def _start(self, instance: str, kind: str) -> subprocess.Popen[bytes]:
        ray = Path(sys.executable).parent / "ray"
        with (self.folder / f"{instance}.log").open("wb") as log:
            return subprocess.Popen(
                [
                    str(ray),
                    "start",
                    f"--address={self.address}",
                    *self.resources[kind],
                    "--object-store-memory=80000000",
                    "--block",
                ],
                env={
                    **self.environment,
                    "RAY_CLOUD_INSTANCE_ID": instance,
                    "RAY_NODE_TYPE_NAME": kind,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _run(self) -> None:
        began = time.monotonic()
        while not self._closing.wait(0.5):
            with self._one:
                self._look()
            count = len(self._raylets)
            if not self.timeline or self.timeline[-1][1] != count:
                self.timeline.append((time.monotonic() - began, count))

    def __enter__(self) -> Machines:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        for raylet in self._raylets.values():
            end(raylet)
