"""What a stored result says of itself: every file with its size and sha256, and its value."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.graph.job import Job, canonical, digest

MANIFEST = "result.json"


def sha256(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.lru_cache(maxsize=4096)
def sha256_of(path: Path, _modified: int, _size: int) -> str:
    """As ``sha256``, once per process while the file's time and size stay."""
    return sha256(path)


def encoded(document: Mapping[str, Any]) -> bytes:
    """A document as it is stored."""
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def manifest(
    job: Job,
    folder: Path,
    value: Mapping[str, Any],
    inputs: Mapping[str, str],
    cost: Mapping[str, Any],
) -> dict[str, Any]:
    """Add ``job.json`` to a complete folder and say what is in it."""
    (folder / "job.json").write_bytes(encoded(job.to_json()))
    names = sorted(path.name for path in folder.iterdir())
    files = {
        name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
        for name in names
    }
    value = canonical(value)
    return {
        "stage": job.stage,
        "key": job.key,
        "files": files,
        "value": value,
        "content": digest({"files": {n: files[n]["sha256"] for n in names}, "value": value}),
        "inputs": dict(inputs),
        "cost": dict(cost),
    }
