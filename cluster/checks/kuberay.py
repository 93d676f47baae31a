"""Kubernetes manifests: what KubeRay's schema lets pass, and our own rules.

The schema itself is the cluster's: ``kubectl apply --dry-run=server`` applies it, and the tests do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

from oneshui.errors import InputError

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
SIZES = {"num-cpus", "num-gpus", "memory", "resources"}
# Ignored, or refused, by an operator whose feature gates are as they come.
GATED = ("networkPolicy", "tlsOptions")
PENDING = "RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S"
# What keeps the autoscalers of GKE and of Karpenter from moving a pod.
STAYS = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
# Labels that say which GPU a machine has, on machines that an autoscaler has yet to make too.
GPU_LABELS = {
    "karpenter.k8s.aws/instance-gpu-name",
    "eks.amazonaws.com/instance-gpu-name",
    "cloud.google.com/gke-accelerator",
    "node.kubernetes.io/instance-type",
}
MOST_SECONDS = 3 * 86400
"""What one sweep may cost at most, all tries together."""

ONCE = "/opt/oneshui/once.sh"
# Where GPU machines of a kind that may be reclaimed carry a taint or a label.
SPOT_TAINTS = {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"}


def problems(manifest: dict[str, Any]) -> list[str]:
    """Everything that is wrong with one manifest."""
    kinds: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
        "RayCluster": lambda each: _cluster_problems(each["spec"]),
        "RayJob": _job_problems,
        "Service": _service_problems,
        "Secret": _inline_secret,
        "Pod": _lone_pod_problems,
    }
    check = kinds.get(manifest["kind"])
    found = list(check(manifest)) if check else []
    name = manifest.get("metadata", {}).get("name", "")
    if not DNS_1035.fullmatch(name):
        found.append(f"metadata.name {name!r} is no name that Kubernetes takes for a service")
    return found


def _inline_secret(_: dict[str, Any]) -> Iterator[str]:
    yield "a Secret in a file ends in a repository: kubectl create secret makes it"


def _service_problems(manifest: dict[str, Any]) -> Iterator[str]:
    if manifest["spec"].get("type", "ClusterIP") != "ClusterIP":
        yield f"a Service of type {manifest['spec']['type']} opens a port: use kubectl port-forward"


def _job_problems(manifest: dict[str, Any]) -> Iterator[str]:
    spec = manifest["spec"]
    if spec.get("backoffLimit") and spec.get("clusterSelector"):
        yield "backoffLimit and clusterSelector exclude each other"
    if not spec.get("backoffLimit"):
        yield "backoffLimit is missing: a lost head would end the sweep"
    if not spec.get("shutdownAfterJobFinishes") or "ttlSecondsAfterFinished" not in spec:
        yield "shutdownAfterJobFinishes and ttlSecondsAfterFinished must end the cluster"
    yield from _deadline_problems(spec)
    if ONCE not in shlex.split(spec.get("entrypoint", "")):
        yield f"entrypoint runs no {ONCE}: bad input would be tried again with a new cluster"
    if "rayClusterSpec" in spec:
        yield from _cluster_problems(spec["rayClusterSpec"])
        yield from _maximum_problems(spec.get("entrypoint", ""), spec["rayClusterSpec"])
    if "submitterPodTemplate" in spec:
        for problem in _pod_problems(spec["submitterPodTemplate"]["spec"]):
            yield f"submitter: {problem}"


def _deadline_problems(spec: dict[str, Any]) -> Iterator[str]:
    """The deadline is for each try: KubeRay sets the start time anew."""
    deadline, tries = spec.get("activeDeadlineSeconds"), 1 + spec.get("backoffLimit", 0)
    if not deadline:
        yield "activeDeadlineSeconds is missing: nothing bounds the costs"
    elif deadline * tries > MOST_SECONDS:
        yield (
            f"activeDeadlineSeconds is for each of {tries} tries, {deadline * tries / 86400:.3g} "
            f"days together: make that at most {MOST_SECONDS // 86400}"
        )


def _lone_pod_problems(manifest: dict[str, Any]) -> Iterator[str]:
    spec = manifest["spec"]
    if not spec.get("activeDeadlineSeconds"):
        yield "activeDeadlineSeconds is missing: forgotten, it would run for ever"
    if spec.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false: it could talk to Kubernetes"
    yield from _pod_problems(spec)


def _maximum_problems(entrypoint: str, spec: dict[str, Any]) -> Iterator[str]:
    """Whether the sweep asks for as many machines as the groups may have."""
    # Composing a sweep loads much that the other checks do without.
    from sweeps.config import load

    command = shlex.split(entrypoint)
    scripts = [place for place, word in enumerate(command) if word.endswith("launch.py")]
    if not scripts:
        yield "entrypoint runs no launch.py"
        return
    try:
        machines = load(command[scripts[0] + 1 :]).cluster.machines
    except InputError as error:
        yield f"entrypoint: {error}"
        return
    for group in spec.get("workerGroupSpecs", []):
        name, most = group["groupName"], group["maxReplicas"]
        asked = machines[name].most if name in machines else 0
        if asked != most:
            yield (
                f"{name}: maxReplicas is {most}, but the sweep asks for at most {asked}: add "
                f"cluster.machines.{name}.most={most} to the entrypoint"
            )


def _cluster_problems(spec: dict[str, Any]) -> Iterator[str]:
    yield from (f"{key} is behind a feature gate that is off" for key in GATED if key in spec)
    if spec.get("gcsFaultToleranceOptions", {}).get("backend") == "rocksdb":
        yield "gcsFaultToleranceOptions.backend: rocksdb is behind a feature gate that is off"
    if not spec.get("rayVersion"):
        yield "rayVersion is missing: without it there is no token"
    auth = spec.get("authOptions", {})
    if auth.get("mode") != "token" or not auth.get("secretName"):
        yield "authOptions must be {mode: token, secretName: ...}: else any port runs code"
    yield from _autoscaler_problems(spec)
    for problem in _head_problems(spec["headGroupSpec"]):
        yield f"head: {problem}"
    for group in spec.get("workerGroupSpecs", []):
        for problem in _group_problems(group):
            yield f"{group['groupName']}: {problem}"
    if not any(_tolerates_spot(group) for group in spec.get("workerGroupSpecs", [])):
        yield "no worker group tolerates spot machines"


def _autoscaler_problems(spec: dict[str, Any]) -> Iterator[str]:
    if not spec.get("enableInTreeAutoscaling"):
        yield "enableInTreeAutoscaling is not true: GPU machines would never go away"
    if spec.get("autoscalerOptions", {}).get("version") != "v2":
        yield "autoscalerOptions.version is not v2"
    env = {
        one["name"]: one.get("value") for one in spec.get("autoscalerOptions", {}).get("env", [])
    }
    if not 0 < int(env.get(PENDING) or 3600) <= 900:
        yield f"autoscalerOptions.env: {PENDING} is missing: a pending pod is waited for an hour"


def _head_problems(head: dict[str, Any]) -> Iterator[str]:
    params = head.get("rayStartParams", {})
    if params.get("num-cpus") != "0":
        yield 'rayStartParams must say num-cpus: "0": jobs would run on it'
    if head.get("serviceType", "ClusterIP") != "ClusterIP":
        yield f"serviceType {head['serviceType']} opens its ports: use kubectl port-forward"
    annotations = head["template"].get("metadata", {}).get("annotations", {})
    for key, value in STAYS.items():
        if annotations.get(key) != value:
            yield f'annotation {key}: "{value}" is missing: it may be evicted at any time'
    if _tolerates_spot(head):
        yield "tolerates spot machines: with it the whole cluster would go"
    yield from _pod_problems(head["template"]["spec"])


def _tolerates_spot(group: dict[str, Any]) -> bool:
    taints = {each.get("key") for each in group["template"]["spec"].get("tolerations", [])}
    return taints >= SPOT_TAINTS


def _group_problems(group: dict[str, Any]) -> Iterator[str]:
    if not DNS_1035.fullmatch(group["groupName"]):
        yield "groupName is no name that Kubernetes takes"
    low, high = group["minReplicas"], group["maxReplicas"]
    if low > high:
        yield f"minReplicas {low} is above maxReplicas {high}"
    if low > 0:
        yield f"minReplicas {low} keeps machines that nobody uses"
    spec = group["template"]["spec"]
    params = set(group.get("rayStartParams", {})) & SIZES
    if params and (spec["containers"][0].get("resources") or group.get("resources")):
        repeated = ", ".join(sorted(params))
        yield f"rayStartParams repeats what the container's resources say: {repeated}"
    yield from _gpu_problems(spec)
    if spec.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false: jobs could talk to Kubernetes"
    yield from _pod_problems(spec)


def _gpu_problems(spec: dict[str, Any]) -> Iterator[str]:
    """Whether a kind of GPU is asked for: else any will do, the dearest too, or none on GKE."""
    if GPU_LABELS & set(spec.get("nodeSelector", {})):
        return
    required = (
        spec.get("affinity", {})
        .get("nodeAffinity", {})
        .get("requiredDuringSchedulingIgnoredDuringExecution", {})
    )
    # One of the terms is enough for a machine, so each has to say it.
    terms = [term.get("matchExpressions", []) for term in required.get("nodeSelectorTerms", [])]
    if not terms or not all(GPU_LABELS & {each["key"] for each in term} for term in terms):
        yield "no kind of GPU is asked for: name one in every term of nodeSelectorTerms"


def _pod_problems(spec: dict[str, Any]) -> Iterator[str]:
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True:
        yield "securityContext.runAsNonRoot is not true"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "securityContext.seccompProfile is not RuntimeDefault"
    if spec.get("nodeSelector", {}).get("kubernetes.io/arch") != "amd64":
        yield "nodeSelector kubernetes.io/arch: amd64 is missing: the image runs on no other"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} lets the pod into its machine"
    for volume in spec.get("volumes", []):
        if "hostPath" in volume:
            yield f"volume {volume['name']} is a folder of the machine"
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for problem in _container_problems(container):
            yield f"container {container['name']}: {problem}"


def _container_problems(container: dict[str, Any]) -> Iterator[str]:
    if not re.search(r"@(sha256:[0-9a-f]{64}|FILL_DIGEST)$", container["image"]):
        yield f"image {container['image']} is not pinned by its digest"
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield "securityContext.allowPrivilegeEscalation is not false"
    if "ALL" not in security.get("capabilities", {}).get("drop", []):
        yield "securityContext.capabilities does not drop ALL"
    if not container.get("resources", {}).get("limits"):
        yield "resources.limits is missing"
    for variable in container.get("env", []):
        name = variable["name"].lower()
        is_secret = any(word in name for word in ("token", "secret", "password"))
        if "value" in variable and is_secret and not name.endswith(("_mode", "_path", "_file")):
            yield f"env {variable['name']} holds a value: take it from a Secret"
    for port in container.get("ports", []):
        if "hostPort" in port:
            yield f"hostPort {port['hostPort']} opens a port of the machine"
