from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from support.tiny import TinyProblem

from oneshui import methods
from oneshui.faces.generate import FacesSpec, generate_celebahq
from oneshui.methods import base
from oneshui.training.models import classifier_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def python_block(containing: str, text: str = README) -> str:
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


def test_the_example_method_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods.names()
    monkeypatch.setattr(base.METHODS, "known", dict(base.METHODS.known))
    (tmp_path / "shrink.py").write_text(python_block("class Shrink"))
    spec = importlib.util.spec_from_file_location("shrink", tmp_path / "shrink.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    method = methods.build("shrink", {"factor": 0.25})
    request = TinyProblem("convnext").unlearn_request()
    before, after = (
        classifier_of(model).weight for model in (request.model, method.unlearn(request))
    )
    assert torch.equal(after, before * 0.25)


def test_the_library_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate_celebahq(FacesSpec(identities=60, pictures=3, size=32), tmp_path / "faces")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    code = python_block("load_dataset", page).replace('"/data"', '"faces"').replace("=20", "=4")
    names: dict[str, object] = {}
    exec(compile(code, "library.md", "exec"), names)
    assert names["measures"]["tow"] == 1.0  # type: ignore[index]


def test_the_example_is_about_ten_lines() -> None:
    code = [line for line in python_block("class Shrink").splitlines() if line.strip()]
    body = [line for line in code if not line.startswith(("import", "from", '"""'))]
    assert len(body) <= 12


def test_the_commands_of_install_and_tests_stand_in_the_readme_and_ci_runs_the_tests() -> None:
    ci = (Path(__file__).parents[1] / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    known = README.splitlines()
    assert "pip install uv && uv run launch.py" in known
    tests = ["uv run pytest", "uv run pytest -m long"]
    assert [line for line in known if line.startswith("uv run pytest")] == tests
    assert [line for line in ci if line.startswith("uv run pytest")] == tests
