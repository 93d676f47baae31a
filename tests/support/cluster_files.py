"""The shipped cluster files with their blanks filled in, and programs that stand in for others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "cluster"
FILLED = {
    "FILL_REGION": "us-west-2",
    "FILL_ZONE": "us-west1-a",
    "FILL_AMI": "ami-0123456789abcdef0",
    "FILL_SUBNET": "subnet-0123456789abcdef0",
    "FILL_SECURITY_GROUP": "sg-0123456789abcdef0",
    "FILL_BUCKET": "a-bucket",
    "FILL_PROJECT": "a-project",
    "FILL_IMAGE": "projects/deeplearning-platform-release/global/images/an-image-v20261101",
    "FILL_HEAD_ACCOUNT": "oneshui-head@a-project.iam.gserviceaccount.com",
    "FILL_WORKER_ACCOUNT": "oneshui-worker@a-project.iam.gserviceaccount.com",
    "FILL_SSH_PUBLIC_KEY": "ubuntu:ssh-ed25519 AAAA ubuntu",
    "FILL_REGISTRY": "registry.example/team",
    "FILL_DIGEST": "sha256:" + "0123456789abcdef" * 4,
    "FILL_STORAGE_CLASS": "shared",
}


def filled(name: str, **others: str) -> dict[str, Any]:
    """A file of one document; every call returns new objects, anchors included."""
    values = FILLED | others
    text = (FOLDER / name).read_text(encoding="utf-8")
    text = re.sub("FILL_[A-Z_]+", lambda found: values.get(found[0], found[0]), text)
    parsed: dict[str, Any] = _unshared(yaml.safe_load(text))
    return parsed


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def write_program(folder: Path, name: str, text: str) -> None:
    """A shell script that is found under another program's name when its folder is on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
    program.chmod(0o755)
