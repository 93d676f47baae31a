"""What aws.yaml needs of an AWS account: rights, quotas and things that must exist.

Every call reads. The codes of quotas are those of the Service Quotas console.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

QUOTAS = {
    "g": {"spot": "L-3819A6DF", "on demand": "L-DB2E81BA"},
    "p": {"spot": "L-7212CCBC", "on demand": "L-417A185B"},
}
"""vCPUs of running machines, by the first letter of the machine type and how it is bought."""

SPOT_ROLE = "AWSServiceRoleForEC2Spot"
Client = Callable[[str], Any]


def problems(config: dict[str, Any], client: Client) -> Iterator[str]:
    """What would keep machines from coming, one sentence each with its remedy.

    Args:
        config: A filled-in launcher file.
        client: boto3's client of a service in the file's region.
    """
    types = config["available_node_types"]
    head = config["head_node_type"]
    ec2, iam = client("ec2"), client("iam")
    yield from _spot_role(iam)
    for name, node in types.items():
        given = node["node_config"]
        yield from _things(name, given, ec2, iam)
        yield from _zones(name, given, ec2, is_head=name == head)
        if name != head:
            yield from _quotas(name, given, config, client)
    yield from _buckets(config, client("s3"))


def _asked(call: Callable[[], Any], problem: str) -> Iterator[str]:
    """The problem if a read finds nothing; what else EC2 answered where it is something else."""
    from botocore.exceptions import ClientError

    try:
        call()
    except ClientError as error:
        told = error.response["Error"]
        if re.search(r"NotFound|NoSuch|Malformed|^404$", told["Code"]):
            yield problem
        else:
            yield f"{told['Code']}: {told['Message']}; so not known is whether {problem}"


def _spot_role(iam: Any) -> Iterator[str]:
    yield from _asked(
        lambda: iam.get_role(RoleName=SPOT_ROLE),
        "the role for spot machines is missing: aws iam create-service-linked-role "
        "--aws-service-name spot.amazonaws.com",
    )


def _things(name: str, given: dict[str, Any], ec2: Any, iam: Any) -> Iterator[str]:
    key, profile = given["KeyName"], given["IamInstanceProfile"]["Name"]
    yield from _asked(
        lambda: ec2.describe_key_pairs(KeyNames=[key]),
        f"{name}: key pair {key} does not exist here: aws ec2 create-key-pair (README)",
    )
    yield from _asked(
        lambda: iam.get_instance_profile(InstanceProfileName=profile),
        f"{name}: instance profile {profile} does not exist: aws iam create-instance-profile "
        "(README)",
    )
    yield from _asked(
        lambda: ec2.describe_security_groups(GroupIds=given["SecurityGroupIds"]),
        f"{name}: a security group of {given['SecurityGroupIds']} does not exist here: aws ec2 "
        "create-security-group (README)",
    )
    image = given["ImageId"]
    yield from _asked(
        lambda: ec2.describe_images(ImageIds=[image])["Images"][0],
        f"{name}: image {image} does not exist in this region: take AMI anew (README)",
    )


def _zones(name: str, given: dict[str, Any], ec2: Any, *, is_head: bool) -> Iterator[str]:
    """Whether there is a subnet in every zone that has the machine type; for the head, in one."""
    kind = given["InstanceType"]
    offered = ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [kind]}]
    )["InstanceTypeOfferings"]
    zones = {one["Location"] for one in offered}
    ids = given["SubnetIds"]
    found: list[Any] = []
    missing = f"{name}: a subnet of {ids} does not exist here: take SUBNETS anew (README)"
    failed = list(
        _asked(lambda: found.extend(ec2.describe_subnets(SubnetIds=ids)["Subnets"]), missing)
    )
    yield from failed
    if failed:
        return
    there = {subnet["AvailabilityZone"] for subnet in found}
    if not zones:
        yield f"{name}: {kind} is not to be had in this region: take another region or type"
    elif not zones & there:
        yield (
            f"{name}: none of SubnetIds is in a zone that has {kind}; take subnets of "
            f"{', '.join(sorted(zones))}"
        )
    elif zones - there and not is_head:
        yield (
            f"{name}: {kind} is also in {', '.join(sorted(zones - there))}: add a subnet there to "
            "SubnetIds, or a shortage of one zone stops the sweep"
        )


def _quotas(
    name: str, given: dict[str, Any], config: dict[str, Any], client: Client
) -> Iterator[str]:
    kind = given["InstanceType"]
    codes = QUOTAS.get(kind[0])
    if codes is None:
        return
    (described,) = client("ec2").describe_instance_types(InstanceTypes=[kind])["InstanceTypes"]
    each = described["VCpuInfo"]["DefaultVCpus"]
    wanted = {
        "spot": each * config["max_workers"],
        "on demand": each * config["provider"]["on_demand_machines"],
    }
    for how, code in codes.items():
        has = client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)
        value = has["Quota"]["Value"]
        if value < wanted[how]:
            yield (
                f"{name}: the quota of vCPUs {how} is {value:g}, {wanted[how]} are needed: aws "
                "service-quotas request-service-quota-increase --service-code ec2 --quota-code "
                f"{code} --desired-value {wanted[how]}"
            )


def _buckets(config: dict[str, Any], s3: Any) -> Iterator[str]:
    text = " ".join(config.get("head_setup_commands", []))
    for bucket in sorted(set(re.findall(r"s3://([a-z0-9.-]+)", text))):
        yield from _asked(
            lambda name=bucket: s3.head_bucket(Bucket=name),  # type: ignore[misc]
            f"bucket {bucket} does not exist: aws s3 mb s3://{bucket}",
        )
