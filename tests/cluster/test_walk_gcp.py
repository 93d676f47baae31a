"""README.md's commands for Google Cloud, from an empty project to an empty project.

There is no loopback of Google's APIs, so no machine comes here: the shell runs what the README
says, ``gcloud`` notes its calls, and they are held against each other (what is made is ended, in an
order that Google takes), against gcp.yaml, and, where there is a real ``gcloud``, against its own
commands and flags.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from support.readme_walk import Laptop, Walk, blocks

pytestmark = pytest.mark.long
IMAGE = "common-cu129-ubuntu-2204-nvidia-580-v20261101"
MADE_BY_RAY = ("iam service-accounts", "ray-autoscaler-sa-v1")
"""What ``ray up`` makes by itself; it does not run here."""


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Laptop, Walk]:
    laptop = Laptop(tmp_path_factory.mktemp("walk"))
    environment = {
        "IMAGE": IMAGE,
        "NO_GCE_CHECK": "true",
        "CLOUDSDK_CONFIG": str(laptop.home / "gcloud"),
        "GOOGLE_APPLICATION_CREDENTIALS": "",
    }
    commands = [*blocks("Secrets and ports"), *blocks("Google Cloud")]
    return laptop, laptop.walk(commands, environment)


@dataclass
class Project:
    """What is in a project, as far as calls of ``gcloud`` tell.

    Attributes:
        things: By kind and name, the words after the name.
    """

    things: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def call(self, words: list[str]) -> None:
        """Make or end something; raises AssertionError where Google would refuse."""
        named = [word for word in words if not word.startswith("--")]
        flags = [word for word in words if word.startswith("--") and word != "--quiet"]
        if words[:3] == ["storage", "rm", "--recursive"]:
            del self.things["storage buckets", words[3]]
        elif "create" in named:
            kind, (name,) = self._split(named, "create")
            assert (kind, name) not in self.things
            self._require(flags)
            self.things[kind, name] = flags
        elif "delete" in named:
            kind, names = self._split(named, "delete")
            assert "--quiet" in words, "it would ask, and nobody looks on"
            for name in names:
                self._end(kind, name.partition("@")[0])
        elif words[0] == "projects":
            (binding,) = (word for word in named[1:2])
            # Removed is a binding with all its conditions.
            whose = [flag for flag in flags if flag.startswith(("--member=", "--role="))]
            key = ("binding", " ".join([named[2], *sorted(whose)]))
            if binding == "add-iam-policy-binding":
                self.things[key] = []
            else:
                assert binding == "remove-iam-policy-binding"
                assert "--all" in flags
                del self.things[key]

    def _split(self, named: list[str], verb: str) -> tuple[str, list[str]]:
        at = named.index(verb)
        return " ".join(named[:at]), named[at + 1 :]

    def _require(self, flags: list[str]) -> None:
        for name in (flag.partition("=")[2] for flag in flags if flag.startswith("--network=")):
            assert ("compute networks", name) in self.things

    def _end(self, kind: str, name: str) -> None:
        if (kind, name) == MADE_BY_RAY:
            return
        if kind == "compute networks":
            inside = [key for key, flags in self.things.items() if f"--network={name}" in flags]
            assert inside == [], "a network goes when nothing is in it"
        del self.things[kind, name]


def test_everything_that_is_made_is_ended(walked: tuple[Laptop, Walk]) -> None:
    laptop, _ = walked
    project = Project()
    most: set[tuple[str, str]] = set()
    for words in laptop.calls():
        project.call(words)
        most |= project.things.keys()
    assert {kind for kind, _ in most} == {
        "compute networks",
        "compute networks subnets",
        "compute firewall-rules",
        "storage buckets",
        "iam service-accounts",
        "binding",
    }
    assert len(most) >= 8
    assert project.things == {}
    assert list((laptop.home / ".ssh").iterdir()) == []


def test_the_file_names_what_was_made(walked: tuple[Laptop, Walk]) -> None:
    laptop, _ = walked
    text = (laptop.repository / "cluster" / "gcp.yaml").read_text(encoding="utf-8")
    assert "FILL_" not in re.sub(r"(?m)^\s*#.*$", "", text)
    config = yaml.safe_load(text)
    accounts = []
    for node in config["available_node_types"].values():
        given = node["node_config"]
        (interface,) = given["networkInterfaces"]
        assert interface["subnetwork"] == "projects/my-project/regions/us-west1/subnetworks/oneshui"
        (disk,) = given["disks"]
        assert disk["initializeParams"]["sourceImage"].endswith(f"/images/{IMAGE}")
        accounts.append(given["serviceAccounts"][0]["email"])
    assert accounts == [
        f"oneshui-{who}@my-project.iam.gserviceaccount.com" for who in ("head", "worker")
    ]


def test_without_credentials_each_check_ends_with_one_sentence(
    walked: tuple[Laptop, Walk],
) -> None:
    _, walk = walked
    told = [text for name, status, text in walk.verdicts if status == 2]
    assert [name for name, _, _ in walk.verdicts] == [
        "cluster.check",
        "cluster.orphans",
        "cluster.orphans",
    ]
    assert len(told) == len(walk.verdicts)
    for text in told:
        (line,) = text.splitlines()
        assert line.endswith(
            "the account does not answer: no credentials on this machine: gcloud auth "
            "application-default login"
        )


def _remedies() -> Iterator[list[str]]:
    """Commands that the account check and the list of what is left name, made up here."""
    request = "beta quotas preferences create --service=s --project=p --quota-id=q"
    yield [*request.split(), "--preferred-value=1", "--dimensions=region=us-west1"]
    yield ["iam", "service-accounts", "enable", "a@p"]
    yield ["compute", "firewall-rules", "update", "r", "--source-ranges=192.0.2.1/32"]
    yield ["compute", "disk-types", "list", "--zones=z"]
    yield ["compute", "machine-types", "list", "--filter=f"]
    yield ["compute", "accelerator-types", "list", "--filter=f"]
    yield ["compute", "instances", "delete", "i", "--project=p", "--zone=z"]
    yield ["compute", "disks", "delete", "d", "--project=p", "--zone=z"]
    yield ["compute", "addresses", "delete", "a", "--project=p", "--global"]
    yield ["filestore", "instances", "delete", "f", "--project=p", "--location=z"]
    yield ["services", "enable", "compute.googleapis.com"]


def test_gcloud_knows_every_command_and_flag(
    walked: tuple[Laptop, Walk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        pytest.skip("no gcloud on this machine, and no package index has it")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    laptop, _ = walked
    for words in [*laptop.calls(), *_remedies()]:
        # It looks for unknown words before it does anything; so it does nothing here.
        done = subprocess.run(
            [gcloud, *words, "--no-such-flag"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        unknown = re.findall(r"unrecognized arguments:(.*?)\n\n", done.stderr, re.DOTALL)
        assert [found.split() for found in unknown] == [["--no-such-flag"]], (words, done.stderr)
