"""Spot machines are refused: what Ray's own reconciler then gets, with aws.yaml on loopback."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from support.cluster_files import filled

from sweeps.executor.machine_watch import refusal
from sweeps.executor.spot.purchase import refusal_path

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("home")]
REGION = "us-west-2"
ROUND_SECONDS = 5.0


@dataclass
class Rounds:
    """Ray's reconciler, round after round, with jobs that wait for a GPU each.

    Attributes:
        provider: Of the machines; its EC2 refuses what ``refuses`` says.
        refuses: Whether a RunInstances with these parameters is refused.
        asked: Machines that were asked for, as spot machines and on demand.
        now: Seconds of the provider's clock.
    """

    provider: Any
    config: dict[str, Any]
    jobs: int
    refuses: Callable[[dict[str, Any]], str]
    asked: dict[str, int] = field(default_factory=lambda: {"spot": 0, "on demand": 0})
    now: float = 1000.0

    def __post_init__(self) -> None:
        from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE
        from ray.autoscaler.v2.event_logger import AutoscalerEventLogger
        from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
        from ray.autoscaler.v2.instance_manager.instance_manager import InstanceManager
        from ray.autoscaler.v2.instance_manager.instance_storage import InstanceStorage
        from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter
        from ray.autoscaler.v2.instance_manager.storage import InMemoryStorage
        from ray.autoscaler.v2.instance_manager.subscribers.cloud_instance_updater import (
            CloudInstanceUpdater,
        )
        from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import (
            CloudResourceMonitor,
        )
        from ray.autoscaler.v2.scheduler import ResourceDemandScheduler

        self.provider.market.clock = lambda: self.now
        head = self.config["available_node_types"]["head"]["node_config"]
        tags = {TAG_RAY_NODE_KIND: "head", TAG_RAY_USER_NODE_TYPE: "head"}
        self.provider.create_node(head, tags, 1)
        (self.head,) = self.provider.non_terminated_nodes({TAG_RAY_NODE_KIND: "head"})
        client = self.provider.ec2_fail_fast.meta.client
        client.meta.events.register("provide-client-params.ec2.RunInstances", self._answer)

        # Ray's own read a file and write events of a session.
        reader: Any
        events: Any = _Events()
        storage: Any = InMemoryStorage
        scaling = AutoscalingConfig(self.config, skip_content_hash=True)
        self._scaling = scaling
        reader = _Reader(scaling)
        self.adapter = NodeProviderAdapter(self.provider, reader)
        self._monitor = CloudResourceMonitor()
        self._scheduler = ResourceDemandScheduler(AutoscalerEventLogger(events))
        self._manager = InstanceManager(
            instance_storage=InstanceStorage(cluster_id="one", storage=storage()),
            instance_status_update_subscribers=[
                CloudInstanceUpdater(cloud_provider=self.adapter),
                self._monitor,
            ],
        )

    def _answer(self, params: dict[str, Any], **_: Any) -> None:
        from botocore.exceptions import ClientError

        what = "spot" if "InstanceMarketOptions" in params else "on demand"
        self.asked[what] += 1
        code = self.refuses(params)
        if code:
            error = {"Error": {"Code": code, "Message": f"{code}, says the stand-in"}}
            raise ClientError(error, "RunInstances")

    def _state(self) -> Any:
        # Generated: its names are known at run time alone.
        messages: Any = importlib.import_module("ray.core.generated.autoscaler_pb2")
        wanted = messages.ResourceRequest(resources_bundle={"CPU": 1, "GPU": 1})
        head = messages.NodeState(
            node_id=b"0" * 28,
            instance_id=self.head,
            ray_node_type_name="head",
            status=messages.NodeStatus.RUNNING,
            total_resources={"node:__internal_head__": 1.0},
        )
        return messages.ClusterResourceState(
            node_states=[head],
            pending_resource_requests=[
                messages.ResourceRequestByCount(request=wanted, count=self.jobs)
            ],
        )

    def play(self, rounds: int) -> None:
        """So many rounds of the reconciler."""
        from ray.autoscaler.v2.instance_manager.reconciler import Reconciler

        for _ in range(rounds):
            self.now += ROUND_SECONDS
            Reconciler.reconcile(
                instance_manager=self._manager,
                scheduler=self._scheduler,
                cloud_provider=self.adapter,
                cloud_resource_monitor=self._monitor,
                ray_cluster_resource_state=self._state(),
                non_terminated_cloud_instances=self.adapter.get_non_terminated(),
                cloud_provider_errors=self.adapter.poll_errors(),
                autoscaling_config=self._scaling,
            )
            self._settle()

    def _settle(self) -> None:
        """Wait for what the adapter does in threads of its own."""
        for pool in (self.adapter._main_executor, self.adapter._node_launcher_executors):
            deadline = time.monotonic() + 60
            barriers = [pool.submit(time.sleep, 0.02) for _ in range(pool._max_workers)]
            for barrier in barriers:
                barrier.result(timeout=deadline - time.monotonic())

    def machines(self) -> list[dict[str, Any]]:
        """Workers that run or come up."""
        found = boto3.client("ec2", REGION).describe_instances(
            Filters=[
                {"Name": "tag:ray-node-type", "Values": ["worker"]},
                {"Name": "instance-state-name", "Values": ["pending", "running"]},
            ]
        )
        return [one for each in found["Reservations"] for one in each["Instances"]]


@dataclass
class _Reader:
    config: Any

    def get_cached_autoscaling_config(self) -> Any:
        return self.config


class _Events:
    def _quiet(self, *_: Any, **__: Any) -> None:
        return None

    info = warning = error = debug = _quiet


@pytest.fixture
def rounds(
    account: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Rounds]:
    from ray.autoscaler._private.commands import _bootstrap_config

    from sweeps.executor.spot.aws import AwsSpotFirst

    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    config: dict[str, Any] = _bootstrap_config(filled("aws.yaml", **account), no_config_cache=True)
    config.pop("head_node", None)
    config["provider"]["disable_node_updaters"] = True

    def begin(jobs: int, refuses: Callable[[dict[str, Any]], str]) -> Rounds:
        provider = AwsSpotFirst(config["provider"], config["cluster_name"])
        return Rounds(provider, config, jobs, refuses)

    return begin


def spot_is_refused(params: dict[str, Any]) -> str:
    return "InsufficientInstanceCapacity" if "InstanceMarketOptions" in params else ""


def test_after_ten_rounds_of_refusals_machines_come_on_demand_within_two_more(
    rounds: Callable[..., Rounds],
) -> None:
    found = rounds(4, spot_is_refused)
    found.play(10)
    assert found.asked["spot"] >= 10
    assert found.machines() == []
    found.play(2)
    assert found.asked["on demand"] > 0
    (first, *_) = found.machines()
    assert first.get("InstanceLifecycle") != "spot"
    tags = {tag["Key"]: tag["Value"] for tag in first["Tags"]}
    assert tags["ray-user-node-type"] == "gpu"
    assert tags["oneshui-bought"] == "on-demand"
    # No more than the file allows, whoever waits.
    found.play(10)
    assert len(found.machines()) == 2


def test_where_neither_is_to_be_had_the_driver_can_tell_why_in_the_providers_words(
    rounds: Callable[..., Rounds],
) -> None:
    def refused(params: dict[str, Any]) -> str:
        return "MaxSpotInstanceCountExceeded" if spot_is_refused(params) else "VcpuLimitExceeded"

    found = rounds(1, refused)
    found.play(2)
    code = "MaxSpotInstanceCountExceeded"
    assert refusal(refusal_path()) == f"no spot machine: {code}: {code}, says the stand-in"
    found.play(14)
    code = "VcpuLimitExceeded"
    assert refusal(refusal_path()).endswith(f"none on demand: {code}: {code}, says the stand-in")
    assert found.machines() == []


def test_a_spot_machine_that_comes_ends_the_matter(rounds: Callable[..., Rounds]) -> None:
    refusals = iter(["InsufficientInstanceCapacity"] * 5)
    found = rounds(1, lambda params: next(refusals, "") if spot_is_refused(params) else "")
    found.play(14)
    assert {one["InstanceLifecycle"] for one in found.machines()} == {"spot"}
    assert found.asked["on demand"] == 0
