"""The manifests against KubeRay's schemas, and the mistakes that these let pass."""

from __future__ import annotations

import copy
import gzip
import ipaddress
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.cluster_files import filled

from cluster.checks import kuberay
from sweeps.config import load

Manifest = dict[str, Any]
SCHEMAS = Path(__file__).parents[3] / "shared" / "spec" / "kuberay"
RAY = {"kuberay/raycluster.yaml": "rayclusters", "kuberay/rayjob.yaml": "rayjobs"}
OTHER = ("kuberay/network.yaml", "kuberay/shared.yaml", "kuberay/data.yaml")
needs_schemas = pytest.mark.skipif(
    not SCHEMAS.is_dir(), reason="KubeRay's schemas are not beside this checkout (shared/spec)"
)


@cache
def schema(name: str) -> dict[str, Any]:
    with gzip.open(SCHEMAS / f"{name}.v1.schema.json.gz", "rt", encoding="utf-8") as file:
        closed: dict[str, Any] = close(json.load(file))
    closed["properties"]["metadata"] = {"type": "object"}
    return closed


def close(node: Any) -> Any:
    if isinstance(node, list):
        return [close(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: close(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.mark.parametrize("name", RAY)
def test_the_engine_knows_the_machines_that_the_file_may_add(name: str) -> None:
    spec = filled(name)["spec"]
    groups = spec.get("rayClusterSpec", spec)["workerGroupSpecs"]
    known = {}
    for group in groups:
        asked = group["template"]["spec"]["containers"][0]["resources"]["requests"]
        memory = float(asked["memory"].removesuffix("Gi"))
        resources = (float(asked["cpu"]), float(asked["nvidia.com/gpu"]), memory)
        known[group["groupName"]] = (*resources, group["maxReplicas"])
    machines = load(["cluster=kubernetes"]).cluster.machines
    assert known == {
        name: (one.cpus, one.gpus, one.memory_gb, one.most) for name, one in machines.items()
    }


def refusals(manifest: Manifest) -> list[str]:
    kind = {"RayCluster": "rayclusters", "RayJob": "rayjobs"}[manifest["kind"]]
    errors = jsonschema.Draft7Validator(schema(kind)).iter_errors(manifest)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


@needs_schemas
@pytest.mark.parametrize("name", RAY)
def test_kuberays_schema_takes_the_manifest(name: str) -> None:
    assert refusals(filled(name)) == []


@pytest.mark.parametrize("name", [*RAY, *OTHER])
def test_our_own_rules_have_nothing_against_it(name: str) -> None:
    assert kuberay.problems(filled(name)) == []


def test_a_job_gets_the_same_cluster_as_the_one_that_stays() -> None:
    cluster = filled("kuberay/raycluster.yaml")["spec"]
    assert filled("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"] == cluster


def test_the_image_has_the_ray_that_the_manifest_says() -> None:
    import ray

    assert filled("kuberay/raycluster.yaml")["spec"]["rayVersion"] == ray.__version__


def test_nobody_but_our_pods_and_the_operator_gets_in() -> None:
    policy = filled("kuberay/network.yaml")["spec"]
    own = policy["podSelector"]["matchLabels"]
    spec = filled("kuberay/rayjob.yaml")["spec"]
    templates = [
        spec["submitterPodTemplate"],
        spec["rayClusterSpec"]["headGroupSpec"]["template"],
        *(group["template"] for group in spec["rayClusterSpec"]["workerGroupSpecs"]),
        filled("kuberay/data.yaml"),
    ]
    assert all(template["metadata"]["labels"] == own for template in templates)
    ours, operators = policy["ingress"]
    assert ours == {"from": [{"podSelector": {"matchLabels": own}}]}
    assert operators["ports"] == [{"port": 8265, "protocol": "TCP"}]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}


def reaches(address: str, port: int, protocol: str = "TCP") -> bool:
    """Whether our pods may talk to an address, by the policy's blocks of addresses."""
    policy = filled("kuberay/network.yaml")["spec"]
    where = ipaddress.ip_address(address)
    for rule in policy["egress"]:
        ports = {(one["port"], one["protocol"]) for one in rule.get("ports", [])}
        for block in (one["ipBlock"] for one in rule["to"] if "ipBlock" in one):
            within = where in ipaddress.ip_network(block["cidr"])
            left_out = [ipaddress.ip_network(one) for one in block.get("except", [])]
            if within and not any(where in one for one in left_out) and (port, protocol) in ports:
                return True
    return False


NODE_LOCAL, METADATA = "169.254.20.10", "169.254.169.254"


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
@pytest.mark.parametrize("address", [NODE_LOCAL, METADATA])
def test_names_are_asked_of_the_machines_cache_and_of_googles_service(
    address: str, protocol: str
) -> None:
    assert reaches(address, 53, protocol)


@pytest.mark.parametrize("port", [80, 443, 988])
def test_the_metadata_service_gives_our_pods_nothing_but_names(port: int) -> None:
    assert not reaches(METADATA, port)
    assert reaches("142.250.1.1", 443)


KARPENTER = {"karpenter.sh/capacity-type": "spot", "karpenter.k8s.aws/instance-gpu-name": "l4"}
AUTO_MODE = {"karpenter.sh/capacity-type": "spot", "eks.amazonaws.com/instance-gpu-name": "a10g"}
NODE_GROUP = {
    "eks.amazonaws.com/capacityType": "SPOT",
    "node.kubernetes.io/instance-type": "g6.xlarge",
}
GKE = {"cloud.google.com/gke-spot": "true", "cloud.google.com/gke-accelerator": "nvidia-l4"}
AKS = {
    "kubernetes.azure.com/agentpool": "gpu",
    "kubernetes.azure.com/scalesetpriority": "spot",
    "node.kubernetes.io/instance-type": "Standard_NV36ads_A10_v5",
}


def takes(labels: dict[str, str], name: str) -> bool:
    """Whether a pod of a group may be put on a machine with these labels."""
    (spec,) = [
        each["template"]["spec"]
        for each in filled("kuberay/raycluster.yaml")["spec"]["workerGroupSpecs"]
        if each["groupName"] == name
    ]
    affinity = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    fits: dict[str, Callable[[Any, Any], bool]] = {
        "In": lambda value, values: value in values,
        "NotIn": lambda value, values: value not in values,
        "Exists": lambda value, _: value is not None,
        "DoesNotExist": lambda value, _: value is None,
    }
    return any(
        all(
            fits[one["operator"]](labels.get(one["key"]), one.get("values"))
            for one in term["matchExpressions"]
        )
        for term in affinity["nodeSelectorTerms"]
    )


@pytest.mark.parametrize(
    ("spot", "change"),
    [
        (KARPENTER, {"karpenter.sh/capacity-type": "on-demand"}),
        (AUTO_MODE, {"karpenter.sh/capacity-type": "on-demand"}),
        (NODE_GROUP, {"eks.amazonaws.com/capacityType": "ON_DEMAND"}),
        (GKE, {"cloud.google.com/gke-spot": None}),
        (AKS, {"kubernetes.azure.com/scalesetpriority": None}),
    ],
    ids=["karpenter", "auto mode", "node group", "gke", "aks"],
)
def test_each_group_finds_its_machines_on_each_cloud_and_no_others(
    spot: dict[str, str], change: dict[str, str | None]
) -> None:
    demand = {key: value for key, value in (spot | change).items() if value is not None}
    assert takes(spot, "gpu-spot")
    assert not takes(spot, "gpu-on-demand")
    assert takes(demand, "gpu-on-demand")
    assert not takes(demand, "gpu-spot")
    for name in ("gpu-spot", "gpu-on-demand"):
        for key in kuberay.GPU_LABELS & spot.keys():
            assert not takes(spot | {key: "another"}, name)
            assert not takes(demand | {key: "another"}, name)


def test_all_tries_together_take_three_days_at_most() -> None:
    """KubeRay 1.7 sets the start anew for each try, and tries no deadline again."""
    spec = filled("kuberay/rayjob.yaml")["spec"]
    assert spec["activeDeadlineSeconds"] * (1 + spec["backoffLimit"]) == 3 * 24 * 3600


def head(manifest: Manifest) -> Any:
    return manifest["spec"]["headGroupSpec"]


def group(manifest: Manifest) -> Any:
    return manifest["spec"]["workerGroupSpecs"][0]


def pod(manifest: Manifest) -> Any:
    return group(manifest)["template"]["spec"]


REFUSED: dict[str, Callable[[Manifest], object]] = {
    "an unknown key": lambda m: m["spec"].update(autoscaling=True),
    "an unknown key deep inside": lambda m: pod(m)["containers"][0].update(resource={}),
    "a start parameter that is no text": lambda m: head(m)["rayStartParams"].update(
        {"num-cpus": 0}
    ),
    "a group without a name": lambda m: group(m).pop("groupName"),
    "a mode of authentication that does not exist": lambda m: m["spec"]["authOptions"].update(
        mode="tokens"
    ),
    "a number of machines that is no number": lambda m: group(m).update(maxReplicas="8"),
}


@needs_schemas
@pytest.mark.parametrize("mistake", REFUSED)
def test_the_schema_is_closed_and_refuses(mistake: str) -> None:
    manifest = filled("kuberay/raycluster.yaml")
    REFUSED[mistake](manifest)
    assert refusals(manifest)


MISSED: dict[str, tuple[str, Callable[[Manifest], object], str]] = {
    "more machines at least than at most": (
        "raycluster",
        lambda m: group(m).update(minReplicas=9),
        "minReplicas 9 is above maxReplicas 8",
    ),
    "resources said twice": (
        "raycluster",
        lambda m: group(m)["rayStartParams"].update({"num-gpus": "1"}),
        "gpu-spot: rayStartParams repeats what the container's resources say: num-gpus",
    ),
    "tried again on a cluster that is there": (
        "rayjob",
        lambda m: m["spec"].update(clusterSelector={"ray.io/cluster": "oneshui"}),
        "backoffLimit and clusterSelector exclude each other",
    ),
    "a group's name": (
        "raycluster",
        lambda m: group(m).update(groupName="GPU_spot"),
        "groupName is no name",
    ),
    "a cluster's name": (
        "raycluster",
        lambda m: m["metadata"].update(name="1shui"),
        "metadata.name '1shui' is no name",
    ),
}


@needs_schemas
@pytest.mark.parametrize("mistake", MISSED)
def test_the_schema_lets_pass(mistake: str) -> None:
    name, change, _ = MISSED[mistake]
    manifest = filled(f"kuberay/{name}.yaml")
    change(manifest)
    assert refusals(manifest) == []


@pytest.mark.parametrize("mistake", MISSED)
def test_what_the_schema_lets_pass_is_named(mistake: str) -> None:
    name, change, complaint = MISSED[mistake]
    manifest = filled(f"kuberay/{name}.yaml")
    change(manifest)
    assert any(complaint in problem for problem in kuberay.problems(manifest))


RULES: dict[str, tuple[str, Callable[[Manifest], object], str]] = {
    "more machines than the sweep asks for": (
        "rayjob",
        lambda m: m["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].update(maxReplicas=20),
        "gpu-spot: maxReplicas is 20, but the sweep asks for at most 8: add "
        "cluster.machines.gpu-spot.most=20",
    ),
    "a sweep that is none": (
        "rayjob",
        lambda m: m["spec"].update(entrypoint="python launch.py sweep=fulll"),
        "entrypoint: ",
    ),
    "another program": (
        "rayjob",
        lambda m: m["spec"].update(entrypoint="sleep 60"),
        "entrypoint runs no launch.py",
    ),
    "a pending pod that is waited for": (
        "raycluster",
        lambda m: m["spec"]["autoscalerOptions"].pop("env"),
        "a pending pod is waited for an hour",
    ),
    "a head that may be moved": (
        "raycluster",
        lambda m: head(m)["template"]["metadata"].pop("annotations"),
        'head: annotation karpenter.sh/do-not-disrupt: "true" is missing',
    ),
    "a head on a spot machine": (
        "raycluster",
        lambda m: head(m)["template"]["spec"].update(tolerations=pod(m)["tolerations"]),
        "head: tolerates spot machines",
    ),
    "no token": (
        "raycluster",
        lambda m: m["spec"].pop("authOptions"),
        "authOptions must be",
    ),
    "no version, so no token": (
        "raycluster",
        lambda m: m["spec"].pop("rayVersion"),
        "rayVersion is missing",
    ),
    "machines that stay": (
        "raycluster",
        lambda m: m["spec"].update(enableInTreeAutoscaling=False),
        "enableInTreeAutoscaling is not true",
    ),
    "the old autoscaler": (
        "raycluster",
        lambda m: m["spec"]["autoscalerOptions"].pop("version"),
        "autoscalerOptions.version is not v2",
    ),
    "a network policy that is not applied": (
        "raycluster",
        lambda m: m["spec"].update(networkPolicy={}),
        "networkPolicy is behind a feature gate",
    ),
    "a control service on a disk": (
        "raycluster",
        lambda m: m["spec"].update(gcsFaultToleranceOptions={"backend": "rocksdb"}),
        "rocksdb is behind a feature gate",
    ),
    "jobs on the head": (
        "raycluster",
        lambda m: head(m)["rayStartParams"].clear(),
        'head: rayStartParams must say num-cpus: "0"',
    ),
    "a door to the world": (
        "raycluster",
        lambda m: head(m).update(serviceType="LoadBalancer"),
        "head: serviceType LoadBalancer opens its ports",
    ),
    "root": (
        "raycluster",
        lambda m: pod(m)["securityContext"].update(runAsNonRoot=False),
        "gpu-spot: securityContext.runAsNonRoot",
    ),
    "any system call": (
        "raycluster",
        lambda m: pod(m)["securityContext"].pop("seccompProfile"),
        "seccompProfile is not RuntimeDefault",
    ),
    "more rights on demand": (
        "raycluster",
        lambda m: pod(m)["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
        "ray-worker: securityContext.allowPrivilegeEscalation",
    ),
    "the kernel's capabilities": (
        "raycluster",
        lambda m: pod(m)["containers"][0]["securityContext"].pop("capabilities"),
        "capabilities does not drop ALL",
    ),
    "the machine's network": (
        "raycluster",
        lambda m: pod(m).update(hostNetwork=True),
        "hostNetwork lets the pod into its machine",
    ),
    "the machine's disk": (
        "raycluster",
        lambda m: pod(m)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
        "volume x is a folder of the machine",
    ),
    "the machine's port": (
        "raycluster",
        lambda m: pod(m)["containers"][0].update(ports=[{"containerPort": 1, "hostPort": 1}]),
        "hostPort 1 opens a port",
    ),
    "talking to Kubernetes": (
        "raycluster",
        lambda m: pod(m).pop("automountServiceAccountToken"),
        "automountServiceAccountToken is not false",
    ),
    "an image that changes": (
        "raycluster",
        lambda m: pod(m)["containers"][0].update(image="registry:5000/oneshui:latest"),
        "is not pinned by its digest",
    ),
    "an image without a tag": (
        "raycluster",
        lambda m: pod(m)["containers"][0].update(image="registry:5000/oneshui"),
        "is not pinned by its digest",
    ),
    "an image by a tag": (
        "raycluster",
        lambda m: pod(m)["containers"][0].update(image="registry:5000/oneshui:0.1.0"),
        "is not pinned by its digest",
    ),
    "a machine that the image does not run on": (
        "raycluster",
        lambda m: head(m)["template"]["spec"].pop("nodeSelector"),
        "head: nodeSelector kubernetes.io/arch: amd64 is missing",
    ),
    "no limits": (
        "raycluster",
        lambda m: pod(m)["containers"][0].pop("resources"),
        "resources.limits is missing",
    ),
    "a token in the file": (
        "raycluster",
        lambda m: pod(m)["containers"][0].update(env=[{"name": "RAY_AUTH_TOKEN", "value": "abc"}]),
        "env RAY_AUTH_TOKEN holds a value",
    ),
    "machines that are always there": (
        "raycluster",
        lambda m: group(m).update(minReplicas=1),
        "minReplicas 1 keeps machines",
    ),
    "no spot machine": (
        "raycluster",
        lambda m: pod(m)["tolerations"].clear(),
        "no worker group tolerates spot machines",
    ),
    "no second try": (
        "rayjob",
        lambda m: m["spec"].pop("backoffLimit"),
        "backoffLimit is missing",
    ),
    "a cluster that stays": (
        "rayjob",
        lambda m: m["spec"].pop("ttlSecondsAfterFinished"),
        "must end the cluster",
    ),
    "costs without end": (
        "rayjob",
        lambda m: m["spec"].pop("activeDeadlineSeconds"),
        "activeDeadlineSeconds is missing",
    ),
    "a deadline that each try has": (
        "rayjob",
        lambda m: m["spec"].update(activeDeadlineSeconds=259200, backoffLimit=3),
        "activeDeadlineSeconds is for each of 4 tries, 12 days together",
    ),
    "bad input that is tried again": (
        "rayjob",
        lambda m: m["spec"].update(entrypoint="python /opt/oneshui/launch.py sweep=full"),
        "entrypoint runs no /opt/oneshui/once.sh",
    ),
    "any GPU": (
        "raycluster",
        lambda m: pod(m).pop("affinity"),
        "gpu-spot: no kind of GPU is asked for",
    ),
    "any GPU on one cloud": (
        "raycluster",
        lambda m: pod(m)["affinity"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]["nodeSelectorTerms"][3]["matchExpressions"].pop(),
        "gpu-spot: no kind of GPU is asked for",
    ),
    "a pod for data that stays": (
        "data",
        lambda m: m["spec"].pop("activeDeadlineSeconds"),
        "activeDeadlineSeconds is missing",
    ),
    "a pod for data that talks to Kubernetes": (
        "data",
        lambda m: m["spec"].pop("automountServiceAccountToken"),
        "automountServiceAccountToken is not false",
    ),
    "a pod for data that is root": (
        "data",
        lambda m: m["spec"]["securityContext"].pop("runAsNonRoot"),
        "securityContext.runAsNonRoot",
    ),
    "root that submits": (
        "rayjob",
        lambda m: m["spec"]["submitterPodTemplate"]["spec"].pop("securityContext"),
        "submitter: securityContext.runAsNonRoot",
    ),
}


@pytest.mark.parametrize("mistake", RULES)
def test_a_mistake_against_our_rules_is_named(mistake: str) -> None:
    name, change, complaint = RULES[mistake]
    manifest = filled(f"kuberay/{name}.yaml")
    before = copy.deepcopy(manifest)
    change(manifest)
    assert manifest != before
    found = kuberay.problems(manifest)
    assert any(complaint in problem for problem in found), found


def test_a_secret_or_an_open_service_is_named() -> None:
    secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "x"}, "data": {}}
    assert "a Secret in a file ends in a repository" in kuberay.problems(secret)[0]
    service = {"kind": "Service", "metadata": {"name": "x"}, "spec": {"type": "NodePort"}}
    assert "opens a port" in kuberay.problems(service)[0]
