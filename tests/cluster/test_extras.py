"""What clusters need beyond a laptop is pinned, and stays away from laptops."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

PROJECT: dict[str, Any] = tomllib.loads(
    (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
)


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return found[0].lower()


@pytest.mark.parametrize("extra", ["cluster", "aws", "gcp", "cloud", "people"])
def test_every_package_of_an_extra_is_pinned(extra: str) -> None:
    pinned = {name_of(each) for each in PROJECT["tool"]["uv"]["constraint-dependencies"]}
    packages = PROJECT["project"]["optional-dependencies"][extra]
    assert packages
    assert {name_of(each) for each in packages} <= pinned


def test_rays_metrics_cannot_be_served_from_a_laptop() -> None:
    """They listen on all interfaces, without the token, where prometheus-client is installed."""
    assert importlib.util.find_spec("prometheus_client") is None
    everywhere = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    assert [each for each in everywhere if each.startswith("ray[")] == ["ray[tune]"]
