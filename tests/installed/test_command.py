"""The command as the wheel brings it, in folders whose names and files are the user's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import pytest
from support.commands import PROJECT
from support.installed import Installed

Form = Literal["oneshui", "python -m oneshui"]
FORMS: tuple[Form, ...] = ("oneshui", "python -m oneshui")


def test_the_wheel_brings_every_file_of_both_packages(installed: Installed) -> None:
    folders = (PROJECT / "oneshui", PROJECT / "sweeps")
    found = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    wanted = {str(p.relative_to(PROJECT)) for p in found if "__pycache__" not in p.parts}
    assert {"sweeps/conf/config.yaml", "oneshui/data/loaders/orl_labels.csv"} <= wanted
    assert not [name for name in sorted(wanted) if not (installed.site / name).is_file()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder, in which modules are called as ours and end whoever imports them."""
    for name in ("sweeps", "hydra", "ray"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('{name} of the user')\n")
    # A package of this name would be what Python runs for ``python -m oneshui``.
    (tmp_path / "oneshui").mkdir()
    (tmp_path / "oneshui" / "picture.png").touch()
    return tmp_path


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_are_the_same_program_and_name_themselves(
    form: Form, installed: Installed, folder: Path
) -> None:
    planned = installed.run("mode=plan", "sweep=smoke", cwd=folder, form=form)
    assert planned.status == 0, planned.err
    assert planned.out.startswith("sweep smoke: ")
    wrong = installed.run("sweep=smok", cwd=folder, form=form)
    assert (wrong.status, wrong.out) == (2, "")
    assert wrong.err.startswith("oneshui: unknown sweep 'smok'")
    helped = installed.run("--help", cwd=folder, form=form)
    typed = "oneshui" if form == "oneshui" else f"{sys.executable} -m oneshui"
    assert helped.out.startswith(f"usage: {typed} [key=value ...]")
    assert not (folder / "runs").exists()


_PARTIAL = """
import io, sys
from rich.console import Console
from sweeps.cli.partial import PartialReport
from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.schedule.scheduler import Scheduler
spec = load(sys.argv[1:])
plan = expand(spec.sweep)
console = Console(file=io.StringIO())
PartialReport(spec, plan, Scheduler(plan.jobs), console, leads=True)._write(print)
"""


@pytest.mark.ray
@pytest.mark.long
def test_a_sweep_runs_in_a_folder_of_the_user_s_and_describes_itself(
    installed: Installed, folder: Path
) -> None:
    small = ["sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0]"]
    small += ["sweep.methods=[pretrain,retrain,ssd]"]
    done = installed.run(*small, cwd=folder, form="python -m oneshui")
    assert done.status == 0, done.out + done.err
    assert "-m oneshui sweep=smoke" in done.out
    output = folder / "runs" / "smoke"
    # The process of the partial report, which begins by itself after minutes.
    partly = installed.python(_PARTIAL, *small, cwd=folder)
    assert "ssd" in partly.out, partly.err + (output / "logs" / "partial-report.log").read_text()
    table = (output / "report" / "summary.md").read_bytes()
    for path in (output / "report").glob("summary.*"):
        path.unlink()
    again = installed.run("mode=report", "output_dir=runs/smoke", cwd=folder)
    assert again.status == 0, again.err
    assert (output / "report" / "summary.md").read_bytes() == table
    same = installed.run("sweep=runs/smoke/sweep.yaml", cwd=folder)
    assert "nothing to do: all " in same.out, same.err
