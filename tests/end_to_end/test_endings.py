"""Methods that end their process, in real workers: the row fails with its reason, others finish."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import ONE, PROJECT, results

pytestmark = [pytest.mark.long, pytest.mark.ray]

METHODS = '''
"""Methods that end their process instead of returning."""

import copy
import os
import signal
import sys
from dataclasses import dataclass

from oneshui.methods.base import register
from oneshui.spec import Access


def ends(name, access, unlearn):
    def run(self, request):
        unlearn()
        return copy.deepcopy(request.model)

    fields = {"name": name, "access": access, "search_space": {}, "unlearn": run}
    register(dataclass(frozen=True, kw_only=True)(type(name.title(), (), fields)))


ends("leaves", Access.SUPPORT, lambda: sys.exit(5))
ends("vanishes", Access.SUPPORT, lambda: os._exit(3))
ends("crashes", Access.SUPPORT, lambda: os.kill(os.getpid(), signal.SIGSEGV))
ends("killed", Access.SUPPORT, lambda: os.kill(os.getpid(), signal.SIGKILL))
ends("leaves_full", Access.FULL, lambda: sys.exit(5))
ends("vanishes_full", Access.FULL, lambda: os._exit(3))


@register
@dataclass(frozen=True, kw_only=True)
class Unprepared:
    name = "unprepared"
    access = Access.PREPARED
    search_space = {}
    prepare_fields = ()

    def prepare(self, request):
        os._exit(0)

    def unlearn(self, request):
        return copy.deepcopy(request.model)
'''

REASONS = {
    "leaves": "method leaves raised SystemExit(5) instead of returning",
    "vanishes": "method vanishes ended its process with status 3 instead of returning",
    "crashes": "method crashes ended its process by SIGSEGV instead of returning",
    "killed": "the process of method killed was killed, as if memory ran out",
    "leaves_full": "its code called sys.exit(5)",
    "vanishes_full": "its worker process ended without a result",
    "unprepared": "method unprepared ended its process with status 0 instead of returning",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the sources with one more file of methods."""
    for name in ("oneshui", "sweeps"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, tmp_path / "sources" / name, ignore=ignored)
    shutil.copy(PROJECT / "launch.py", tmp_path / "sources")
    (tmp_path / "sources" / "oneshui" / "methods" / "endings.py").write_text(METHODS)
    return tmp_path / "sources"


def test_a_method_that_ends_its_process_fails_its_row_and_no_more(
    project: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    methods = ",".join(["pretrain", "retrain", *REASONS])
    done = subprocess.run(
        [
            *(sys.executable, str(project / "launch.py"), "sweep=smoke", ONE, "sweep.seeds=[0]"),
            *(f"sweep.methods=[{methods}]", f"output_dir={output}"),
        ],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    failed = [line for line in done.stdout.splitlines() if line.startswith("failed: ")]
    assert len(failed) == len(REASONS), said
    for name, reason in REASONS.items():
        assert any(f" {name} " in line and reason in line for line in failed), said
    frame = results(output).set_index("method")
    assert frame.loc[["pretrain", "retrain"], "tow"].notna().all()
    assert frame.loc[list(REASONS), "tow"].isna().all()
