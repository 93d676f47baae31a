"""The faults that ``scripts/plant_faults.py`` plants: a list that fits the code."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
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
