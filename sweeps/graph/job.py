"""Jobs and their identity: the nodes of a sweep's graph.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

Stage = Literal[
    "index",
    "cache",
    "split",
    "pretrain",
    "retrain",
    "prepare",
    "rehearse",
    "propose",
    "choose",
    "unlearn",
    "evaluate",
    "score",
    "reveal",
]
STAGES: tuple[Stage, ...] = get_args(Stage)

STAGE_VERSION: Mapping[Stage, int] = {
    **dict.fromkeys(STAGES, 1),
    "pretrain": 2,
    "retrain": 2,
    "evaluate": 2,
    "score": 2,
}
"""Bumped by hand when a stage's meaning changes, so that its stored results no longer count."""

PICTURES = ("index", "cache", "crops")
"""Roles of the inputs from which pictures of the training data can be reached."""

TRAINING: tuple[Stage, ...] = ("pretrain", "retrain")
"""Stages that train the model."""

CHECKPOINTED: tuple[Stage, ...] = (*TRAINING, "prepare")
"""Stages that may take long, and so keep checkpoints."""


def canonical(value: Any) -> Any:
    """The form of a value that enters a key: one meaning, one form.

    Integral floats become integers, tuples become lists, mappings are sorted by the JSON encoder.

    Raises:
        TypeError: A type that has no canonical form.
        ValueError: NaN or infinity.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} cannot be part of a job's identity")
            return int(value) if value.is_integer() else value
        case list() | tuple():
            return [canonical(item) for item in value]
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise TypeError("keys of a job's identity must be strings")
            return {key: canonical(item) for key, item in value.items()}
    raise TypeError(f"{type(value).__name__} cannot be part of a job's identity")


def canonical_json(value: Any) -> str:
    """Compact JSON with sorted keys of ``canonical(value)``."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON, hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Job:
    """One node of the graph.

    Attributes:
        stage: Kind of job.
        spec: What to do, canonical JSON values only; everything in it can change the result.
        inputs: Key of the job behind each input, by role.
        label: For people, not part of the identity.
        key: First 16 hex digits of the identity's sha256.
    """

    stage: Stage
    spec: Mapping[str, Any]
    inputs: Mapping[str, str]
    label: str = field(compare=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", canonical(self.spec))
        object.__setattr__(self, "key", digest(self.identity)[:16])

    @property
    def identity(self) -> dict[str, Any]:
        """What the key is the hash of."""
        return {
            "stage": self.stage,
            "version": STAGE_VERSION[self.stage],
            "spec": dict(self.spec),
            "inputs": dict(self.inputs),
        }

    def key_at(self, version: int, inputs: Mapping[str, str]) -> str:
        """The key that the job had when its stage had another version, or its inputs other keys."""
        return digest({**self.identity, "version": version, "inputs": dict(inputs)})[:16]

    def to_json(self) -> dict[str, Any]:
        """The identity with label and key, as it is written beside a result."""
        return {**self.identity, "label": self.label, "key": self.key}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Job:
        """The job of a document that ``to_json`` made.

        Raises:
            ValueError: The key in it is not the key of its content.
        """
        job = cls(
            stage=cast(Stage, document["stage"]),
            spec=document["spec"],
            inputs=document["inputs"],
            label=document["label"],
        )
        if job.key != document["key"]:
            raise ValueError(f"job document carries key {document['key']}, its content {job.key}")
        return job


def log_path(logs: Path, key: str) -> Path:
    """Where a job writes its log."""
    return logs / f"{key}.log"
