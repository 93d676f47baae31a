"""What the README's policies allow a head, a worker and a machine of SkyPilot's on AWS."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest
from support.cluster_files import FOLDER, filled, write_program

README = (FOLDER / "README.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"^```\w*\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
ACCOUNT = "123456789012"
EC2 = f"arn:aws:ec2:us-west-2:{ACCOUNT}"
AWS = """
printf '%s\\0' "$@" >>"$HOME/calls"; printf '\\n' >>"$HOME/calls"
case "$*" in *get-caller-identity*) echo 123456789012 ;; *) echo something ;; esac
"""


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Statements by role or user, as the commands hand them to AWS."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ssh").mkdir()
    for name in ("aws", "curl", "uv", "sky"):
        write_program(home / "bin", name, AWS if name == "aws" else "echo 192.0.2.1")
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    for mark in ("aws iam create-role", "aws iam create-user"):
        (commands,) = [text for text in BLOCKS if mark in text]
        subprocess.run(
            ["bash", "-euc", commands],
            env={"HOME": str(home), "PATH": path},
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
    found = {}
    for line in (home / "calls").read_text(encoding="utf-8").splitlines():
        words = line.split("\0")[:-1]
        if words[1] in ("put-role-policy", "put-user-policy"):
            given = dict(zip(words[2::2], words[3::2], strict=True))
            name = given.get("--role-name") or given["--user-name"]
            found[name] = json.loads(given["--policy-document"])["Statement"]
    return found


def allows(
    statements: list[Any], action: str, resource: str, context: Mapping[str, str] | None = None
) -> bool:
    """What IAM makes of statements that only allow, with conditions of the kind StringEquals."""
    for statement in statements:
        assert statement["Effect"] == "Allow"
        condition = statement.get("Condition", {"StringEquals": {}})
        assert set(condition) == {"StringEquals"}
        if (
            action in listed(statement["Action"])
            and any(fnmatchcase(resource, one) for one in listed(statement["Resource"]))
            and all(
                (context or {}).get(key) in listed(wanted)
                for key, wanted in condition["StringEquals"].items()
            )
        ):
            return True
    return False


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


WORKER = {
    "ec2:InstanceType": "g6.xlarge",
    "ec2:InstanceProfile": f"arn:aws:iam::{ACCOUNT}:instance-profile/oneshui-worker",
    "ec2:MetadataHttpTokens": "required",
    "aws:RequestTag/ray-cluster-name": "oneshui",
}
OTHERS = {
    "ec2:InstanceType": "p5.48xlarge",
    "ec2:InstanceProfile": f"arn:aws:iam::{ACCOUNT}:instance-profile/administrator",
    "ec2:MetadataHttpTokens": "optional",
    "aws:RequestTag/ray-cluster-name": "somebody-else",
}


def test_a_head_may_start_the_workers_of_the_file(policies: dict[str, Any]) -> None:
    kinds = filled("aws.yaml")["available_node_types"]
    given = kinds["gpu"]["node_config"]
    asked = WORKER | {
        "ec2:InstanceType": given["InstanceType"],
        "ec2:MetadataHttpTokens": given["MetadataOptions"]["HttpTokens"],
    }
    assert allows(policies["oneshui-head"], "ec2:RunInstances", f"{EC2}:instance/*", asked)
    others = ["subnet/subnet-1", "security-group/sg-1", "network-interface/*", "volume/*"]
    others += [f"key-pair/{given['KeyName']}", "spot-instances-request/*"]
    for resource in (*(f"{EC2}:{other}" for other in others), "arn:aws:ec2:us-west-2::image/ami-1"):
        assert allows(policies["oneshui-head"], "ec2:RunInstances", resource), resource


@pytest.mark.parametrize("key", OTHERS)
@pytest.mark.parametrize("is_said", [True, False])
def test_a_head_may_start_nothing_else(policies: dict[str, Any], key: str, is_said: bool) -> None:
    asked = {**WORKER, key: OTHERS[key]} if is_said else {k: WORKER[k] for k in WORKER if k != key}
    assert not allows(policies["oneshui-head"], "ec2:RunInstances", f"{EC2}:instance/*", asked)


@pytest.mark.parametrize("action", ["ec2:TerminateInstances", "ec2:CreateTags"])
def test_a_head_ends_and_tags_only_what_carries_our_tag(
    policies: dict[str, Any], action: str
) -> None:
    head, machine = policies["oneshui-head"], f"{EC2}:instance/i-1"
    assert allows(head, action, machine, {"aws:ResourceTag/ray-cluster-name": "oneshui"})
    assert not allows(head, action, machine, {"aws:ResourceTag/ray-cluster-name": "another"})
    assert not allows(head, action, machine)


def test_a_head_tags_what_it_starts_and_hands_on_the_workers_role(policies: dict[str, Any]) -> None:
    head = policies["oneshui-head"]
    started = {"ec2:CreateAction": "RunInstances"}
    assert allows(head, "ec2:CreateTags", f"{EC2}:instance/*", started)
    assert allows(head, "ec2:DescribeInstances", "*")
    role, service = f"arn:aws:iam::{ACCOUNT}:role", {"iam:PassedToService": "ec2.amazonaws.com"}
    assert allows(head, "iam:PassRole", f"{role}/oneshui-worker", service)
    assert not allows(head, "iam:PassRole", f"{role}/oneshui-head", service)
    assert not allows(head, "iam:PassRole", f"{role}/oneshui-worker")


def test_a_worker_may_do_nothing_with_machines(policies: dict[str, Any]) -> None:
    actions = {one for each in policies["oneshui-worker"] for one in listed(each["Action"])}
    assert actions
    assert all(action.startswith("s3:") for action in actions)


@pytest.mark.parametrize("who", ["oneshui-head", "oneshui-worker", "oneshui-bucket"])
def test_nobody_deletes_or_changes_a_dataset(policies: dict[str, Any], who: str) -> None:
    bucket = "arn:aws:s3:::my-oneshui"
    face, result = f"{bucket}/data/celeba/1.jpg", f"{bucket}/store/train/key/result.json"
    assert allows(policies[who], "s3:ListBucket", bucket)
    for action in ("s3:DeleteObject", "s3:PutObject"):
        assert not allows(policies[who], action, face)
        assert allows(policies[who], action, result)
        assert allows(policies[who], action, f"{bucket}/store-results/full/report/index.html")
    for thing in (face, result):
        assert allows(policies[who], "s3:GetObject", thing)
        assert not allows(policies[who], "s3:GetObject", thing.replace("my-oneshui", "another"))
    if who != "oneshui-bucket":
        assert allows(policies[who], "s3:PutObject", f"{bucket}/mlflow/1/artifact")
