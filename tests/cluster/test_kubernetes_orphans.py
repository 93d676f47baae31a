"""What ``cluster.orphans`` finds on Kubernetes, by recorded answers of ``kubectl``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.cluster_files import write_program

from cluster.orphans import main

KINDS = (
    "rayjobs",
    "rayclusters",
    "pods",
    "services",
    "persistentvolumeclaims",
    "persistentvolumes",
)


def thing(name: str, spec: Any = None, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec or {}, "status": status}


def volume(name: str, policy: str, namespace: str = "oneshui") -> dict[str, Any]:
    spec = {
        "capacity": {"storage": "1Ti"},
        "claimRef": {"namespace": namespace, "name": "oneshui-shared"},
        "persistentVolumeReclaimPolicy": policy,
    }
    return thing(name, spec, phase="Released")


FULL: dict[str, list[dict[str, Any]]] = {
    "rayjobs": [thing("oneshui", jobDeploymentStatus="Running"), thing("new")],
    "rayclusters": [thing("oneshui-x", state="ready")],
    "pods": [
        thing("head", phase="Running"),
        thing("gpu", phase="Pending"),
        thing("done", phase="Succeeded"),
        thing("lost", phase="Failed"),
    ],
    "services": [thing("inside", {"type": "ClusterIP"}), thing("open", {"type": "LoadBalancer"})],
    "persistentvolumeclaims": [
        thing(
            "oneshui-shared",
            {"resources": {"requests": {"storage": "500Gi"}}},
            capacity={"storage": "1Ti"},
        )
    ],
    "persistentvolumes": [
        volume("pv-kept", "Retain"),
        volume("pv-gone", "Delete"),
        volume("pv-other", "Retain", "another"),
    ],
}


class Kubectl:
    """A program of that name that answers by kind and notes what it was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder / "answers"
        self._folder.mkdir()
        self.log = folder / "asked"
        write_program(
            folder / "bin",
            "kubectl",
            f'echo "$*" >>"{self.log}"\n'
            f'if [ -e "{self._folder}/$2" ]; then cat "{self._folder}/$2"; exit; fi\n'
            "echo 'a line before' >&2\n"
            'echo "error: the server does not have a resource type \\"$2\\"" >&2; exit 1',
        )
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")

    def answer(self, found: dict[str, list[dict[str, Any]]]) -> None:
        for kind in KINDS:
            document = json.dumps({"kind": "List", "items": found.get(kind, [])})
            (self._folder / kind).write_text(document, encoding="utf-8")

    def refuse(self, kind: str) -> None:
        (self._folder / kind).unlink()


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    return Kubectl(tmp_path, monkeypatch)


def test_an_empty_namespace_has_nothing_left(
    kubectl: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.answer({})
    assert main(["kubernetes"]) == 0
    assert capsys.readouterr().out == "nothing is left in oneshui\n"
    asked = kubectl.log.read_text(encoding="utf-8").splitlines()
    assert [line.split()[:3] for line in asked] == [
        ["get", kind, "--namespace=oneshui"] for kind in KINDS
    ]


def test_everything_that_costs_is_listed_with_the_command_that_ends_it(
    kubectl: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.answer(FULL)
    assert main(["kubernetes", "oneshui"]) == 1
    end = "--namespace=oneshui"
    assert capsys.readouterr().out.splitlines() == [
        f"job oneshui, Running: kubectl delete rayjobs oneshui {end}",
        f"job new, not begun: kubectl delete rayjobs new {end}",
        f"cluster oneshui-x, ready: kubectl delete rayclusters oneshui-x {end}",
        f"pod head, Running: kubectl delete pods head {end}",
        f"pod gpu, Pending: kubectl delete pods gpu {end}",
        f"load balancer open: kubectl delete services open {end}",
        "claim oneshui-shared of 1Ti, with results and datasets: kubectl delete "
        f"persistentvolumeclaims oneshui-shared {end}",
        "volume pv-kept of 1Ti, kept when its claim is deleted (Released): kubectl patch "
        "persistentvolume pv-kept --patch "
        '\'{"spec": {"persistentVolumeReclaimPolicy": "Delete"}}\'',
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_asked_is_not_empty_and_hides_nothing_else(
    kind: str, kubectl: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.answer(FULL)
    assert main(["kubernetes"]) == 1
    all_of_it = capsys.readouterr().out.splitlines()
    kubectl.refuse(kind)
    assert main(["kubernetes"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"not all is known. kubectl get {kind} ")
    assert f'the server does not have a resource type "{kind}"' in said.err
    lost = [line for line in all_of_it if line not in said.out.splitlines()]
    assert lost
    assert all(kind.rstrip("s") in line for line in lost)


def test_a_machine_without_kubectl_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["kubernetes"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "kubectl does not start: No such file or directory" in said.err
    assert len(said.err.splitlines()) == 1
