"""Unlearning methods: one file each, found by name."""

from oneshui.methods.base import (
    CheckedMethod,
    Method,
    PreparedMethod,
    Range,
    build,
    get,
    hyperparameters,
    names,
    nothing_of,
    prepare_hyperparameters,
    reference_of,
    register,
    relative_space_of,
    role_of,
)
from oneshui.sources import source_of

__all__ = [
    "CheckedMethod",
    "Method",
    "PreparedMethod",
    "Range",
    "build",
    "get",
    "hyperparameters",
    "names",
    "nothing_of",
    "prepare_hyperparameters",
    "reference_of",
    "register",
    "relative_space_of",
    "role_of",
    "source_of",
]
