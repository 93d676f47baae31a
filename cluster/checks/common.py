"""Walking parsed YAML, what no file for a cluster may contain, and what all clouds have alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

NodeConfig = dict[str, Any]
Check = Callable[[NodeConfig], Iterable[str]]

SECRETS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a Google API key": re.compile(r"\bAIza[\w-]{35}\b"),
    "a token of a model hub or forge": re.compile(r"\b(hf_|ghp_|github_pat_)\w{20,}"),
    "a password in a URL": re.compile(r"://[^/\s:@]+:[^/\s:@$]+@"),
    "a secret's value": re.compile(
        r"(?i)\b\w*(password|secret_access_key|auth_token|api_key)\s*[=:]\s*[\"']?[\w+/-]{8,}"
    ),
}


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All leaves with their paths, as in ``available_node_types.head.resources.CPU``."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from walk(inner, f"{path}[{index}]")
    else:
        yield path, value


def secret_problems(text: str) -> list[str]:
    """Secrets that were written into a file."""
    return [
        f"contains {name}: take it from a file on the machine or a Secret"
        for name, pattern in SECRETS.items()
        if pattern.search(text)
    ]


def blanks(value: Any) -> list[str]:
    """Fields that a person has not filled in yet."""
    return [
        f"fill in {', '.join(re.findall(r'FILL_[A-Z_]+', leaf))} at {path}"
        for path, leaf in walk(value)
        if isinstance(leaf, str) and "FILL_" in leaf
    ]


def node_type_problems(
    config: dict[str, Any], all_types: Sequence[Check], workers: Check, head: Check
) -> list[str]:
    """What is wrong with each ``node_config``, a line each that begins with the node type's name.

    Args:
        config: A launcher file.
        all_types: Checks of every node type.
        workers: Further check of those that are not the head.
        head: Further check of the head.
    """
    found = []
    for name, node in config["available_node_types"].items():
        for check in (*all_types, head if name == config["head_node_type"] else workers):
            found += [f"{name}: {problem}" for problem in check(node["node_config"])]
    return found


def spot_problems(
    config: dict[str, Any], is_spot: Callable[[NodeConfig], bool], key: str
) -> list[str]:
    """Whether workers are asked for as spot machines; the provider turns to others by itself.

    Args:
        config: A launcher file.
        is_spot: Whether a ``node_config`` asks for a spot machine.
        key: What in a ``node_config`` asks for one, for people.
    """
    types = config["available_node_types"]
    return [
        f"{name}: asks for no spot machine ({key})"
        for name, node in types.items()
        if name != config["head_node_type"] and not is_spot(node["node_config"])
    ]


def identity_problems(
    config: dict[str, Any], identity: Callable[[NodeConfig], Any], what: str
) -> list[str]:
    """Whether a worker acts under the head's name, which may start machines.

    Args:
        config: A launcher file.
        identity: The name that a ``node_config`` gives its machines.
        what: What such a name is called, for people.
    """
    head = config["head_node_type"]
    names = {
        name: identity(node["node_config"]) for name, node in config["available_node_types"].items()
    }
    if any(names[name] == names[head] for name in names if name != head):
        return [f"workers have the head's {what}: they could start machines"]
    return []
