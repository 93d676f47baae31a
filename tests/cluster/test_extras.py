"""What clusters need beyond a laptop is pinned, and stays away from laptops."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def closure(names: list[str]) -> set[str]:
    """What an installation of these packages brings here, themselves included."""
    found: set[str] = set()
    waiting = [(Requirement(name).name, Requirement(name).extras) for name in names]
    for name, extras in waiting:
        found.add(canonicalize_name(name))
        for text in importlib.metadata.requires(name) or ():
            needed = Requirement(text)
            own = [{"extra": extra} for extra in (extras or {""})]
            is_new = (needed.name, needed.extras) not in waiting
            if is_new and (not needed.marker or any(map(needed.marker.evaluate, own))):
                waiting.append((needed.name, needed.extras))
    return found


def test_the_tested_versions_can_be_installed() -> None:
    project = PROJECT["project"]
    pinned = PROJECT["tool"]["uv"]["constraint-dependencies"]
    tested = {canonicalize_name(Requirement(each).name): each for each in pinned}
    locked = project["optional-dependencies"]["locked"]
    names = {canonicalize_name(Requirement(each).name): each for each in locked}
    assert len(names) == len(locked)
    for name, each in names.items():
        assert Requirement(each).specifier == Requirement(tested[name]).specifier, name
    # torch names its own to the digit, and not every machine has a GPU.
    of_torch = re.compile("nvidia-.*|cuda-.*|triton")
    brought = {each for each in closure(project["dependencies"]) if not of_torch.fullmatch(each)}
    assert brought <= names.keys()


def test_rays_metrics_cannot_be_served_from_a_laptop() -> None:
    """They listen on all interfaces, without the token, where prometheus-client is installed."""
    assert importlib.util.find_spec("prometheus_client") is None
    everywhere = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    assert [each for each in everywhere if each.startswith("ray[")] == ["ray[tune]>=2.54"]
