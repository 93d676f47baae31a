"""What ``cluster.orphans`` finds on AWS, by recorded answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from cluster.leftovers.aws import ALIVE, left
from cluster.orphans import main

MACHINE = {
    "InstanceId": "i-1",
    "InstanceType": "m7i.xlarge",
    "State": {"Name": "running"},
    "LaunchTime": datetime(2026, 11, 30, 12, 0),
}
FILE_SYSTEM = {
    "OwnerId": "1",
    "CreationToken": "t",
    "FileSystemId": "fs-1",
    "CreationTime": datetime(2026, 11, 30),
    "LifeCycleState": "available",
    "NumberOfMountTargets": 0,
    "SizeInBytes": {"Value": 3 * 2**30},
    "PerformanceMode": "generalPurpose",
    "Tags": [],
}


class Account:
    """Recorded answers; what is asked is checked by botocore and, where it matters, here."""

    def __init__(self, *, empty: bool, bucket_error: str = "404") -> None:
        keys = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
        self.clients = {n: boto3.client(n, "us-west-2", **keys) for n in ("ec2", "efs", "s3")}
        ec2, efs, s3 = (Stubber(self.clients[name]) for name in ("ec2", "efs", "s3"))
        filters = [
            {"Name": "tag:ray-cluster-name", "Values": ["oneshui"]},
            {"Name": "instance-state-name", "Values": ALIVE},
        ]
        pages: list[dict[str, Any]] = [{"Reservations": []}]
        if not empty:
            # The machine is on the second page.
            pages = [{"Reservations": [], "NextToken": "more"}]
            pages += [{"Reservations": [{"Instances": [MACHINE]}]}]
        for place, page in enumerate(pages):
            asked: dict[str, Any] = {"Filters": filters} | ({"NextToken": ANY} if place else {})
            ec2.add_response("describe_instances", page, asked)
        disks = [] if empty else [{"VolumeId": "vol-1", "Size": 200}]
        ec2.add_response("describe_volumes", {"Volumes": disks})
        used = {"PublicIp": "1.2.3.4", "AllocationId": "a-1", "AssociationId": "x"}
        unused = {"PublicIp": "1.2.3.5", "AllocationId": "a-2"}
        ec2.add_response("describe_addresses", {"Addresses": [used] if empty else [used, unused]})
        others = [{**FILE_SYSTEM, "Name": "somebody's"}]
        ours = [] if empty else [{**FILE_SYSTEM, "Name": "oneshui"}]
        efs.add_response("describe_file_systems", {"FileSystems": others + ours})
        if empty:
            s3.add_client_error("head_bucket", bucket_error)
        else:
            s3.add_response("head_bucket", {})
        for stub in (ec2, efs, s3):
            stub.activate()


def test_an_empty_account_has_nothing_left() -> None:
    assert list(left(Account(empty=True).clients.__getitem__, "b")) == []


def test_everything_that_costs_is_listed_with_the_command_that_ends_it() -> None:
    found = list(left(Account(empty=False).clients.__getitem__, "b"))
    assert [line.partition(",")[0].partition(" of")[0] for line in found] == [
        "machine i-1",
        "disk vol-1",
        "address 1.2.3.5",
        "file system fs-1",
        "bucket b",
    ]
    assert found[0].endswith("aws ec2 terminate-instances --instance-ids i-1")
    assert found[3].startswith("file system fs-1 of 3.0 GB: aws efs delete-file-system")
    assert found[4].endswith("aws s3 rb --force s3://b")


def test_the_command_never_takes_an_error_for_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Made before boto3 is replaced.
    empty, full = Account(empty=True), Account(empty=False)
    forbidden = Account(empty=True, bucket_error="403")

    def status(account: Account) -> int:
        monkeypatch.setattr(boto3, "client", lambda name, _region: account.clients[name])
        return main(["aws", "us-west-2", "b"])

    assert status(empty) == 0
    assert capsys.readouterr().out == "nothing is left in us-west-2\n"
    assert status(full) == 1
    assert "machine i-1" in capsys.readouterr().out
    assert status(forbidden) == 2
    said = capsys.readouterr()
    assert (said.out, "the account does not answer" in said.err) == ("", True)
    assert main([]) == 2
    assert main(["aws"]) == 2
    assert main(["azure", "west"]) == 2
