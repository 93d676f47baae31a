"""README.md's commands for Kubernetes, from an empty cluster to an empty cluster.

The real ``kubectl`` against an API on loopback (``support.kubernetes_server``), which plays
KubeRay, the storage class and the scheduler, and looks at no manifest's fields. Pods do not run:
what ``kubectl exec`` would do in one is done here, in a folder that stands in for the volume, and
``port-forward`` and ``docker`` take notes. Skipped where there is no ``kubectl``: no package of
Python brings one (Debian's is ``kubernetes-client``).
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from support.kubernetes_server import Kubernetes, RefusedError, Thing, forbidden, kubernetes
from support.readme_walk import DIGEST, Laptop, Walk, blocks

pytestmark = pytest.mark.long
KUBECTL = shutil.which("kubectl")
CLASS = "efs-sc"
NODES = ["cpu-1", "cpu-2"]


@dataclass(frozen=True)
class Place:
    """A laptop, an empty cluster, and the folder that stands in for the shared volume."""

    laptop: Laptop
    cluster: Kubernetes
    volume: Path
    commands: list[str]

    def walk(self) -> Walk:
        return self.laptop.walk(self.commands, {})

    def refused(self, mark: str) -> str:
        """What the first line with a text says, which must not succeed, when all before is done."""
        before = until(mark, self.commands)
        assert self.laptop.shell(before, {}).returncode == 0
        block = self.commands[len(before)]
        (line, *_) = (line for line in block.splitlines() if mark in line)
        done = self.laptop.shell([line], {})
        assert done.returncode != 0, done.stdout
        return done.stdout


def until(mark: str, commands: list[str]) -> list[str]:
    """The blocks before the first that contains a text."""
    return commands[: next(at for at, block in enumerate(commands) if mark in block)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if KUBECTL is None:
        pytest.skip("no kubectl on this machine (Debian: apt-get install kubernetes-client)")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    laptop, volume, data = Laptop(tmp_path / "laptop"), tmp_path / "volume", tmp_path / "data"
    for folder in (volume / "data", data / "faces", laptop.home / ".kube"):
        folder.mkdir(parents=True)
    (data / "faces" / "1.jpg").write_text("a face")
    laptop.stand_in(
        "kubectl",
        f"""case "$1" in
  exec)
    "{KUBECTL}" get pod oneshui-data -o name >/dev/null || exit
    while [ "$1" != -- ]; do shift; done; shift
    exec "${{@//\\/shared/{volume}}}" ;;
  port-forward) echo "kubectl $*" >>"{laptop.notes}"; exit ;;
