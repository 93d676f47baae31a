"""``node_config`` on Google Cloud, against the compute API's own description and our own rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from cluster.checks.common import identity_problems, node_type_problems, spot_problems

# Ray writes them into the request itself; a file must hold no other key that Instance lacks.
SET_BY_RAY = {"sourceInstanceTemplate"}
DISK_TYPES = {"pd-balanced", "pd-ssd", "hyperdisk-balanced"}
DOCUMENTS = Path("discovery_cache", "documents")


@cache
def definitions(api: str) -> dict[str, Any]:
    """The schemas of an API, such as ``compute.v1``, as JSON schemas that take no unknown key."""
    import googleapiclient

    path = Path(googleapiclient.__file__).parent / DOCUMENTS / f"{api}.json"
    schemas = json.loads(path.read_text(encoding="utf-8"))["schemas"]
    return {name: _closed(schema) for name, schema in schemas.items()}


def schema_problems(value: Any, api: str, name: str) -> Iterator[str]:
    """What of a value is not as an API describes it, a line each.

    Args:
        value: Parsed JSON.
        api: Name and version, such as ``compute.v1``.
        name: Of the schema, such as ``Instance``.
    """
    schema = {"$ref": f"#/definitions/{name}", "definitions": definitions(api)}
    for error in jsonschema.Draft7Validator(schema).iter_errors(value):
        where = ".".join(str(part) for part in error.absolute_path)
        yield f"{where}: {error.message}".lstrip(": ")


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _closed(value)
        for key, value in schema.items()
        if key not in {"id", "required", "default", "annotations"} or not isinstance(value, str)
    }
    if isinstance(schema.get("$ref"), str):
        return {"$ref": f"#/definitions/{schema['$ref']}"}
    if schema.get("type") == "any":
        kept.pop("type")
    if "properties" in kept and kept.get("type") == "object":
        kept["additionalProperties"] = False
    return kept


def problems(config: dict[str, Any]) -> list[str]:
    """What the API would refuse, and what would cost money or open a door."""
    found = []
    if not config["provider"].get("project_id"):
        found.append("provider.project_id is missing")
    checks = (_schema_problems, _node_problems)
    found += node_type_problems(config, checks, _worker_problems, _head_problems)
    return found + _group_problems(config)


def _schema_problems(given: dict[str, Any]) -> Iterator[str]:
    sent = {key: value for key, value in given.items() if key not in SET_BY_RAY}
    yield from schema_problems(sent, "compute.v1", "Instance")


def _items(given: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["value"] for item in given.get("metadata", {}).get("items", [])}


def _scheduling(given: dict[str, Any]) -> dict[str, Any]:
    scheduling = given.get("scheduling", {})
    return scheduling if isinstance(scheduling, dict) else {}


def _node_problems(given: dict[str, Any]) -> list[str]:
    images = [
        str(disk.get("initializeParams", {}).get("sourceImage", ""))
        for disk in given.get("disks", [])
    ]
    disks = [
        str(disk.get("initializeParams", {}).get("diskType", "")) for disk in given.get("disks", [])
    ]
    wanted = {
        "sourceImage must name an image, not a family that changes": bool(images)
        and all(image and "/family/" not in image for image in images),
        "every disk must go away with its machine (autoDelete)": all(
            disk.get("autoDelete") for disk in given.get("disks", [])
        ),
        "diskType is no pd-balanced, pd-ssd or hyperdisk: G2 machines refuse the default": bool(
            disks
        )
        and all(disk.rpartition("/")[2] in DISK_TYPES for disk in disks),
        "networkInterfaces is missing: Ray would take the default network, open to the world": bool(
            given.get("networkInterfaces")
        ),
        "serviceAccounts is missing": bool(given.get("serviceAccounts")),
        "metadata must block the project's ssh keys": (
            _items(given).get("block-project-ssh-keys") == "TRUE"
        ),
    }
    return [problem for problem, is_met in wanted.items() if not is_met]


def _head_problems(given: dict[str, Any]) -> Iterator[str]:
    if "oneshui-idle-head" not in _items(given).get("startup-script", ""):
        yield "startup-script installs no guard (cluster/idle_head.sh): forgotten, it costs"


def _worker_problems(given: dict[str, Any]) -> list[str]:
    found = []
    if "oneshui-deadman" not in _items(given).get("startup-script", ""):
        found.append("startup-script installs no dead-man switch (cluster/deadman.sh)")
    scheduling = _scheduling(given)
    if scheduling.get("instanceTerminationAction") != "DELETE" or not scheduling.get(
        "maxRunDuration"
    ):
        found.append("scheduling must delete the machine after a maxRunDuration")
    if scheduling.get("onHostMaintenance") != "TERMINATE":
        found.append("scheduling.onHostMaintenance must be TERMINATE: GPUs cannot be moved")
    return found


def _group_problems(config: dict[str, Any]) -> list[str]:
    found = identity_problems(
        config,
        lambda given: [account.get("email") for account in given.get("serviceAccounts", [])],
        "service account",
    )
    return found + spot_problems(
        config,
        lambda given: _scheduling(given).get("provisioningModel") == "SPOT",
        "scheduling.provisioningModel: SPOT",
    )
