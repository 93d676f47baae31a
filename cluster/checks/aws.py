"""``node_config`` on AWS, against botocore's description of RunInstances and our own rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from cluster.checks.common import identity_problems, node_type_problems, spot_problems

# Ray takes them out or sets them itself before it calls RunInstances.
RAYS_OWN = {"SubnetIds"}
SET_BY_RAY = {"MinCount": 1, "MaxCount": 1}


@cache
def _run_instances() -> Any:
    import botocore.session

    model = botocore.session.get_session().get_service_model("ec2")
    return model.operation_model("RunInstances").input_shape


def problems(config: dict[str, Any]) -> list[str]:
    """What RunInstances would refuse, and what would cost money or open a door."""
    checks = (_shape_problems, _node_problems)
    found = node_type_problems(config, checks, _worker_problems, _head_problems)
    return found + _group_problems(config)


def _shape_problems(given: dict[str, Any]) -> Iterator[str]:
    from botocore.validate import ParamValidator

    sent = {key: value for key, value in given.items() if key not in RAYS_OWN} | SET_BY_RAY
    report = ParamValidator().validate(sent, _run_instances())
    if report.has_errors():
        yield from report.generate_report().splitlines()
        return
    # botocore leaves the values of enumerations to the service.
    yield from _enum_problems(sent, _run_instances(), "")


def _enum_problems(value: Any, shape: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for key, inner in value.items():
            yield from _enum_problems(inner, shape.members[key], f"{path}.{key}".lstrip("."))
    elif shape.type_name == "list":
        for inner in value:
            yield from _enum_problems(inner, shape.member, path)
    elif getattr(shape, "enum", None) and value not in shape.enum and "FILL_" not in str(value):
        yield f"{path}: {value!r} is none of EC2's values"


def _node_problems(given: dict[str, Any]) -> list[str]:
    metadata = given.get("MetadataOptions", {})
    disks = [disk.get("Ebs", {}) for disk in given.get("BlockDeviceMappings", [])]
    image = str(given.get("ImageId", ""))
    wanted = {
        "ImageId is no image's id: Ray would take Ubuntu 18.04": bool(
            re.fullmatch(r"ami-[0-9a-f]{8,17}|FILL_AMI", image)
        ),
        "IamInstanceProfile is missing: it would have no right to the bucket, or all rights": bool(
            given.get("IamInstanceProfile")
        ),
        "SecurityGroupIds is missing: Ray would open port 22 to the world": bool(
            given.get("SecurityGroupIds")
        ),
        "KeyName is missing": bool(given.get("KeyName")),
        "MetadataOptions must require tokens with a hop limit of 2": (
            metadata.get("HttpTokens") == "required"
            and metadata.get("HttpPutResponseHopLimit") == 2
        ),
        "every disk must be encrypted and go away with its machine": bool(disks)
        and all(disk.get("Encrypted") and disk.get("DeleteOnTermination") for disk in disks),
        "NetworkInterfaces would override SubnetIds and SecurityGroupIds": (
            "NetworkInterfaces" not in given
        ),
    }
    return [problem for problem, is_met in wanted.items() if not is_met]


def _worker_problems(given: dict[str, Any]) -> list[str]:
    return _guard_problems(given, "dead-man switch", "oneshui-deadman", "cluster/deadman.sh")


def _head_problems(given: dict[str, Any]) -> list[str]:
    return _guard_problems(given, "guard", "oneshui-idle-head", "cluster/idle_head.sh")


def _guard_problems(given: dict[str, Any], what: str, mark: str, script: str) -> list[str]:
    found = []
    if given.get("InstanceInitiatedShutdownBehavior") != "terminate":
        found.append(
            f"InstanceInitiatedShutdownBehavior is not terminate: the {what} would only stop the "
            "machine"
        )
    if mark not in str(given.get("UserData", "")):
        found.append(f"UserData installs no {what} ({script})")
    return found


def _group_problems(config: dict[str, Any]) -> list[str]:
    found = identity_problems(
        config, lambda given: given.get("IamInstanceProfile"), "IamInstanceProfile"
    )
    return found + spot_problems(
        config, lambda given: "InstanceMarketOptions" in given, "InstanceMarketOptions"
    )
