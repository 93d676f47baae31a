"""What ``cluster.check --account`` says of a Google Cloud project, by recorded answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster_files import filled
from support.google_answers import DISABLED, Recorded

from cluster.accounts import google
from cluster.accounts.gcp import problems
from cluster.check import main

ZONE = "us-west1-a"
SUBNET = "projects/a-project/regions/us-west1/subnetworks/oneshui"
HEAD = "oneshui-head@a-project.iam.gserviceaccount.com"
WORKER = "oneshui-worker@a-project.iam.gserviceaccount.com"
NETWORK = "https://www.googleapis.com/compute/v1/projects/a-project/global/networks/oneshui"
INSIDE = {
    "name": "oneshui-inside",
    "network": NETWORK,
    "direction": "INGRESS",
    "allowed": [{"IPProtocol": "all"}],
    "sourceTags": ["oneshui"],
    "targetTags": ["oneshui"],
}
SSH = {
    "name": "oneshui-ssh",
    "network": NETWORK,
    "direction": "INGRESS",
    "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
    "sourceRanges": ["192.0.2.1/32"],
    "targetTags": ["oneshui"],
}
EVERYWHERE = {"CPUS_ALL_REGIONS": 36.0, "GPUS_ALL_REGIONS": 8.0}
HERE = {
    "PREEMPTIBLE_NVIDIA_L4_GPUS": 8.0,
    "NVIDIA_L4_GPUS": 2.0,
    "SSD_TOTAL_GB": 1800.0,
    "IN_USE_ADDRESSES": 9.0,
}


def quotas(limits: dict[str, float]) -> list[dict[str, Any]]:
    return [{"metric": name, "limit": limit, "usage": 0.0} for name, limit in limits.items()]


def policy(*members: str) -> dict[str, Any]:
    named = [f"serviceAccount:{member}" for member in members]
    return {"bindings": [{"role": "roles/a", "members": named}], "etag": "BwY"}


def answers(**changed: Any) -> dict[str, Any]:
    """A project in which everything is as README.md says; a value of None is not there.

    Keys of ``changed`` are parts of addresses.
    """
    there: dict[str, Any] = {
        f"{ZONE}/machineTypes/e2-standard-4": {"name": "e2-standard-4", "guestCpus": 4},
        f"{ZONE}/machineTypes/g2-standard-4": {
            "name": "g2-standard-4",
            "guestCpus": 4,
            "accelerators": [
                {"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1},
            ],
        },
        f"{ZONE}/diskTypes/pd-balanced": {"name": "pd-balanced"},
        "deeplearning-platform-release/global/images/an-image-v20261101": {
            "name": "an-image-v20261101"
        },
        "regions/us-west1/subnetworks/oneshui": {"name": "oneshui", "network": NETWORK},
        "a-project/global/firewalls": [{"items": [INSIDE]}, {"items": [SSH]}],
        "compute/v1/projects/a-project": {"quotas": quotas(EVERYWHERE)},
        "a-project/regions/us-west1": {"quotas": quotas(HERE)},
        f"serviceAccounts/{HEAD}": {"email": HEAD},
        f"serviceAccounts/{WORKER}": {"email": WORKER},
        f"serviceAccounts/{WORKER}:getIamPolicy": policy(HEAD),
        "projects/a-project:getIamPolicy": policy(HEAD, "somebody@example.org"),
        "storage/v1/b/a-bucket": {"name": "a-bucket"},
        "storage/v1/b/a-bucket/iam": policy(HEAD, WORKER),
    }
    for part, value in changed.items():
        (name,) = [name for name in there if name.endswith(part)]
        there[name] = value
    return {name: value for name, value in there.items() if value is not None}


def config() -> dict[str, Any]:
    return filled("gcp.yaml", FILL_REGION="us-west1", FILL_SUBNET=SUBNET)


def found(**changed: Any) -> list[str]:
    return list(problems(config(), Recorded(answers(**changed))))


def test_a_project_that_has_everything_lacks_nothing() -> None:
    recorded = Recorded(answers())
    assert list(problems(config(), recorded)) == []
    # Each recorded answer was asked for: none stands there for nothing.
    assert all(any(path.endswith(end) for path in recorded.asked) for end in recorded.answers)


@pytest.mark.parametrize(
    ("gone", "says", "remedy"),
    [
        ("machineTypes/g2-standard-4", "gpu: g2-standard-4 is not to be had in us-west1-a", "zone"),
        ("diskTypes/pd-balanced", "head: disks of type pd-balanced are not to be", "disk-types"),
        ("an-image-v20261101", "head: image an-image-v20261101 of deep", "take IMAGE anew"),
        ("subnetworks/oneshui", "subnetwork oneshui does not exist in us-west1", "subnets create"),
        ("regions/us-west1", "region us-west1 does not exist", "regions list"),
        (
            f"serviceAccounts/{HEAD}",
            f"service account {HEAD} does not",
            "accounts create oneshui-h",
        ),
        ("b/a-bucket", "bucket a-bucket does not exist", "buckets create gs://a-bucket"),
    ],
)
def test_what_is_missing_is_named_with_what_mends_it(gone: str, says: str, remedy: str) -> None:
    told = found(**{gone: None})
    assert 1 <= len(told) <= 2
    assert all(problem.partition(": ")[2] for problem in told)
    assert told[0].startswith(says)
    assert remedy.lower() in told[0].lower()


def test_quotas_of_a_fresh_project_are_named_with_the_request() -> None:
    fresh = {"CPUS_ALL_REGIONS": 12.0, "GPUS_ALL_REGIONS": 0.0}
    here = {"PREEMPTIBLE_NVIDIA_L4_GPUS": 0.0, "NVIDIA_L4_GPUS": 1.0, "SSD_TOTAL_GB": 500.0}
    told = found(
        **{
            "v1/projects/a-project": {"quotas": quotas(fresh)},
            "regions/us-west1": {"quotas": quotas(here)},
        }
    )
    ask = "gcloud beta quotas preferences create --service=compute.googleapis.com"
    ask += " --project=a-project --quota-id="
    where = " --dimensions=region=us-west1"
    assert told == [
        "the quota CPUS_ALL_REGIONS of all regions together is 12, 36 are needed: "
        f"{ask}CPUS-ALL-REGIONS-per-project --preferred-value=36",
        "the quota GPUS_ALL_REGIONS of all regions together is 0, 8 are needed: "
        f"{ask}GPUS-ALL-REGIONS-per-project --preferred-value=8",
        "the quota SSD_TOTAL_GB in us-west1 is 500, 1800 are needed: "
        f"{ask}SSD-TOTAL-GB-per-project-region --preferred-value=1800{where}",
        "the quota IN_USE_ADDRESSES in us-west1 is not told, 9 are needed: "
        f"{ask}IN-USE-ADDRESSES-per-project-region --preferred-value=9{where}",
        "the quota PREEMPTIBLE_NVIDIA_L4_GPUS in us-west1 is 0, 8 are needed: "
        f"{ask}PREEMPTIBLE-NVIDIA-L4-GPUS-per-project-region --preferred-value=8{where}",
        "the quota NVIDIA_L4_GPUS in us-west1 is 1, 2 are needed: "
        f"{ask}NVIDIA-L4-GPUS-per-project-region --preferred-value=2{where}",
    ]


def test_gpus_that_are_added_to_a_machine_are_looked_for_and_counted() -> None:
    wanted = config()
    given = wanted["available_node_types"]["gpu"]["node_config"]
    given["machineType"] = "e2-standard-4"
    t4 = f"projects/a-project/zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4"
    given["guestAccelerators"] = [{"acceleratorType": t4, "acceleratorCount": 2}]
    there = answers(**{"v1/projects/a-project": {"quotas": quotas(EVERYWHERE)}})
    told = list(problems(wanted, Recorded(there)))
    assert told[0].startswith(f"gpu: nvidia-tesla-t4 is not to be had in {ZONE}: take another ZONE")
    assert "GPUS_ALL_REGIONS of all regions together is 8, 16 are needed" in told[1]
    assert "PREEMPTIBLE_NVIDIA_T4_GPUS in us-west1 is not told, 16 are needed" in told[2]
    assert "NVIDIA_T4_GPUS in us-west1 is not told, 4 are needed" in told[3]


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([SSH], "no rule of network oneshui lets machines tagged oneshui reach each other"),
        ([INSIDE], "no rule of network oneshui opens port 22 of machines tagged oneshui"),
        ([INSIDE, {**SSH, "disabled": True}], "no rule of network oneshui opens port 22"),
        ([INSIDE, {**SSH, "targetTags": ["another"]}], "no rule of network oneshui opens port 22"),
        ([INSIDE, {**SSH, "network": f"{NETWORK}2"}], "no rule of network oneshui opens port 22"),
        (
            [
                INSIDE,
                {**SSH, "sourceRanges": ["0.0.0.0/0"], "allowed": [{"IPProtocol": "all"}]},
            ],
            "rule oneshui-ssh opens port 22 to the world: gcloud compute firewall-rules update",
        ),
        (
            [INSIDE, {**SSH, "allowed": [{"IPProtocol": "tcp", "ports": ["80", "1000-2000"]}]}],
            "no rule of network oneshui opens port 22",
        ),
    ],
)
def test_rules_of_the_network_are_those_of_the_tag(rules: list[Any], says: str) -> None:
    (problem,) = found(**{"global/firewalls": {"items": rules}})
    assert problem.startswith(says)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"a-project:getIamPolicy": policy("another@example.org")},
            f"{HEAD} has no role in a-project, so it cannot start machines: gcloud projects",
        ),
        (
            {f"{WORKER}:getIamPolicy": {"etag": "BwY"}},
            f"{HEAD} may not give machines the account {WORKER}: gcloud iam service-accounts add",
        ),
        (
            {"a-bucket/iam": policy(HEAD)},
            f"{WORKER} may not use bucket a-bucket: gcloud storage buckets add-iam-policy-binding",
        ),
        (
            {f"serviceAccounts/{WORKER}": {"email": WORKER, "disabled": True}},
            f"service account {WORKER} is disabled: gcloud iam service-accounts enable {WORKER}",
        ),
        (
            {
                "an-image-v20261101": {
                    "name": "an-image-v20261101",
                    "deprecated": {"state": "OBSOLETE"},
                }
            },
            "head: image an-image-v20261101 of deeplearning-platform-release is no longer given",
        ),
    ],
)
def test_rights_and_states_are_looked_at(changed: dict[str, Any], says: str) -> None:
    assert found(**changed)[0].startswith(says)


def test_a_right_that_is_missing_is_no_missing_thing() -> None:
    (problem,) = found(**{"b/a-bucket": {"code": 403, "message": "you lack storage.buckets.get"}})
    assert problem.startswith(
        "403: you lack storage.buckets.get; so not known is whether bucket a-bucket does not exist"
    )


def test_an_api_that_is_off_is_named_with_the_command_that_turns_it_on() -> None:
    (problem, *_) = found(**{"machineTypes/e2-standard-4": DISABLED})
    assert problem.startswith(
        "compute.googleapis.com is off: gcloud services enable compute.googleapis.com; so not known"
    )


@pytest.fixture
def file(home: Path, tmp_path: Path) -> Path:
    assert home.is_dir()
    path = tmp_path / "gcp.yaml"
    path.write_text(yaml.safe_dump(config(), sort_keys=False))
    return path


def test_the_command_asks_the_account_only_when_told_to(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = Recorded(answers(**{"b/a-bucket": None}))
    monkeypatch.setattr(google, "clients", lambda: lacking)
    assert main([str(file)]) == 0
    assert lacking.asked == []
    assert main(["--account", str(file)]) == 1
    assert "gcp.yaml: bucket a-bucket does not exist" in capsys.readouterr().out
    refusing = Recorded(answers(**{"global/firewalls": DISABLED}))
    monkeypatch.setattr(google, "clients", lambda: refusing)
    assert main(["--account", str(file)]) == 2
    assert "does not answer: compute.googleapis.com is off: gcloud" in capsys.readouterr().err


def test_a_machine_without_credentials_is_one_sentence(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(file.parent / "nothing"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    assert main(["--account", str(file)]) == 2
    said = capsys.readouterr().err
    assert "gcp.yaml: the account does not answer: no credentials on this machine: gcloud" in said
    assert len(said.splitlines()) == 1