esac
exec "{KUBECTL}" "$@" """,
    )
    commands = [*blocks("Secrets and ports"), *blocks("Kubernetes")]
    commands = [block.replace("tar -C /data", f"tar -C {data}") for block in commands]

    def compute(job: Thing) -> None:
        words = job["spec"]["entrypoint"].split()
        (output,) = (word.partition("=")[2] for word in words if word.startswith("output_dir="))
        folder = volume / Path(output).relative_to("/shared")
        for name in ("report/index.html", "logs/a.log"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("written by the sweep", encoding="utf-8")

    with kubernetes() as (url, cluster):
        cluster.classes = {CLASS: "Delete"}
        cluster.on_job = compute
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (laptop.home / ".kube" / "config").write_text(yaml.safe_dump(config), encoding="utf-8")
        yield Place(laptop, cluster, volume, commands)


def test_from_an_empty_cluster_to_an_empty_cluster(place: Place) -> None:
    secrets: list[Thing] = []

    def note(verb: str, plural: str, name: str) -> None:
        if (verb, plural, name) == ("create", "pods", "oneshui-data"):
            secrets.append(place.cluster.things["secrets", "oneshui", "oneshui-ray-token"])

    place.cluster.interfere = note
    walk = place.walk()
    assert walk.verdicts == (
        ("cluster.check", 0, walk.verdicts[0][2]),
        ("cluster.orphans", 0, "nothing is left in oneshui\n"),
    )
    assert {plural for plural, _, _ in place.cluster.most} == {
        "namespaces",
        "secrets",
        "networkpolicies",
        "persistentvolumeclaims",
        "persistentvolumes",
        "pods",
        "services",
        "rayjobs",
        "rayclusters",
    }
    assert [key for key in place.cluster.things if key[0] != "nodes"] == []
    assert place.cluster.names("nodes") == NODES
    # The data pod came twice, once with the datasets and once for the results.
    token = (place.laptop.home / ".ray" / "oneshui_token").read_text(encoding="ascii")
    assert [base64.b64decode(one["data"]["auth_token"]).decode() for one in secrets] == [token] * 2
    assert (place.volume / "data/faces/1.jpg").read_text() == "a face"
    fetched = place.laptop.repository / "runs" / "full"
    assert (fetched / "report/index.html").read_text() == "written by the sweep"
    notes = place.laptop.notes.read_text(encoding="utf-8")
    assert "kubectl port-forward pod/oneshui-x-head 8265 5000\n" in notes
    assert "docker push registry.example/team/oneshui:0.1.0\n" in notes


def test_pods_are_of_the_image_that_was_pushed(place: Place) -> None:
    images: set[str] = set()

    def note(_verb: str, plural: str, _name: str) -> None:
        for (kind, _, _), thing in place.cluster.things.items():
            if plural == kind == "pods":
                images.update(one["image"] for one in thing["spec"]["containers"])

    place.cluster.interfere = note
    place.walk()
    assert images == {f"registry.example/team/oneshui@{DIGEST}"}


def test_a_volume_that_outlives_its_claim_is_named_with_what_ends_it(place: Place) -> None:
    place.cluster.classes = {CLASS: "Retain"}
    walk = place.walk()
    (_, status, told) = walk.verdicts[-1]
    (line,) = told.splitlines()
    assert status == 1
    said, _, command = line.partition(": ")
    assert said.endswith("kept when its claim is deleted (Released)")
    assert place.cluster.names("persistentvolumes")
    environment = {**os.environ, "HOME": str(place.laptop.home)}
    subprocess.run(["bash", "-c", command], env=environment, check=True, capture_output=True)
    assert place.cluster.names("persistentvolumes") == []


def refusing(verb: str, plural: str, why: str) -> Callable[[str, str, str], None]:
    def interfere(asked: str, of: str, name: str) -> None:
        if (asked, of) == (verb, plural):
            raise forbidden(plural, name, why)

    return interfere


def test_a_role_that_may_make_no_job_is_told_so_in_one_sentence(place: Place) -> None:
    place.cluster.interfere = refusing("create", "rayjobs", 'User "u" cannot create it')
    (said,) = place.refused("-f cluster/kuberay/rayjob.yaml").splitlines()
    assert said.startswith("Error from server (Forbidden): error when creating ")
    assert 'rayjobs.ray.io "oneshui" is forbidden: User "u" cannot create it' in said
    assert place.cluster.names("rayclusters") == []


def test_a_role_that_may_not_look_keeps_the_volume(place: Place) -> None:
    """What cannot be seen is no nothing, and the namespace is not reached."""
    keep = until("kubectl delete namespace", place.commands)
    before = until("delete pvc", keep)
    assert place.laptop.shell(before, {}).returncode == 0
    place.laptop.verdicts()
    place.cluster.interfere = refusing("list", "rayjobs", 'User "u" cannot list it')
    done = place.laptop.shell(keep[len(before) :], {})
    assert "the volume stays, this is left: unknown, since kubectl failed" in done.stdout
    assert place.cluster.names("persistentvolumeclaims") == ["oneshui-shared"]
    ((name, status, told),) = place.laptop.verdicts()
    assert (name, status) == ("cluster.orphans", 2)
    assert told.count("not all is known") == 1
    assert 'User "u" cannot list it' in told


def test_a_quota_that_is_used_up_is_one_sentence(place: Place) -> None:
    why = "exceeded quota: small, requested: requests.cpu=250m, used: requests.cpu=4"
    place.cluster.interfere = refusing("create", "pods", why)
    (said,) = place.refused("-f cluster/kuberay/data.yaml").splitlines()
    assert said.startswith("Error from server (Forbidden): error when creating ")
    assert f'pods "oneshui-data" is forbidden: {why}' in said


def test_a_storage_class_that_is_not_there_ends_the_wait(place: Place) -> None:
    place.cluster.classes = {}
    shorter = [block.replace("--timeout=15m", "--timeout=2s") for block in place.commands]
    done = place.laptop.shell(shorter, {})
    assert done.returncode != 0
    said = done.stdout.splitlines()[-1]
    assert said == "error: timed out waiting for the condition on pods/oneshui-data"
    assert place.cluster.names("rayjobs") == []


def test_a_cluster_without_kuberay_says_so(place: Place) -> None:
    for plural in ("rayjobs", "rayclusters"):
        del place.cluster.kinds[plural]
    said = place.refused("-f cluster/kuberay/rayjob.yaml")
    assert 'no matches for kind "RayJob" in version "ray.io/v1"' in said
    # The claim is there, and what is left is asked for all the same.
    place.laptop.verdicts()
    place.laptop.shell(["uv run python -m cluster.orphans kubernetes oneshui"], {})
    ((_, status, told),) = place.laptop.verdicts()
    assert status == 2
    assert "rayjobs" in told
    assert "claim oneshui-shared of 500Gi" in told


def test_the_stand_in_refuses_what_it_does_not_know() -> None:
    with pytest.raises(RefusedError, match="could not find the requested resource"):
        Kubernetes().answer("GET", "/api/v1/namespaces/oneshui/configmaps", {}, b"")
