"""README.md's commands for AWS, from an empty account to an empty account, on loopback.

The real ``aws`` and the real ``ray up`` and ``ray down``. Not walked is what needs a machine that
runs: the job, and what is read of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from support.readme_walk import Laptop, Walk, blocks

pytestmark = pytest.mark.long
REGION = "us-west-2"
ACCOUNT = "123456789012"
"""The stand-in's."""
IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"


@pytest.fixture
def quotas() -> dict[str, float]:
    """VCPUs by code; what a test writes into it is what the account answers."""
    return {"L-3819A6DF": 32.0, "L-DB2E81BA": 8.0}


@pytest.fixture
def environment(
    address: str, quotas: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """An account in which nobody did anything, with what the stand-in lacks of AWS's own."""
    import urllib.request

    from moto.servicequotas.models import ServiceQuotasBackend
    from moto.ssm.models import Parameter, ssm_backends

    urllib.request.urlopen(f"{address}/moto-api/reset", data=b"", timeout=10).close()

    def quota(_: object, service_code: str, quota_code: str) -> dict[str, Any]:
        assert service_code == "ec2"
        return {"QuotaCode": quota_code, "Value": quotas[quota_code]}

    monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", quota)
    values = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    for name, value in {**values, "AWS_DEFAULT_REGION": REGION}.items():
        monkeypatch.setenv(name, value)
    make: Any = Parameter
    parameter = make(
        account_id=ACCOUNT,
        name=IMAGE,
        value=boto3.client("ec2", REGION).describe_images()["Images"][0]["ImageId"],
        parameter_type="String",
        description="",
        allowed_pattern=None,
        keyid=None,
        last_modified_date=0,
        version=1,
        data_type="text",
    )
    ssm_backends[ACCOUNT][REGION]._parameters[IMAGE].append(parameter)
    return values


def everything() -> dict[str, list[str]]:
    """What is in the account, by kind."""
    ec2, iam = boto3.client("ec2", REGION), boto3.client("iam", REGION)
    efs, s3 = boto3.client("efs", REGION), boto3.client("s3", REGION)
    machines = [
        machine
        for reservation in ec2.describe_instances()["Reservations"]
        for machine in reservation["Instances"]
        if machine["State"]["Name"] not in ("shutting-down", "terminated")
    ]
    systems = [one["FileSystemId"] for one in efs.describe_file_systems()["FileSystems"]]
    return {
        "machines": [one["InstanceId"] for one in machines],
        "disks": [one["VolumeId"] for one in ec2.describe_volumes()["Volumes"]],
        "addresses": [one["PublicIp"] for one in ec2.describe_addresses()["Addresses"]],
        "groups": [one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]],
        "keys": [one["KeyName"] for one in ec2.describe_key_pairs()["KeyPairs"]],
        "buckets": [one["Name"] for one in s3.list_buckets()["Buckets"]],
        "file systems": systems,
        # What AWS made for itself is the account's, and costs nothing.
        "roles": [
            one["RoleName"]
            for one in iam.list_roles()["Roles"]
            if not one["Path"].startswith("/aws-service-role/")
        ],
        "profiles": [
            one["InstanceProfileName"] for one in iam.list_instance_profiles()["InstanceProfiles"]
        ],
    }


def all_blocks() -> list[str]:
    return [*blocks("Secrets and ports"), *blocks("AWS")]


def verdicts(walk: Walk, name: str) -> list[tuple[int, str]]:
    return [(status, text) for each, status, text in walk.verdicts if each == f"cluster.{name}"]


@pytest.mark.timeout(900)
def test_from_an_empty_account_to_an_empty_account(
    environment: dict[str, str], tmp_path: Path
) -> None:
    before = everything()
    assert {kind for kind, found in before.items() if found} == {"groups"}
    laptop = Laptop(tmp_path)
    walk = laptop.walk(all_blocks(), environment)

    assert walk.failures == ()
    # The fresh account lacked one thing, in one sentence, with the command that the README has.
    ((status, told),) = verdicts(walk, "check")
    assert (status, told.splitlines()) == (
        1,
        [
            "cluster/aws.yaml: the role for spot machines is missing: aws iam "
            "create-service-linked-role --aws-service-name spot.amazonaws.com"
        ],
    )
    (first, left), (last, nothing) = verdicts(walk, "orphans")
    assert (first, last) == (1, 0)
    # The head is gone by then; what is left is what one may want to keep.
    assert [line.split()[0] for line in left.splitlines()] == ["file", "bucket"]
    assert nothing == f"nothing is left in {REGION}\n"
    notes = laptop.notes.read_text(encoding="utf-8")
    assert "job submit" in notes
    assert "ray start --head" in notes
    # Ray prints what it does before the address, where nobody looks on.
    assert re.search(r"^ssh -N .* ubuntu@[\d.]+$", notes, re.MULTILINE)
    assert everything() == before
    assert not (laptop.home / ".ssh" / "oneshui.pem").exists()


@pytest.mark.timeout(600)
def test_the_check_says_of_an_empty_account_what_is_missing_in_a_sentence_each(
    environment: dict[str, str], quotas: dict[str, float], tmp_path: Path
) -> None:
    quotas.update({"L-3819A6DF": 0.0, "L-DB2E81BA": 5.0})
    laptop = Laptop(tmp_path)
    token = blocks("Secrets and ports")
    # A file that was filled in for an account in which nothing was made.
    fill = [block for block in blocks("AWS") if "cluster.check" in block]
    values = [
        f"export AWS_DEFAULT_REGION={REGION} BUCKET=my-oneshui AMI=ami-0123456789abcdef0",
        "export SUBNETS=subnet-0123456789abcdef0 GROUP=sg-0123456789abcdef0",
        "mkdir -p ~/.ssh && touch ~/.ssh/oneshui.pem && chmod 600 ~/.ssh/oneshui.pem",
    ]
    walk = laptop.walk([*token, *values, *fill], environment)
    ((status, told),) = verdicts(walk, "check")
    assert status == 1
    said = [line.removeprefix("cluster/aws.yaml: ") for line in told.splitlines()]
    missing = [
        "key pair oneshui does not exist here: aws ec2 create-key-pair",
        "instance profile oneshui-{} does not exist: aws iam create-instance-profile",
        "a security group of ['sg-0123456789abcdef0'] does not exist here: aws ec2 create-",
        "image ami-0123456789abcdef0 does not exist in this region: take AMI anew",
        "a subnet of ['subnet-0123456789abcdef0'] does not exist here: take SUBNETS anew",
    ]
    expected = [
        "the role for spot machines is missing: aws iam create-service-linked-role",
        *(f"head: {line.format('head')}" for line in missing),
        *(f"gpu: {line.format('worker')}" for line in missing),
        "gpu: the quota of vCPUs spot is 0, 32 are needed: aws service-quotas request-service-",
        "gpu: the quota of vCPUs on demand is 5, 8 are needed: aws service-quotas request-service-",
        "bucket my-oneshui does not exist: aws s3 mb s3://my-oneshui",
    ]
    assert len(said) == len(expected), told
    for sentence, begins in zip(said, expected, strict=True):
        assert sentence.startswith(begins)
