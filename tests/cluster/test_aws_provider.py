"""aws.yaml drives Ray's real AWS node provider against a stand-in for EC2 on loopback."""

from __future__ import annotations

import base64
from typing import Any

import boto3
import pytest
from support.cluster_files import FOLDER, filled

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("home")]
REGION = "us-west-2"


def bootstrapped(account: dict[str, str]) -> dict[str, Any]:
    from ray.autoscaler._private.commands import _bootstrap_config

    config: dict[str, Any] = _bootstrap_config(filled("aws.yaml", **account), no_config_cache=True)
    return config


def provider_of(config: dict[str, Any]) -> Any:
    from sweeps.executor.spot.aws import AwsSpotFirst

    make: Any = AwsSpotFirst
    return make(config["provider"], config["cluster_name"])


def launch(provider: Any, config: dict[str, Any], name: str, count: int) -> list[dict[str, Any]]:
    """Machines of a type, asked for as the autoscaler does; the requests that went out."""
    from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

    sent: list[dict[str, Any]] = []

    def record(params: dict[str, Any], **_: Any) -> None:
        sent.append(dict(params))

    events = provider.ec2_fail_fast.meta.client.meta.events
    events.register("provide-client-params.ec2.RunInstances", record)
    tags = {TAG_RAY_NODE_KIND: "worker", TAG_RAY_USER_NODE_TYPE: name}
    given = config["available_node_types"][name]["node_config"]
    provider.create_node(given, tags, count)
    events.unregister("provide-client-params.ec2.RunInstances", record)
    return sent


def test_workers_are_requested_as_spot_with_type_tags_and_count_and_terminated(
    account: dict[str, str],
) -> None:
    from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

    config = bootstrapped(account)
    provider = provider_of(config)
    sent = [launch(provider, config, "gpu", 3)[0]]
    # The stand-in honours the minimum only; the autoscaler asks again, and so does this test.
    while len(provider.non_terminated_nodes({TAG_RAY_USER_NODE_TYPE: "gpu"})) < 3:
        launch(provider, config, "gpu", 1)

    request = sent[0]
    assert (request["MinCount"], request["MaxCount"]) == (1, 3)
    assert request["InstanceType"] == "g6.xlarge"
    assert request["InstanceMarketOptions"]["MarketType"] == "spot"
    assert request["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert request["IamInstanceProfile"] == {"Name": "oneshui-worker"}
    assert request["SecurityGroupIds"] == [account["FILL_SECURITY_GROUP"]]
    assert request["MetadataOptions"]["HttpTokens"] == "required"

    ec2 = boto3.client("ec2", REGION)
    ids = provider.non_terminated_nodes({TAG_RAY_USER_NODE_TYPE: "gpu"})
    machines = [
        machine
        for reservation in ec2.describe_instances(InstanceIds=ids)["Reservations"]
        for machine in reservation["Instances"]
    ]
    assert len(machines) == 3
    for machine in machines:
        tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
        assert tags["ray-cluster-name"] == "oneshui"
        assert tags["ray-user-node-type"] == "gpu"
        assert machine["InstanceType"] == "g6.xlarge"
        assert machine["InstanceLifecycle"] == "spot"
    data = ec2.describe_instance_attribute(InstanceId=ids[0], Attribute="userData")
    assert base64.b64decode(data["UserData"]["Value"]) == (FOLDER / "deadman.sh").read_bytes()

    provider.terminate_nodes(ids)
    assert provider.non_terminated_nodes({}) == []
    states = {
        machine["State"]["Name"]
        for reservation in ec2.describe_instances(InstanceIds=ids)["Reservations"]
        for machine in reservation["Instances"]
    }
    assert states <= {"shutting-down", "terminated"}


def test_the_machine_for_when_spot_is_sold_out_is_the_same_bought_on_demand(
    account: dict[str, str],
) -> None:
    config = bootstrapped(account)
    provider = provider_of(config)
    (spot,) = launch(provider, config, "gpu", 1)
    provider.market.refused("none left")
    provider.market.patience = 0
    (request,) = launch(provider, config, "gpu", 1)
    assert spot.pop("InstanceMarketOptions")["MarketType"] == "spot"
    tags = request["TagSpecifications"][0]["Tags"]
    tags.remove({"Key": "oneshui-bought", "Value": "on-demand"})
    assert request == spot


def test_ray_adds_no_rule_no_role_and_no_key(account: dict[str, str]) -> None:
    ec2 = boto3.client("ec2", REGION)

    def rules() -> list[Any]:
        groups = ec2.describe_security_groups(GroupIds=[account["FILL_SECURITY_GROUP"]])
        return list(groups["SecurityGroups"][0]["IpPermissions"])

    def groups() -> int:
        return len(ec2.describe_security_groups()["SecurityGroups"])

    before = rules(), groups()
    config = bootstrapped(account)
    assert (rules(), groups()) == before
    assert boto3.client("iam", REGION).list_roles()["Roles"] == []
    assert [key["KeyName"] for key in ec2.describe_key_pairs()["KeyPairs"]] == ["oneshui"]
    assert config["head_node"] == {}


def test_the_readmes_command_finds_machines_that_were_left_behind(account: dict[str, str]) -> None:
    config = bootstrapped(account)
    provider = provider_of(config)
    launch(provider, config, "gpu", 1)
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "Name=tag:ray-cluster-name,Values=oneshui" in text
    found = boto3.client("ec2", REGION).describe_instances(
        Filters=[
            {"Name": "tag:ray-cluster-name", "Values": ["oneshui"]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]},
        ]
    )
    assert len(found["Reservations"]) == 1
