"""Jobs and their identity: the nodes of a sweep's graph.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

Stage = Literal[
    "index",
    "cache",
    "split",
    "weights",
    "pretrain",
    "retrain",
    "prepare",
    "simulate",
    "trial",
    "choose",
    "unlearn",
    "evaluate",
    "score",
    "true_tow",
    "sequence",
    "examine",
    "lira",
    "memorisation",
    "probe",
    "untrained",
    "completeness",
]
STAGES: tuple[Stage, ...] = get_args(Stage)


def stage_title(stage: Stage) -> str:
    """The stage as people read it."""
    return {"true_tow": "true ToW", "lira": "likelihood audit"}.get(stage, stage)


STAGE_VERSION: Mapping[Stage, int] = {
    **dict.fromkeys(STAGES, 1),
    "index": 2,
    "cache": 2,
    "pretrain": 2,
    "retrain": 2,
    "unlearn": 2,
    "evaluate": 2,
    "score": 5,
    "lira": 2,
}
"""Bumped by hand when a stage's meaning changes, so that its stored results no longer count."""

PICTURES = ("index", "cache", "crops")
"""Roles of the inputs from which pictures of the training data can be reached."""

TRAINING: tuple[Stage, ...] = ("pretrain", "retrain")
"""Stages that train the model."""

Reason = Literal[
    "new",
    "input changed",
    "method changed",
    "weights changed",
    "plugin changed",
    "version bumped",
    "damaged",
    "left out",
]
"""Why a job must run."""

CODE_AND_FILES: Mapping[str, Reason] = {
    "source": "method changed",
    "content": "weights changed",
    "loader": "plugin changed",
    "measures": "plugin changed",
}
"""Fields of a spec that are hashes of what a user may edit, and what is said when they differ; the
network's code is the field "source" of its field "model"."""

CHECKPOINTED: tuple[Stage, ...] = (*TRAINING, "prepare")
"""Stages that may take long, and so keep checkpoints."""


def canonical(value: Any) -> Any:
    """The form of a value that enters a key: one meaning, one form.

    Integral floats become integers, tuples become lists, mappings become dictionaries, which the
    JSON encoder sorts. What has that form already is returned itself, not a copy: the jobs of a
    large plan share what they are told alike.

    Raises:
        TypeError: A type that has no canonical form.
        ValueError: NaN or infinity.
    """
    # Plans of 100,000 jobs come through here with millions of values, most of them of these types.
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be part of a job's identity")
        return int(value) if value.is_integer() else value
    if isinstance(value, list | tuple):
        items = [canonical(item) for item in value]
        return value if kind is list and all(map(operator.is_, items, value)) else items
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys of a job's identity must be strings")
        found = {key: canonical(item) for key, item in value.items()}
        same = kind is dict and all(map(operator.is_, found.values(), value.values()))
        return value if same else found
    if isinstance(value, int | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be part of a job's identity")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: Any) -> str:
    """Compact JSON with sorted keys of ``canonical(value)``."""
    return _ENCODER.encode(canonical(value))


def digest(value: Any) -> str:
    """sha256 of the canonical JSON, hexadecimal."""
    return _sha256(canonical(value))


def _sha256(value: Any) -> str:
    return hashlib.sha256(_ENCODER.encode(value).encode()).hexdigest()


def _key(identity: Mapping[str, Any]) -> str:
    """Key of an identity whose parts are canonical, but for tuples of keys."""
    whole = _sha256(identity)
    spec = {name: it for name, it in identity["spec"].items() if name not in CODE_AND_FILES}
    if "source" in spec.get("model", ()):
        spec["model"] = {name: it for name, it in spec["model"].items() if name != "source"}
    meant = whole if spec == identity["spec"] else _sha256({**identity, "spec": spec})
    return meant[:8] + whole[8:16]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One node of the graph.

    Attributes:
        stage: Kind of job.
        spec: What to do, canonical JSON values only; everything in it can change the result.
        inputs: Key of the job behind each input, by role.
        series: Keys of the jobs behind the roles that several play, in their order.
        version: What the stage meant when the job was thought of; 0 for what it means today.
        label: For people, not part of the identity.
        key: 16 hex digits. The first half is of the identity's sha256 without hashes of code and
            files, so that a key tells what was meant by it before they changed; the second half
            is of the whole identity's.
    """

    stage: Stage
    spec: Mapping[str, Any]
    inputs: Mapping[str, str]
    series: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    version: int = 0
    label: str = field(compare=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", dict(canonical(self.spec)))
        object.__setattr__(self, "version", self.version or STAGE_VERSION[self.stage])
        object.__setattr__(self, "key", _key(self.identity))

    @property
    def identity(self) -> dict[str, Any]:
        """What the key is the hash of."""
        return {
            "stage": self.stage,
            "version": self.version,
            "spec": dict(self.spec),
            "inputs": {**self.inputs, **self.series},
        }

    @property
    def editable(self) -> tuple[Reason, ...]:
        """What a user may have edited, if the key was another before: the likeliest first."""
        reasons = [reason for name, reason in CODE_AND_FILES.items() if name in self.spec]
        if "source" in self.spec.get("model", ()):
            # Of a network's and a method's code a key does not tell which it was.
            reasons.insert(0, "plugin changed")
        return tuple(reasons)

    @cached_property
    def needed(self) -> dict[str, str]:
        """Key of every job that must be done before, by role; of a series as in "trials[3]"."""
        of_series = {
            f"{role}[{place}]": key
            for role, keys in self.series.items()
            for place, key in enumerate(keys)
        }
        return {**self.inputs, **of_series}

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The same keys, each once; the scheduler asks every ready job."""
        return tuple(dict.fromkeys(self.needed.values()))

    def key_at(self, version: int, earlier: Mapping[str, str]) -> str:
        """The key that the job had when its stage had another version, or needed jobs other keys.

        Args:
            version: Of the stage.
            earlier: The other keys, by today's; those that are left out were the same.
        """
        then = {role: earlier.get(key, key) for role, key in self.inputs.items()}
        series = {r: [earlier.get(key, key) for key in keys] for r, keys in self.series.items()}
        return _key({**self.identity, "version": version, "inputs": {**then, **series}})

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
            inputs={r: it for r, it in document["inputs"].items() if isinstance(it, str)},
            series={r: tuple(it) for r, it in document["inputs"].items() if isinstance(it, list)},
            version=document["version"],
            label=document["label"],
        )
        if job.key != document["key"]:
            raise ValueError(f"job document carries key {document['key']}, its content {job.key}")
        return job


def log_path(logs: Path, key: str) -> Path:
    """Where a job writes its log."""
    return logs / f"{key}.log"
