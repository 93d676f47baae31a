"""``python -m cluster.orphans aws REGION [BUCKET]``: what is left on AWS and costs money.

Lists machines, disks, addresses and file systems that belong to oneshui, and whether the bucket is
there, each with the command that ends it. Only reads. Exit status 0: nothing is left; 1: each thing
on its line; 2: the account does not answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
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


def main(arguments: Sequence[str]) -> int:
    """Print what is left; returns the exit status."""
    if len(arguments) not in (2, 3) or arguments[0] != "aws":
        print(__doc__)
        return 2
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = list(left(lambda name: boto3.client(name, arguments[1]), *arguments[2:]))
    except (BotoCoreError, ClientError) as error:
        print(f"the account does not answer: {error}", file=sys.stderr)
        return 2
    for line in found:
        print(line)
    if not found:
        print(f"nothing is left in {arguments[1]}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
