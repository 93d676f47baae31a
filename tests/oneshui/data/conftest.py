"""A drawn set of faces for the files that read one, and a copy that a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from oneshui.faces.generate import generate


@pytest.fixture(scope="module")
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set that the module's LAYOUT and SPEC name."""
    folder = tmp_path_factory.mktemp("faces") / "set"
    generate(request.module.LAYOUT, request.module.SPEC, folder)
    return folder


@pytest.fixture
def data_dir(pristine: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(pristine, copy)
    return copy
