"""Finished sweeps with the command as the wheel brings it: export, report, a row again, diff."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.installed import Installed

ROWS = (
    *("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0]"),
    *("sweep.methods=[pretrain,retrain,ssd]", "output_dir=first"),
)


@pytest.mark.ray
@pytest.mark.long
def test_a_stranger_reads_an_archive_and_computes_a_row_again(
    installed: Installed, tmp_path: Path
) -> None:
    home, there = tmp_path / "home", tmp_path / "there"
    home.mkdir()
    there.mkdir()

    def done(*arguments: str, cwd: Path) -> str:
        ended = installed.run(*arguments, cwd=cwd)
        assert ended.status == 0, ended.out + ended.err
        return ended.out

    done(*ROWS, cwd=home)
    asked = ("mode=export", "to=x.tar.zst", "without=[weights,images]", "output_dir=first")
    done(*asked, cwd=home)
    table = (home / "first" / "report" / "summary.tex").read_bytes()
    subprocess.run(["tar", "--zstd", "-xf", str(home / "x.tar.zst")], cwd=there, check=True)
    home.rename(tmp_path / "away")
    shutil.rmtree(there / "smoke" / "report")
    done("mode=report", "output_dir=smoke", cwd=there)
    assert (there / "smoke" / "report" / "summary.tex").read_bytes() == table
    said = done(
        "mode=why", "row=synthetic_tiny 4 ssd tow", "run=true", "output_dir=smoke", cwd=there
    )
    assert "score ssd synthetic_tiny n4 s0: same content hash " in said
    assert "pretrain: 1 of 1 with the same content hash" in said
    first = tmp_path / "away" / "first"
    said = done("mode=diff", f"other={first}", "output_dir=smoke", cwd=there)
    assert "Rows: 3 the same, 0 changed" in said
    said = done("mode=join", f"from=[smoke,{first}]", "output_dir=both", cwd=there)
    assert "report: " in said
    assert "by stage" in done("mode=store", "output_dir=smoke", cwd=there)
