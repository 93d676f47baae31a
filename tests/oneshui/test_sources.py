"""Which edits make a method's results others', and which do not."""

from __future__ import annotations

import importlib
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from oneshui import methods
from oneshui.errors import InputError
from oneshui.sources import source_of, sources

PLUGIN = {
    "__init__.py": "",
    "erase.py": "from .steps import step\nclass Erase:\n    pass\n",
    "steps.py": "def step():\n    from theplugin.deep import far\n    import numpy, oneshui.spec\n",
    "deep/__init__.py": "from . import far\n",
    "deep/far.py": "SIGN = 1\n",
    "unused.py": "X = 1\n",
}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of five files, of which the method's imports three more than its own."""
    for name, text in PLUGIN.items():
        file = tmp_path / "first" / "theplugin" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "first"))
    yield tmp_path / "first" / "theplugin"
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith(("theplugin", "lonely"))]:
        del sys.modules[name]
    source_of.cache_clear()


def hash_now() -> str:
    forget()
    importlib.invalidate_caches()
    cls: type = importlib.import_module("theplugin.erase").Erase
    return source_of(cls)


def test_the_method_s_file_and_all_it_imports_of_its_package_count(plugin: Path) -> None:
    before = hash_now()
    assert len(before) == 16
    assert set(sources("theplugin.erase")) == {
        "theplugin",
        "theplugin.erase",
        "theplugin.steps",
        "theplugin.deep",
        "theplugin.deep.far",
    }
    for name in ("erase.py", "steps.py", "deep/far.py", "deep/__init__.py", "__init__.py"):
        text = (plugin / name).read_text()
        (plugin / name).write_text(f"{text}# edited\n")
        assert hash_now() != before, name
        (plugin / name).write_text(text)
    assert hash_now() == before
    (plugin / "unused.py").write_text("X = 2\n")
    assert hash_now() == before


def test_neither_place_nor_line_ends_nor_time_count(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hash_now()
    shutil.move(plugin, tmp_path / "second" / "theplugin")
    monkeypatch.syspath_prepend(str(tmp_path / "second"))
    moved = tmp_path / "second" / "theplugin" / "erase.py"
    moved.write_bytes(moved.read_bytes().replace(b"\n", b"\r\n"))
    assert hash_now() == before


def test_a_single_file_s_neighbours_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lonely.py").write_text(
        "import lonely_steps, json, torch\nclass Erase:\n    pass\n"
    )
    (tmp_path / "lonely_steps.py").write_text("SIGN = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    importlib.import_module("lonely")
    assert set(sources("lonely")) == {"lonely", "lonely_steps"}
    forget()


def test_what_is_installed_goes_before_a_neighbour_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lonely.py").write_text("import torch, json, numpy.linalg\n")
    for name in ("torch.py", "json.py", "numpy.py"):
        (tmp_path / name).write_text("X = 1\n")
    # As plugins have it: after all that is installed.
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    importlib.invalidate_caches()
    importlib.import_module("lonely")
    assert set(sources("lonely")) == {"lonely"}
    forget()


def test_code_of_the_user_s_counts_in_whichever_folder_python_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "lonely_steps.py").write_text("SIGN = 1\n")
    (tmp_path / "lonely.py").write_text("import lonely_steps\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path), str(tmp_path / "elsewhere")])
    importlib.invalidate_caches()
    importlib.import_module("lonely")
    assert set(sources("lonely")) == {"lonely", "lonely_steps"}
    forget()


def test_an_import_that_python_would_refuse_is_none_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lonely.py").write_text("def late():\n    from . import steps\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    importlib.import_module("lonely")
    assert set(sources("lonely")) == {"lonely"}
    forget()


def test_what_a_package_may_read_beside_its_code_counts(plugin: Path) -> None:
    before = hash_now()
    (plugin / "deep" / "table.json").write_text("[1]")
    (plugin / "__pycache__").mkdir(exist_ok=True)
    with_table = hash_now()
    assert with_table != before
    for name in (".hidden", "__pycache__/erase.pyc"):
        (plugin / name).write_text("changes from day to day")
    assert hash_now() == with_table
    (plugin / "deep" / "table.json").write_text("[2]")
    assert hash_now() not in (before, with_table)


def test_a_function_that_a_file_has_from_another_counts_with_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lonely_helps.py").write_text("def wrap(f):\n    return lambda *a: f(*a)\n")
    text = "from lonely_helps import wrap\n@wrap\ndef make():\n    return 1\n"
    (tmp_path / "lonely.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    make = importlib.import_module("lonely").make
    before = source_of(make, "lonely")
    assert before != source_of(make)
    (tmp_path / "lonely.py").write_text(text.replace("1", "2"))
    source_of.cache_clear()
    assert source_of(make, "lonely") != before
    forget()


def test_our_methods_know_their_helpers_and_not_the_frame_that_holds_them() -> None:
    assert "scrub" in methods.names()
    assert set(sources("oneshui.methods.scrub")) == {
        f"oneshui.methods.{name}" for name in ("scrub", "_distillation", "_sgd", "_teachers")
    }
    inside = {"", ".loss_net", ".objective", ".sampler"}
    known = set(sources("oneshui.methods.metaunlearn"))
    assert known == {f"oneshui.methods.metaunlearn{it}" for it in inside} | {"oneshui.methods._sgd"}
    # One file may hold several methods; a method in another file is another.
    of = {name: source_of(methods.get(name)) for name in methods.names()}
    assert of["scrub"] == of["scrub_support"]
    assert len(set(of.values())) == len(of) - 2


def test_code_that_nobody_could_read_again_is_refused() -> None:
    typed: type = type("Typed", (), {"__module__": "typed_in"})
    sys.modules["typed_in"] = types.ModuleType("typed_in")
    try:
        with pytest.raises(InputError, match=r"typed_in has no source file.*put it into a file"):
            source_of(typed)
    finally:
        del sys.modules["typed_in"]


def test_a_method_that_builds_on_one_of_ours_has_its_code_too(plugin: Path) -> None:
    (plugin / "steps.py").write_text("from oneshui.methods.ssd import SSD as step\n")
    hash_now()
    found = sources("theplugin.erase")
    assert {"oneshui.methods.ssd", "oneshui.methods._importance"} <= set(found)
    assert not set(found) & {"oneshui.methods", "oneshui.methods.base", "oneshui.spec"}


def test_a_class_that_calls_itself_python_s_own_has_no_source() -> None:
    made = types.new_class("Made")
    made.__module__ = "types"
    with pytest.raises(InputError, match="module types has no source file"):
        source_of(made)
