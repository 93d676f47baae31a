"""A home with the files that launcher files name, and an AWS account on loopback."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REGION = "us-west-2"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".ray").mkdir()
    for name in (".ssh/oneshui.pem", ".ray/oneshui_token"):
        (folder / name).write_text("a secret of nobody's", encoding="utf-8")
        (folder / name).chmod(0o600)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(ROOT)
    return folder


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def account(address: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An account in which a person did what README.md says; its values for the blanks."""
    import boto3
    from ray.autoscaler._private.aws import utils

    assert home.is_dir()
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    ec2 = boto3.client("ec2", REGION)
    iam = boto3.client("iam", REGION)
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.create_security_group(
        GroupName="oneshui", Description="oneshui", VpcId=subnet["VpcId"]
    )["GroupId"]
    ec2.create_key_pair(KeyName="oneshui")
    profiles = ("oneshui-head", "oneshui-worker")
    for name in profiles:
        iam.create_instance_profile(InstanceProfileName=name)
    yield {
        "FILL_REGION": REGION,
        "FILL_AMI": ec2.describe_images()["Images"][0]["ImageId"],
        "FILL_SUBNET": subnet["SubnetId"],
        "FILL_SECURITY_GROUP": group,
    }

    urllib.request.urlopen(f"{address}/moto-api/reset", data=b"", timeout=10).close()
    utils.resource_cache.cache_clear()
    utils.client_cache.cache_clear()
