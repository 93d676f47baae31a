"""Everything that a hostile method may try after deletion, under each protection."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.hostile import BY_PATH, REACHED, WAYS

from oneshui.enclosure import kernel

ROOT = Path(__file__).parents[3]
linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are enclosed on Linux")


@functools.cache
def outcomes(protection: str) -> dict[str, str]:
    """What became of each way, tried by a process that plays a warm worker."""
    done = subprocess.run(
        [sys.executable, "-m", "support.hostile", protection],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def reached(protection: str) -> set[str]:
    return {way for way, outcome in outcomes(protection).items() if outcome == REACHED}


def documented(protection: str) -> set[str]:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    heading = f"### What still succeeds under `{protection}`\n"
    (part,) = re.findall(re.escape(heading) + r"(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"^- (.+)$", part, re.MULTILINE))


def test_the_ways_are_many() -> None:
    assert len(BY_PATH) >= 25
    assert len(WAYS) >= 60


@pytest.mark.skipif(not kernel.landlock_abi(), reason="this kernel has no Landlock")
def test_under_landlock_nothing_is_reached() -> None:
    found = outcomes("landlock")
    assert found.keys() == WAYS.keys()
    assert reached("landlock") == set()
    # The ways fail for what they are refused, not for mistakes in them: see also the other lists.
    for way in ("torch's own reader", "pyarrow", "the guard taken away"):
        assert re.search(r"[Ee]rrno 13|was refused", found[way]), found[way]


@linux
@pytest.mark.parametrize("protection", ["audit, own process", "audit"])
def test_what_remains_without_it_is_what_the_document_says(protection: str) -> None:
    found = outcomes(protection)
    assert found.keys() == WAYS.keys()
    remaining = reached(protection)
    print(f"under {protection}:", *sorted(remaining), sep="\n  ")  # noqa: T201
    assert remaining == documented(protection)


@linux
def test_every_way_works_where_nothing_is_protected() -> None:
    # No process may trace itself; the others are no way of failing by mistake.
    assert WAYS.keys() - reached("nothing") == {"ptrace"}
