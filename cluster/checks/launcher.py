"""Files of Ray's cluster launcher: Ray's own validation, and what it lets pass.

Ray fills what is left out with defaults that fit neither this project nor a budget, and takes
unknown keys below ``provider`` and ``node_config`` without a word.
"""

from __future__ import annotations

import copy
import logging
import re
from pathlib import Path
from typing import Any
from unittest import mock

from cluster.checks import aws, gcp
from cluster.checks.common import walk

EXPLICIT = (
    "max_workers",
    "idle_timeout_minutes",
    "auth",
    "head_node_type",
    "available_node_types",
    "file_mounts",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
SPOT_FIRST = {
    "sweeps.executor.spot.aws.AwsSpotFirst": "aws",
    "sweeps.executor.spot.google.GoogleSpotFirst": "gcp",
}
"""Our providers, and whose machines they buy."""

PROVIDER_KEYS = {
    "type",
    "module",
    "on_demand_machines",
    "on_demand_after_seconds",
    "region",
    "availability_zone",
    "cache_stopped_nodes",
    "use_internal_ips",
    "use_external_head_ip",
    "disable_node_updaters",
    "disable_launch_config_check",
    "foreground_node_launch",
}
OWN_KEYS = {
    "aws": {"aws_credentials", "key_pair", "security_group", "cloudwatch"},
    "gcp": {"gcp_credentials", "project_id"},
}
TOKEN_FILE = "auth_token"


def problems(config: dict[str, Any]) -> list[str]:
    """Everything that is wrong with a launcher file; what is left out first, then Ray's own."""
    # First, because of some that are left out Ray says no more than their name.
    found = [
        f"{key} is left out: Ray would fill in its own" for key in EXPLICIT if key not in config
    ]
    found = found or _ray_problems(config)
    if found:
        return found
    kind = cloud_of(config["provider"])
    found = _provider_problems(config, kind)
    found += _scaling_problems(config)
    found += _command_problems(config)
    found += _mount_problems(config.get("file_mounts", {}))
    check = {"aws": aws.problems, "gcp": gcp.problems}.get(kind)
    return found + (check(config) if check else [])


def cloud_of(provider: dict[str, Any]) -> str:
    """The cloud: aws, gcp, or another of Ray's names of providers."""
    return SPOT_FIRST.get(str(provider.get("module", "")), str(provider.get("type", "")))


def _ray_problems(config: dict[str, Any]) -> list[str]:
    from ray.autoscaler._private.cli_logger import cli_logger
    from ray.autoscaler._private.util import prepare_config, validate_config
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    logging.getLogger("ray").setLevel(logging.ERROR)
    # It warns of mounted files for the sake of containers, which these files do not use.
    with mock.patch.object(cli_logger, "warning"):
        try:
            validate_config(prepare_config(copy.deepcopy(config)))
        except Exception as error:  # Ray raises what its parts happen to raise
            return [f"Ray refuses the file: {_first_line(error)}"]
        try:
            AutoscalingConfig(copy.deepcopy(config), skip_content_hash=True).get_node_type_configs()
        except AssertionError:
            return [
                "Ray's autoscaler refuses the file: a type's min_workers is above its max_workers"
            ]
        except Exception as error:
            return [f"Ray's autoscaler refuses the file: {_first_line(error)}"]
    return []


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _provider_problems(config: dict[str, Any], kind: str) -> list[str]:
    provider, most = config["provider"], config.get("max_workers", 0)
    known = PROVIDER_KEYS | OWN_KEYS.get(kind, set())
    found = [f"provider.{key} is not a key that Ray reads" for key in provider if key not in known]
    if provider.get("cache_stopped_nodes", True):
        found.append("provider.cache_stopped_nodes is not false: stopped machines keep costing")
    ours = next((module for module, cloud in SPOT_FIRST.items() if cloud == kind), None)
    if ours is not None and provider.get("module") != ours:
        found.append(
            "provider: where spot machines are refused, Ray asks for them again and buys nothing "
            f"else; say type: external, module: {ours}"
        )
    elif ours is not None and not 0 <= provider.get("on_demand_machines", -1) <= most:
        found.append(f"provider.on_demand_machines must be 0 to max_workers, {most}")
    return found


def _scaling_problems(config: dict[str, Any]) -> list[str]:
    types = config.get("available_node_types", {})
    most = config.get("max_workers", 0)
    found = []
    for name, node in types.items():
        low, high = node.get("min_workers", 0), node.get("max_workers", most)
        if high > most:
            found.append(f"{name}: max_workers {high} is above the whole cluster's {most}")
        if high < most and len(types) == 2 and name != config.get("head_node_type"):
            found.append(f"{name}: max_workers {high} leaves the whole cluster's {most} unreached")
        if low > 0:
            found.append(f"{name}: min_workers {low} keeps machines that nobody uses")
    head = types.get(config.get("head_node_type"), {})
    if head.get("resources") != {"CPU": 0, "GPU": 0}:
        found.append("the head's resources are not {CPU: 0, GPU: 0}: jobs would run on it")
    if head.get("max_workers", 0) != 0:
        found.append("the head's max_workers is not 0: workers of its type would be started")
    return found


def _command_problems(config: dict[str, Any]) -> list[str]:
    found = []
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in config.get(key, []) if "ray start" in command]
        if not starts and key in config:
            found.append(f"{key} starts no Ray")
        found += [
            f"{key}: RAY_AUTH_MODE=token is missing: whoever reaches a port could run code"
            for command in starts
            if not re.search(r"\bRAY_AUTH_MODE=token\b.*\bray start\b", command)
        ]
        if key.startswith("head"):
            found += [
                f"{key}: --dashboard-host=127.0.0.1 is missing"
                for command in starts
                if "--dashboard-host=127.0.0.1" not in command
            ]
            found += [
                f"{key}: {name}=-1 is missing: these metrics are for whoever asks"
                for command in starts
                for name in ("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT")
                if f"{name}=-1" not in command
            ]
            found += [
                f"{key}: --autoscaling-config is missing: no worker would ever start"
                for command in starts
                if "--autoscaling-config" not in command
            ]
    return found + [
        f"{path} mentions 0.0.0.0: nothing of ours listens on all interfaces"
        for path, leaf in walk(config)
        if isinstance(leaf, str) and "0.0.0.0" in leaf
    ]


def _mount_problems(mounts: dict[str, str]) -> list[str]:
    found = [
        f"file_mounts: {local} (for {remote}) does not exist here"
        for remote, local in mounts.items()
        if not Path(local).expanduser().exists()
    ]
    tokens = [local for remote, local in mounts.items() if remote.endswith(TOKEN_FILE)]
    if not tokens:
        found.append("file_mounts: nothing is copied to ~/.ray/auth_token: Ray would not start")
    found += [
        f"file_mounts: {local} can be read by others: chmod 600 {local}"
        for local in tokens
        if Path(local).expanduser().exists() and Path(local).expanduser().stat().st_mode & 0o077
    ]
    return found
