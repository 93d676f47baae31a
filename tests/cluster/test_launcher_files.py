"""aws.yaml and gcp.yaml: Ray takes them, the providers' APIs would, and every mistake is caught."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster_files import FILLED, FOLDER, filled

from cluster.check import main, problems
from cluster.checks import launcher
from cluster.checks.common import blanks, secret_problems
from sweeps.config import load
from sweeps.graph.launch import MachineType

pytestmark = pytest.mark.usefixtures("home")
Config = dict[str, Any]
FILES = ("aws.yaml", "gcp.yaml")


def node(config: Config, name: str = "gpu") -> Any:
    return config["available_node_types"][name]["node_config"]


def drop(key: str) -> Callable[[Config], None]:
    return lambda config: config.pop(key)


@pytest.mark.parametrize("name", FILES)
def test_a_filled_in_file_has_no_problem(name: str) -> None:
    assert launcher.problems(filled(name)) == []


@pytest.mark.parametrize("name", FILES)
def test_a_shipped_file_lacks_nothing_but_what_only_its_user_knows(name: str) -> None:
    found = problems(FOLDER / name)
    assert found
    assert all(problem.startswith("fill in FILL_") for problem in found)
    assert blanks(filled(name)) == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("most", [8, 20])
def test_one_number_says_how_many_machines_there_may_be(name: str, most: int, home: Path) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert len(re.findall(r"\b8\b(?!\d)", re.sub("(?m)#.*", "", text))) == 1
    changed = text.replace("max_workers: &most 8", f"max_workers: &most {most}")
    # As `ray up` leaves it on a head.
    (home / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(yaml.safe_load(changed)))
    machines = load([f"cluster={Path(name).stem}"]).cluster.machines
    assert machines == {"gpu": MachineType(cpus=4, gpus=1, memory_gb=10, most=most)}


def test_every_blank_of_the_files_is_explained_in_the_readme() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [blank for blank in FILLED if blank not in text] == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("kind", "script"), [("gpu", "deadman.sh"), ("head", "idle_head.sh")])
def test_machines_install_what_ends_them_word_for_word(name: str, kind: str, script: str) -> None:
    given, text = node(filled(name), kind), (FOLDER / script).read_text(encoding="utf-8")
    if name == "aws.yaml":
        assert given["UserData"] == text
    else:
        assert given["metadata"]["items"][-1]["value"] == text


@pytest.mark.parametrize("name", FILES)
def test_a_head_waits_for_its_first_sweep_as_long_as_for_the_next(name: str) -> None:
    cluster = load([f"cluster={Path(name).stem}", f"cluster.machines_file={FOLDER / name}"]).cluster
    script = (FOLDER / "idle_head.sh").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^minutes=(\d+)", script) == [str(cluster.head_idle_minutes)]


def test_neither_data_nor_history_is_ever_copied_to_a_machine() -> None:
    allowed = {
        "oneshui",
        "sweeps",
        "launch.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "cluster/mlflow.sh",
        "~/.ray/oneshui_token",
    }
    for name in FILES:
        assert set(filled(name)["file_mounts"].values()) == allowed


BOTH: dict[str, tuple[Callable[[Config], object], str]] = {
    "a typo in provider": (
        lambda c: c["provider"].update(regoin="x"),
        "provider.regoin is not a key that Ray reads",
    ),
    "stopped machines are kept": (
        lambda c: c["provider"].pop("cache_stopped_nodes"),
        "cache_stopped_nodes is not false",
    ),
    "a key that Ray does not know": (
        lambda c: c.update(max_worker=3),
        "Ray refuses the file: Additional properties are not allowed ('max_worker'",
    ),
    "a type's minimum above its maximum": (
        lambda c: c["available_node_types"]["gpu"].update(min_workers=3, max_workers=2),
        "autoscaler refuses the file: a type's min_workers is above",
    ),
    "a type's maximum above the cluster's": (
        lambda c: c.update(max_workers=4),
        "gpu: max_workers 8 is above the whole cluster's 4",
    ),
    "machines that never go away": (
        lambda c: c["available_node_types"]["gpu"].update(min_workers=1),
        "min_workers 1 keeps machines that nobody uses",
    ),
    "no setup commands": (drop("setup_commands"), "setup_commands is left out"),
    "no head setup commands": (drop("head_setup_commands"), "head_setup_commands is left out"),
    "no worker setup": (drop("worker_setup_commands"), "worker_setup_commands is left out"),
    "no head start": (drop("head_start_ray_commands"), "head_start_ray_commands is left out"),
    "no worker start": (drop("worker_start_ray_commands"), "worker_start_ray_commands is left out"),
    "no idle timeout": (drop("idle_timeout_minutes"), "idle_timeout_minutes is left out"),
    "a mount that does not exist": (
        lambda c: c["file_mounts"].update({"~/x": "no/such/folder"}),
        "no/such/folder (for ~/x) does not exist here",
    ),
    "no token on the machines": (
        lambda c: c["file_mounts"].pop("~/.ray/auth_token"),
        "nothing is copied to ~/.ray/auth_token",
    ),
    "a head that is open": (
        lambda c: c.update(head_start_ray_commands=["ray start --head --autoscaling-config=x"]),
        "head_start_ray_commands: RAY_AUTH_MODE=token is missing",
    ),
    "a worker that is open": (
        lambda c: c.update(worker_start_ray_commands=["ray start --address=$RAY_HEAD_IP:6379"]),
        "worker_start_ray_commands: RAY_AUTH_MODE=token is missing",
    ),
    "a worker that starts nothing": (
        lambda c: c.update(worker_start_ray_commands=["true"]),
        "worker_start_ray_commands starts no Ray",
    ),
    "a dashboard for everybody": (
        lambda c: c.update(
            head_start_ray_commands=[
                "RAY_AUTH_MODE=token ray start --autoscaling-config=x --dashboard-host=0.0.0.0"
            ]
        ),
        "mentions 0.0.0.0",
    ),
    "a dashboard where Ray puts it": (
        lambda c: c.update(
            head_start_ray_commands=["RAY_AUTH_MODE=token ray start --head --autoscaling-config=x"]
        ),
        "--dashboard-host=127.0.0.1 is missing",
    ),
    "metrics for everybody": (
        lambda c: c.update(
            head_start_ray_commands=["RAY_AUTH_MODE=token ray start --autoscaling-config=x"]
        ),
        "DASHBOARD_METRIC_PORT=-1 is missing",
    ),
    "a head that starts no worker": (
        lambda c: c.update(
            head_start_ray_commands=["RAY_AUTH_MODE=token ray start --dashboard-host=127.0.0.1"]
        ),
        "--autoscaling-config is missing",
    ),
    "jobs on the head": (
        lambda c: c["available_node_types"]["head"].update(resources={"CPU": 4}),
        "the head's resources are not {CPU: 0, GPU: 0}",
    ),
    "workers of the head's type": (
        lambda c: c["available_node_types"]["head"].update(max_workers=1),
        "the head's max_workers is not 0",
    ),
    "no mounts": (drop("file_mounts"), "file_mounts is left out"),
    "a maximum that is never reached": (
        lambda c: c["available_node_types"]["gpu"].update(max_workers=3),
        "gpu: max_workers 3 leaves the whole cluster's 8 unreached",
    ),
    "Ray's own way to buy": (
        lambda c: c["provider"].update(
            type="aws" if "Aws" in c["provider"].pop("module") else "gcp"
        ),
        "provider: where spot machines are refused, Ray asks for them again",
    ),
    "no word on what may be bought on demand": (
        lambda c: c["provider"].pop("on_demand_machines"),
        "provider.on_demand_machines must be 0 to max_workers, 8",
    ),
    "more on demand than there may be": (
        lambda c: c["provider"].update(on_demand_machines=9),
        "provider.on_demand_machines must be 0 to max_workers, 8",
    ),
}
AWS: dict[str, tuple[Callable[[Config], object], str]] = {
    "an unknown key": (
        lambda c: node(c).update(InstanceTyp="g6.xlarge"),
        'gpu: Unknown parameter in input: "InstanceTyp"',
    ),
    "a number for a text": (
        lambda c: node(c).update(KeyName=3),
        "gpu: Invalid type for parameter KeyName",
    ),
    "a machine that does not exist": (
        lambda c: node(c).update(InstanceType="g6.xxlarge"),
        "gpu: InstanceType: 'g6.xxlarge' is none of EC2's values",
    ),
    "a wrong word deep inside": (
        lambda c: node(c)["InstanceMarketOptions"]["SpotOptions"].update(SpotInstanceType="once"),
        "SpotInstanceType: 'once' is none of EC2's values",
    ),
    "a disk of an unknown kind": (
        lambda c: node(c)["BlockDeviceMappings"][0]["Ebs"].update(VolumeType="gp9"),
        "VolumeType: 'gp9' is none of EC2's values",
    ),
    "no image": (lambda c: node(c).pop("ImageId"), "gpu: ImageId is no image's id"),
    "Ray's own image": (
        lambda c: node(c, "head").update(ImageId="latest_dlami"),
        "head: ImageId is no image's id",
    ),
    "no key": (lambda c: node(c).pop("KeyName"), "gpu: KeyName is missing"),
    "no profile": (
        lambda c: node(c).pop("IamInstanceProfile"),
        "gpu: IamInstanceProfile is missing",
    ),
    "the head's profile for all": (
        lambda c: node(c).update(IamInstanceProfile={"Name": "oneshui-head"}),
        "workers have the head's IamInstanceProfile",
    ),
    "Ray's own security group": (
        lambda c: node(c, "head").pop("SecurityGroupIds"),
        "head: SecurityGroupIds is missing",
    ),
    "credentials for whoever asks": (
        lambda c: node(c)["MetadataOptions"].update(HttpTokens="optional"),
        "gpu: MetadataOptions must require tokens",
    ),
    "a hop limit that containers pass": (
        lambda c: node(c)["MetadataOptions"].update(HttpPutResponseHopLimit=5),
        "gpu: MetadataOptions must require tokens",
    ),
    "a disk that anybody reads": (
        lambda c: node(c)["BlockDeviceMappings"][0]["Ebs"].pop("Encrypted"),
        "every disk must be encrypted",
    ),
    "a switch that only stops": (
        lambda c: node(c).pop("InstanceInitiatedShutdownBehavior"),
        "InstanceInitiatedShutdownBehavior is not terminate",
    ),
    "no spot machine": (
        lambda c: node(c).pop("InstanceMarketOptions"),
        "gpu: asks for no spot machine",
    ),
    "no switch": (
        lambda c: node(c).pop("UserData"),
        "gpu: UserData installs no dead-man switch",
    ),
    "a head that is only stopped": (
        lambda c: node(c, "head").pop("InstanceInitiatedShutdownBehavior"),
        "head: InstanceInitiatedShutdownBehavior is not terminate: the guard would only stop",
    ),
    "a head that is forgotten": (
        lambda c: node(c, "head").pop("UserData"),
        "head: UserData installs no guard",
    ),
    "a network that overrides": (
        lambda c: node(c).update(NetworkInterfaces=[{"DeviceIndex": 0}]),
        "NetworkInterfaces would override",
    ),
}
GCP: dict[str, tuple[Callable[[Config], object], str]] = {
    "an unknown key": (
        lambda c: node(c).update(machinetype="g2-standard-4"),
        "gpu: Additional properties are not allowed ('machinetype'",
    ),
    "Ray's own way to say spot": (
        lambda c: node(c).update(scheduling=[{"preemptible": True}]),
        "gpu: scheduling: [{'preemptible': True}] is not of type 'object'",
    ),
    "a wrong word": (
        lambda c: node(c)["scheduling"].update(instanceTerminationAction="REMOVE"),
        "scheduling.instanceTerminationAction: 'REMOVE' is not one of",
    ),
    "an unknown key deep inside": (
        lambda c: node(c)["disks"][0]["initializeParams"].update(diskSize="3"),
        "disks.0.initializeParams: Additional properties are not allowed ('diskSize'",
    ),
    "an image that changes": (
        lambda c: node(c)["disks"][0]["initializeParams"].update(
            sourceImage="projects/x/global/images/family/common-gpu"
        ),
        "sourceImage must name an image",
    ),
    "a disk that stays": (
        lambda c: node(c)["disks"][0].pop("autoDelete"),
        "every disk must go away with its machine",
    ),
    "a disk that the machine refuses": (
        lambda c: node(c)["disks"][0]["initializeParams"].pop("diskType"),
        "gpu: diskType is no pd-balanced",
    ),
    "the default network": (
        lambda c: node(c).pop("networkInterfaces"),
        "networkInterfaces is missing",
    ),
    "Ray's own account": (
        lambda c: node(c, "head").pop("serviceAccounts"),
        "head: serviceAccounts is missing",
    ),
    "the head's account for all": (
        lambda c: node(c).update(serviceAccounts=node(c, "head")["serviceAccounts"]),
        "workers have the head's service account",
    ),
    "machines that are only stopped": (
        lambda c: node(c)["scheduling"].pop("maxRunDuration"),
        "scheduling must delete the machine",
    ),
    "a GPU that is to be moved": (
        lambda c: node(c)["scheduling"].update(onHostMaintenance="MIGRATE"),
        "onHostMaintenance must be TERMINATE",
    ),
    "no switch": (
        lambda c: node(c)["metadata"]["items"].pop(),
        "startup-script installs no dead-man switch",
    ),
    "a head that is forgotten": (
        lambda c: node(c, "head")["metadata"]["items"].pop(),
        "head: startup-script installs no guard",
    ),
    "the project's keys": (
        lambda c: node(c, "head")["metadata"]["items"].pop(0),
        "head: metadata must block the project's ssh keys",
    ),
    "no spot machine": (
        lambda c: node(c)["scheduling"].update(provisioningModel="STANDARD"),
        "gpu: asks for no spot machine",
    ),
    "no project": (lambda c: c["provider"].update(project_id=""), "project_id is missing"),
}
MISTAKES = [
    *(("aws.yaml", mistake, *rest) for mistake, rest in (BOTH | AWS).items()),
    *(("gcp.yaml", mistake, *rest) for mistake, rest in (BOTH | GCP).items()),
]


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [(name, change, complaint) for name, _, change, complaint in MISTAKES],
    ids=[f"{name}: {mistake}" for name, mistake, _, _ in MISTAKES],
)
def test_a_mistake_is_named(name: str, change: Callable[[Config], object], complaint: str) -> None:
    config = filled(name)
    change(config)
    found = launcher.problems(config)
    assert any(complaint in problem for problem in found), found


def test_a_token_that_others_can_read_is_named(home: Path) -> None:
    (home / ".ray/oneshui_token").chmod(0o644)
    assert launcher.problems(filled("aws.yaml")) == [
        "file_mounts: ~/.ray/oneshui_token can be read by others: chmod 600 ~/.ray/oneshui_token"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "key: AKIA" + "A1B2C3D4E5F6G7H8",
        "key: AIza" + "x" * 35,
        "HF: hf_" + "a1" * 12,
        "uri: http://me:hunter22@host/mlflow",
        "MLFLOW_TRACKING_PASSWORD=hunter2hunter2",
        "aws_secret_access_key: wJalrXUtnFEMI/K7MDENG",
    ],
)
def test_a_secret_in_a_file_is_named(line: str) -> None:
    assert len(secret_problems(f"cluster_name: x\n{line}\n")) == 1


def test_the_command_says_each_problem_on_its_line_and_ends_with_1(tmp_path: Path) -> None:
    broken = tmp_path / "aws.yaml"
    text = (FOLDER / "aws.yaml").read_text(encoding="utf-8")
    broken.write_text(text.replace("cache_stopped_nodes: false", "cache_stopped_nodes: true"))
    done = subprocess.run(
        [sys.executable, "-m", "cluster.check", str(broken)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "cache_stopped_nodes is not false" in done.stdout
    assert done.stderr == ""


def test_the_command_ends_with_2_where_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("a: 1\n", encoding="utf-8")
    assert main([str(other)]) == 2
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "neither a launcher file nor Kubernetes manifests" in capsys.readouterr().err
