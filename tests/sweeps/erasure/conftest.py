"""A company with its kit, made once: a test that changes something copies it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.company import KIT, PREPARE, Company, found
from support.inline_command import Ended, inline_command

from oneshui import plugins


@pytest.fixture(autouse=True)
def _nothing_loaded() -> Iterator[None]:
    """Each test is a process of its own as far as the user's code goes."""
    plugins.load([])
    yield
    plugins.load([])


@pytest.fixture(scope="session")
def before_deletion(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """The company while its training data exist; nobody changes anything in it."""
    return found(tmp_path_factory.mktemp("company"))


@pytest.fixture(scope="session")
def made(before_deletion: Company, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A folder with its kit, and what the command said."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(before_deletion.folder)
        ended = inline_command(*PREPARE, f"out={folder / KIT}")
    plugins.load([])
    return folder, ended


@pytest.fixture
def company(
    before_deletion: Company,
    made: tuple[Path, Ended],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Company:
    """The company with its kit, its training data deleted; the working folder is its own."""
    shutil.copytree(before_deletion.folder, tmp_path / "company")
    shutil.copytree(made[0] / KIT, tmp_path / "company" / KIT)
    own = Company(tmp_path / "company")
    own.delete_data()
    monkeypatch.chdir(own.folder)
    return own
