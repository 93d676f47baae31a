"""What is left on AWS: machines, disks, addresses, file systems, the bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

CLUSTER = {"Name": "tag:ray-cluster-name", "Values": ["oneshui"]}
ALIVE = ["pending", "running", "stopping", "stopped"]
Client = Callable[[str], Any]


def left(client: Client, bucket: str = "") -> Iterator[str]:
    """What is left, a line each.

    Args:
        client: boto3's client of a service in the region that is looked at.
        bucket: Name of the store's bucket; "" looks for none.
    """
    ec2 = client("ec2")
    ids = set()
    states = {"Name": "instance-state-name", "Values": ALIVE}
    for page in ec2.get_paginator("describe_instances").paginate(Filters=[CLUSTER, states]):
        for machine in (one for found in page["Reservations"] for one in found["Instances"]):
            ids.add(machine["InstanceId"])
            yield (
                f"machine {machine['InstanceId']}, {machine['InstanceType']}, "
                f"{machine['State']['Name']} since {machine['LaunchTime']:%Y-%m-%d %H:%M}: aws ec2 "
                f"terminate-instances --instance-ids {machine['InstanceId']}"
            )
    # Ray tags machines alone, and a disk that is not deleted with its machine is attached to none.
    for page in ec2.get_paginator("describe_volumes").paginate(
        Filters=[{"Name": "status", "Values": ["available"]}]
    ):
        for disk in page["Volumes"]:
            yield (
                f"disk {disk['VolumeId']} of {disk['Size']} GB, attached to nothing, perhaps not "
                f"oneshui's: aws ec2 delete-volume --volume-id {disk['VolumeId']}"
            )
    for address in ec2.describe_addresses()["Addresses"]:
        if "AssociationId" not in address:
            yield (
                f"address {address['PublicIp']}, used by nothing, perhaps not oneshui's: aws ec2 "
                f"release-address --allocation-id {address['AllocationId']}"
            )
    for page in client("efs").get_paginator("describe_file_systems").paginate():
        for system in page["FileSystems"]:
            if system.get("Name") == "oneshui":
                gigabytes = system["SizeInBytes"]["Value"] / 2**30
                yield (
                    f"file system {system['FileSystemId']} of {gigabytes:.1f} GB: aws efs "
                    f"delete-file-system --file-system-id {system['FileSystemId']}"
                )
    if bucket:
        yield from _bucket(client("s3"), bucket)


def _bucket(s3: Any, name: str) -> Iterator[str]:
    from botocore.exceptions import ClientError

    try:
        s3.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        return
    yield f"bucket {name}, with results and datasets: aws s3 rb --force s3://{name}"
