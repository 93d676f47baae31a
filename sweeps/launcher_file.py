"""Machines that an autoscaler may add, read from the launcher file that it goes by itself.

So one number, ``max_workers`` of that file, says how many machines there may be: what Ray may
start and what the engine hands out cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from oneshui.errors import InputError
from sweeps.graph.launch import ClusterSpec, MachineType

KEY = "cluster.machines_file"
ON_A_HEAD = "~/ray_bootstrap_config.yaml"
"""Where ``ray up`` leaves the file that the head's autoscaler goes by."""

_CHECKOUT = Path(__file__).parents[1]


def with_machines(cluster: ClusterSpec) -> ClusterSpec:
    """The cluster with the machine types of its launcher file.

    Raises:
        InputError: The file cannot be read, or is no launcher file, or types are said twice.
    """
    if not cluster.machines_file:
        return cluster
    if cluster.machines:
        raise InputError(
            f"cluster.machines and {KEY} both say which machines may be added; leave one out"
        )
    return replace(cluster, machines=machines_of(Path(cluster.machines_file).expanduser()))


def as_planned(cluster: ClusterSpec) -> ClusterSpec:
    """The cluster as a head would know it, on a machine that is none and starts none.

    There the launcher file of the checkout, which ``ray up`` copies to the head, takes the place of
    the copy. A file that somebody named, and one on a head, are left as they are.
    """
    own = _CHECKOUT / cluster.launcher_file
    is_head = Path(ON_A_HEAD).expanduser().exists()
    if cluster.machines_file != ON_A_HEAD or is_head or not own.is_file():
        return cluster
    return replace(cluster, machines_file=str(own))


def machines_of(path: Path) -> dict[str, MachineType]:
    """The worker types of a launcher file by name; at most ``max_workers`` of each.

    Raises:
        InputError: The file cannot be read, or is no launcher file.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        head, types = config["head_node_type"], config["available_node_types"]
        all_types = int(config["max_workers"])
        found = {name: _machine(kind, all_types) for name, kind in types.items() if name != head}
    except OSError as error:
        raise InputError(
            f"{KEY} is {path}, but that cannot be read ({error.strerror}): `ray up` leaves it on a "
            f"head; elsewhere name the launcher file itself, as in {KEY}=cluster/aws.yaml"
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{KEY} is {path}, but that is no file of Ray's launcher with head_node_type, "
            "available_node_types and max_workers; cluster/aws.yaml is one"
        ) from None
    return {name: kind for name, kind in found.items() if kind is not None}


def _machine(kind: Mapping[str, Any], all_types: int) -> MachineType | None:
    most = min(int(kind.get("max_workers", all_types)), all_types)
    has = kind["resources"]
    if most < 1:
        return None
    return MachineType(
        cpus=float(has["CPU"]),
        gpus=float(has.get("GPU", 0)),
        memory_gb=float(has.get("memory", 0)) / 2**30,
        most=most,
    )
