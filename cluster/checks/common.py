"""Walking parsed YAML, and what no file for a cluster may contain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

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
