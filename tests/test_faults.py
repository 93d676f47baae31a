"""The faults that ``scripts/plant_faults.py`` plants: a list that fits the code."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parents[1]


def _plant_faults() -> ModuleType:
    """The script, which is no module of a package."""
    spec = importlib.util.spec_from_file_location(
        "plant_faults", PROJECT / "scripts" / "plant_faults.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up annotations
    spec.loader.exec_module(module)
    return module


plant_faults = _plant_faults()
FAULTS = plant_faults.faults()


def test_there_are_enough_of_them() -> None:
    assert len(FAULTS) >= 200


def test_each_has_a_name_of_its_own() -> None:
    names = Counter(fault.name for fault in FAULTS)
    assert [name for name, count in names.items() if count > 1] == []


def test_each_fits_the_code() -> None:
    """A change of the code has to change the list with it."""
    problems = []
    for fault in FAULTS:
        try:
            fault.planted((PROJECT / fault.file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(str(error))
    assert problems == []


@pytest.mark.parametrize(
    ("find", "replace", "problem"),
    [
        ("absent", "x", "once, not 0x"),
        ("1", "2", "once, not 2x"),
        ("b = 1", "b = (1", "does not parse"),
        ("b = 1", "b =  1", "changes nothing"),
    ],
)
def test_a_fault_that_does_not_fit_is_refused(find: str, replace: str, problem: str) -> None:
    fault = plant_faults.Fault(name="some", file="some.py", find=find, replace=replace)
    with pytest.raises(ValueError, match=problem):
        fault.planted("a = 1\nb = 1\n")


def test_a_fault_is_planted_where_its_text_stands() -> None:
    fault = plant_faults.Fault(name="some", file="some.py", find="b = 1", replace="b = 2")
    assert fault.planted("a = 1\nb = 1\n") == "a = 1\nb = 2\n"


CODE = """def double(number): return 2 * number
def triple(number): return 3 * number
def same(number): return number
"""
FAULT = """[[fault]]
name = "{name}"
file = "sweeps/thing.py"
find = "return {find}"
replace = "return {replace}"
"""


def run(project: Path, files: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Plant the faults of a project of a few lines; the exit status and all that was said."""
    subprocess.run(["git", "init", "--quiet", str(project)], check=True)
    settings = '[tool.pytest.ini_options]\nmarkers = ["slow", "long"]\npythonpath = ["."]\n'
    own = {"pyproject.toml": settings, "sweeps/__init__.py": "", "sweeps/thing.py": CODE}
    for name, text in {**own, **files}.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    script = shutil.copy2(PROJECT / "scripts" / "plant_faults.py", project / "scripts")
    command = [sys.executable, str(script), "--jobs", "1", *arguments]
    # Of the plugins, which take longer than these tests, the one that has the option -n.
    quick = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}
    environment = {**os.environ, **quick}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_each_fault_is_told_with_the_nearest_test_that_noticed_it(tmp_path: Path) -> None:
    uses = "from sweeps import thing\n\n\ndef test_{name}():\n    assert thing.{call}\n"
    listed = [
        FAULT.format(name="double is triple", find="2 *", replace="3 *"),
        FAULT.format(name="triple is double", find="3 *", replace="2 *"),
        FAULT.format(name="same is another", find="number\\n", replace="-number\\n"),
        FAULT.format(name="the other way round", find="2 * number", replace="number * 2")
        + 'equivalent = "multiplication commutes"\n',
    ]
    status, said = run(
        tmp_path,
        {
            "scripts/faults/few.toml": "".join(listed),
            "tests/sweeps/test_thing.py": uses.format(name="double", call="double(2) == 4"),
            "tests/test_far.py": uses.format(name="triple", call="triple(2) == 6"),
        },
        "--least",
        "0.67",
    )
    lines = [line.partition(" (about")[0] for line in said.splitlines()]
    assert lines[:4] == [
        "1/4 sweeps/thing.py: double is triple: nearest tests/sweeps/test_thing.py::test_double",
        "2/4 sweeps/thing.py: triple is double: all     tests/test_far.py::test_triple",
        "3/4 sweeps/thing.py: same is another: MISSED",
        "4/4 sweeps/thing.py: the other way round: MISSED",
    ]
    table, *rest = lines[6:]
    assert table.split() == ["sweeps", "1", "0", "1", "1"]
    assert rest == [
        "missed: sweeps/thing.py: same is another",
        "equivalent: sweeps/thing.py: the other way round (multiplication commutes)",
        "2 of 3 faults noticed by the fast tests: 66.7%",
    ]
    assert status == 1
    assert (tmp_path / "sweeps" / "thing.py").read_text() == CODE


@pytest.mark.parametrize("name", ["tests/sweeps/test_thing.py", "tests/test_far.py"])
def test_a_test_that_fails_by_itself_is_no_witness(tmp_path: Path, name: str) -> None:
    listed = FAULT.format(name="double is triple", find="2 *", replace="3 *")
    files = {
        "scripts/faults/few.toml": listed,
        "tests/sweeps/test_thing.py": "",
        name: "def test_broken():\n    assert not 1\n",
    }
    status, said = run(tmp_path, files)
    assert status == 2
    assert f"{name}::test_broken fails without any fault; mend it first" in said
