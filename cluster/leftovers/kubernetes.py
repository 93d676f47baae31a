"""What is left on Kubernetes: jobs, clusters, pods, services, claims and volumes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from cluster.leftovers.answers import NoAnswerError

KINDS = ("rayjobs", "rayclusters", "pods", "services", "persistentvolumeclaims")
"""In the order in which to delete them: who deletes a pod first gets it back from its cluster."""
VOLUMES = "persistentvolumes"
"""Of no namespace, and last: they go with their claims, unless they are told to stay."""

Ask = Callable[[str], Any]


def ask(namespace: str) -> Ask:
    """Lists things of a kind with ``kubectl``, those of the namespace where a kind has one.

    The list raises ``NoAnswerError`` where ``kubectl`` is not there, or says no.
    """

    def run(kind: str) -> Any:
        command = ["kubectl", "get", kind, f"--namespace={namespace}", "--output=json"]
        try:
            done = subprocess.run(
                [*command, "--request-timeout=30s"], capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise NoAnswerError(f"kubectl does not start: {error.strerror}") from None
        if done.returncode != 0:
            told = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise NoAnswerError(f"{' '.join(command)}: {told[-1]}")
        return json.loads(done.stdout)

    return run


def left(ask: Ask, namespace: str) -> Iterator[str | NoAnswerError]:
    """What is left, a line each, and what could not be asked.

    Args:
        ask: The list of a kind; may raise ``NoAnswerError``, and then the other kinds are asked
            all the same.
        namespace: Of the sweep.
    """
    for kind in (*KINDS, VOLUMES):
        try:
            found = ask(kind)["items"]
        except NoAnswerError as error:
            yield error
            continue
        for thing in found:
            is_volume = kind == VOLUMES
            line = _volume(thing, namespace) if is_volume else _line(kind, thing, namespace)
            if line:
                yield line


def _line(kind: str, thing: dict[str, Any], namespace: str) -> str:
    """What a thing of the namespace is and what ends it, or nothing if it costs nothing."""
    words = _words(kind, thing)
    name = thing["metadata"]["name"]
    return words and f"{words}: kubectl delete {kind} {name} --namespace={namespace}"


def _words(kind: str, thing: dict[str, Any]) -> str:
    """What a thing of the namespace is, or nothing if it costs nothing."""
    name, spec, status = thing["metadata"]["name"], thing["spec"], thing.get("status", {})
    if kind == "rayjobs":
        return f"job {name}, {status.get('jobDeploymentStatus', 'not begun')}"
    if kind == "rayclusters":
        return f"cluster {name}, {status.get('state', 'not begun')}"
    if kind == "pods":
        # A pod that has ended holds no machine.
        is_over = status.get("phase") in ("Succeeded", "Failed")
        return "" if is_over else f"pod {name}, {status.get('phase', 'Unknown')}"
    if kind == "services":
        is_paid = spec.get("type") == "LoadBalancer"
        return f"load balancer {name}" if is_paid else ""
    size = status.get("capacity", {}).get("storage", spec["resources"]["requests"]["storage"])
    return f"claim {name} of {size}, with results and datasets"


def _volume(thing: dict[str, Any], namespace: str) -> str:
    """A volume that stays when its claim goes, and that is told to go with it."""
    name, spec = thing["metadata"]["name"], thing["spec"]
    is_ours = spec.get("claimRef", {}).get("namespace") == namespace
    if not is_ours or spec.get("persistentVolumeReclaimPolicy") != "Retain":
        return ""
    return (
        f"volume {name} of {spec['capacity']['storage']}, kept when its claim is deleted "
        f"({thing.get('status', {}).get('phase', 'Unknown')}): kubectl patch persistentvolume "
        f'{name} --patch \'{{"spec": {{"persistentVolumeReclaimPolicy": "Delete"}}}}\''
    )
