from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from oneshui import origin


def test_a_changed_checkout_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = tmp_path / "oneshui" / "origin.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    monkeypatch.setattr(origin, "__file__", str(module))
    assert origin.git_commit() is None

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, timeout=60)

    git("init", "-q")
    assert origin.git_commit() is None
    git("add", ".")
    git("commit", "-q", "-m", "first")
    commit = origin.git_commit()
    assert commit is not None
    assert len(commit) == 40
    module.write_text("changed")
    assert origin.git_commit() == f"{commit} with uncommitted changes"
    # A checkout that merely lies around the folder is not ours.
    nested = tmp_path / "site-packages" / "oneshui" / "origin.py"
    nested.parent.mkdir(parents=True)
    monkeypatch.setattr(origin, "__file__", str(nested))
    assert origin.git_commit() is None


def test_versions_are_those_that_are_installed() -> None:
    import numpy
    import pandas

    found = origin.versions("ray", "mlflow")
    assert (found["numpy"], found["pandas"]) == (numpy.__version__, pandas.__version__)
    assert list(found)[:2] == ["python", "oneshui"]
    assert {"torch", "torchvision", "timm", "scikit-learn", "ray", "mlflow"} <= found.keys()
