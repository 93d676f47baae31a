"""What ``cluster.check --account`` says of an AWS account, by recorded answers of its APIs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.stub import Stubber
from support.cluster_files import FOLDER, filled

from cluster.accounts.aws import problems
from cluster.check import main

SERVICES = ("ec2", "iam", "s3", "service-quotas")
ZONES = ("us-west-2a", "us-west-2b")
REFUSALS = {
    "get_role": ("NoSuchEntity", "the role for spot machines is missing: aws iam create-service"),
    "describe_key_pairs": ("InvalidKeyPair.NotFound", "head: key pair oneshui does not exist"),
    "get_instance_profile": ("NoSuchEntity", "gpu: instance profile oneshui-worker does not exist"),
    "describe_security_groups": ("InvalidGroup.NotFound", "head: a security group of"),
    "describe_images": ("InvalidAMIID.NotFound", "does not exist in this region: take AMI anew"),
    "describe_subnets": ("InvalidSubnetID.NotFound", "head: a subnet of"),
    "head_bucket": ("404", "bucket a-bucket does not exist: aws s3 mb s3://a-bucket"),
}


class Account:
    """Recorded answers, in the order in which the check asks; each call is checked by botocore."""

    def __init__(
        self,
        *,
        refused: str = "",
        code: str = "",
        offered: tuple[str, ...] = ZONES,
        quotas: tuple[float, float] = (32.0, 8.0),
    ) -> None:
        keys = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
        self.clients = {name: boto3.client(name, "us-west-2", **keys) for name in SERVICES}
        self.stubs = {name: Stubber(client) for name, client in self.clients.items()}
        self.refused, self.code = refused, code
        self.add("iam", "get_role", {"Role": role("AWSServiceRoleForEC2Spot")})
        for node, profile in (("head", "oneshui-head"), ("gpu", "oneshui-worker")):
            self.add("ec2", "describe_key_pairs", {"KeyPairs": [{"KeyName": "oneshui"}]})
            self.add("iam", "get_instance_profile", {"InstanceProfile": instance_profile(profile)})
            self.add("ec2", "describe_security_groups", {"SecurityGroups": []})
            self.add("ec2", "describe_images", {"Images": [{"ImageId": "ami-1"}]})
            zones = [{"Location": zone} for zone in (offered if node == "gpu" else ZONES)]
            self.add("ec2", "describe_instance_type_offerings", {"InstanceTypeOfferings": zones})
            subnet = {"SubnetId": "subnet-1", "AvailabilityZone": ZONES[0]}
            self.add("ec2", "describe_subnets", {"Subnets": [subnet]})
            if node == "gpu":
                described = [{"VCpuInfo": {"DefaultVCpus": 4}}]
                self.add("ec2", "describe_instance_types", {"InstanceTypes": described})
                for value in quotas:
                    self.add("service-quotas", "get_service_quota", {"Quota": {"Value": value}})
        self.add("s3", "head_bucket", {})
        for stub in self.stubs.values():
            stub.activate()

    def add(self, service: str, call: str, answer: dict[str, Any]) -> None:
        if call == self.refused:
            self.stubs[service].add_client_error(call, self.code, "says the record")
        else:
            self.stubs[service].add_response(call, answer)

    def problems(self, config: dict[str, Any] | None = None) -> list[str]:
        return list(problems(config or filled("aws.yaml"), self.clients.__getitem__))


def role(name: str) -> dict[str, Any]:
    return {
        "Path": "/",
        "RoleName": name,
        "RoleId": "A" * 20,
        "Arn": f"arn:aws:iam::123456789012:role/{name}",
        "CreateDate": "2026-11-30",
    }


def instance_profile(name: str) -> dict[str, Any]:
    return {
        "Path": "/",
        "InstanceProfileName": name,
        "InstanceProfileId": "A" * 20,
        "Arn": f"arn:aws:iam::123456789012:instance-profile/{name}",
        "CreateDate": "2026-11-30",
        "Roles": [role(name)],
    }


def test_an_account_that_has_everything_lacks_nothing() -> None:
    account = Account(offered=ZONES[:1])
    assert account.problems() == []
    for stub in account.stubs.values():
        stub.assert_no_pending_responses()


@pytest.mark.parametrize("call", REFUSALS)
def test_what_is_missing_is_named_with_the_command_that_makes_it(call: str) -> None:
    code, says = REFUSALS[call]
    found = Account(refused=call, code=code, offered=ZONES[:1]).problems()
    assert any(says in problem for problem in found), found
    assert len(found) <= 2


def test_quotas_of_a_fresh_account_are_named_with_the_request() -> None:
    found = Account(quotas=(0.0, 0.0), offered=ZONES[:1]).problems()
    assert found == [
        "gpu: the quota of vCPUs spot is 0, 32 are needed: aws service-quotas "
        "request-service-quota-increase --service-code ec2 --quota-code L-3819A6DF "
        "--desired-value 32",
        "gpu: the quota of vCPUs on demand is 0, 8 are needed: aws service-quotas "
        "request-service-quota-increase --service-code ec2 --quota-code L-DB2E81BA "
        "--desired-value 8",
    ]


@pytest.mark.parametrize(
    ("offered", "says"),
    [
        (ZONES, "gpu: g6.xlarge is also in us-west-2b: add a subnet there"),
        (ZONES[1:], "gpu: none of SubnetIds is in a zone that has g6.xlarge; take subnets of"),
        ((), "gpu: g6.xlarge is not to be had in this region"),
    ],
)
def test_subnets_are_where_the_machines_are(offered: tuple[str, ...], says: str) -> None:
    (problem,) = Account(offered=offered).problems()
    assert problem.startswith(says)


def test_a_right_that_is_missing_is_no_missing_thing() -> None:
    found = Account(refused="head_bucket", code="AccessDenied", offered=ZONES[:1]).problems()
    assert found == [
        "AccessDenied: says the record; so not known is whether bucket a-bucket does not exist: "
        "aws s3 mb s3://a-bucket"
    ]


@pytest.fixture
def file(home: Path, tmp_path: Path) -> Path:
    assert home.is_dir()
    path = tmp_path / "aws.yaml"
    path.write_text(yaml.safe_dump(filled("aws.yaml"), sort_keys=False))
    return path


def test_the_command_asks_the_account_only_when_told_to(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    account = Account(quotas=(0.0, 8.0), offered=ZONES[:1])
    monkeypatch.setattr(boto3, "client", lambda name, _region: account.clients[name])
    assert main([str(file)]) == 0
    assert main(["--account", str(file)]) == 1
    assert "the quota of vCPUs spot is 0" in capsys.readouterr().out


def test_an_account_that_does_not_answer_is_one_sentence(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert main(["--account", str(file)]) == 2
    assert "aws.yaml: the account does not answer: " in capsys.readouterr().err
    assert main(["--account", str(FOLDER / "Dockerfile")]) == 2
    assert "--account knows launcher files for AWS and Google" in capsys.readouterr().err
