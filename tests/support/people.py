"""Tests of real faces and real weights, which skip where their packages are not installed."""

from __future__ import annotations

import importlib.util

import pytest

from oneshui.data.loaders import orl
from oneshui.named_weights import NAMED

PACKAGES = (orl.PACKAGE, *(one.package for one in NAMED.values()))
ABSENT = [one.name for one in PACKAGES if importlib.util.find_spec(one.module) is None]

needs_people = pytest.mark.skipif(
    bool(ABSENT), reason=f"{', '.join(ABSENT)} not installed: uv sync --extra people"
)
