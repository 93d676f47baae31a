"""How jobs fail, and how often each way is worth another attempt. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FailureKind = Literal[
    "input",
    "disk",
    "numerical",
    "access",
    "memory",
    "damaged",
    "hung",
    "lost",
    "preempted",
    "error",
]

ATTEMPTS: Mapping[FailureKind, int] = {
    "input": 1,
    "disk": 1,
    "numerical": 1,
    "access": 1,
    "memory": 2,
    "damaged": 3,
    "hung": 3,
    "lost": 6,
    "preempted": 1000,
    "error": 2,
}
"""How often a job may fail in a way before it counts as failed. Input, arithmetic and forbidden
access do not get better by repetition; a lost worker is nobody's fault, but a job that kills
every worker is; a machine that was taken away says nothing about the job."""

STOPPING: frozenset[FailureKind] = frozenset({"input", "disk"})
"""Failures that are for the user to mend: nothing further starts."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a job did not finish.

    Attributes:
        kind: Class of the failure.
        message: One line.
        damaged: Key of the input that was damaged, for that kind.
    """

    kind: FailureKind
    message: str
    damaged: str = ""
