"""A user's own code with the command as the wheel brings it: through Ray, and after it is gone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from support.installed import Installed

MINE = {
    "shrink_all.py": """
import copy
from dataclasses import dataclass
from oneshui.methods import Range, register
from oneshui.spec import Access


@register
@dataclass(frozen=True, kw_only=True)
class ShrinkAll:
    name = "shrink_all"
    access = Access.SUPPORT
    search_space = {"factor": Range(low=0.1, high=1.0)}
    factor: float = 0.5

    def unlearn(self, request):
        from shrinking_beside import shrink

        return shrink(copy.deepcopy(request.model), self.factor)
""",
    "shrinking_beside.py": """
def shrink(model, factor):
    for weight in model.parameters():
        weight.data.mul_(factor)
    return model
""",
    "copied.py": '''
from oneshui.metrics import measure


@measure("is_copy", title="copy", better="higher")
def is_copy(outcome):
    """Whether the code that measures is the copy which a worker was handed."""
    return float("/mine/" not in __file__)
''',
}
THEIRS = {
    "theirs.py": '''
from oneshui.metrics import measure


@measure("forget_loss_ratio", unit="number")
def forget_loss_ratio(outcome):
    """Mean loss on forget images over the retrained model's."""
    return outcome.losses("forget").mean() / outcome.losses("forget", retrained=True).mean()
''',
    "theirs-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n",
    "theirs-1.0.dist-info/entry_points.txt": "[oneshui]\nratio = theirs\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.ray
@pytest.mark.long
def test_own_code_runs_in_workers_and_its_report_outlives_it(
    installed: Installed, tmp_path: Path
) -> None:
    mine = write(tmp_path / "mine", MINE)
    theirs = write(tmp_path / "site-packages", THEIRS)
    env = {"PYTHONPATH": os.pathsep.join([str(installed.site), str(theirs)])}
    own = f"plugins=[{mine}/shrink_all.py,../mine/copied.py]"
    small = ["sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0]", own]
    small += ["sweep.methods=[pretrain,retrain,shrink_all]", "sweep.training.epochs=1"]
    folder = tmp_path / "work"
    folder.mkdir()
    done = installed.run(*small, cwd=folder, env=env)
    assert done.status == 0, done.out + done.err
    output = folder / "runs" / "smoke"
    frame = pd.read_parquet(output / "report" / "results.parquet").set_index("method")
    assert list(frame.columns)[-2:] == ["forget_loss_ratio", "is_copy"]
    assert frame["is_copy"].tolist() == [1.0] * 3
    assert frame.loc["retrain", "forget_loss_ratio"] == 1.0
    said = yaml.safe_load((output / "sweep.yaml").read_text())["plugins"]
    assert [one["name"] for one in said] == [
        f"{mine}/shrink_all.py",
        "../mine/copied.py",
        "ratio of theirs (installed)",
    ]
    kept = [{path.name for path in (output / one["sources"]).iterdir()} for one in said]
    assert kept == [{"shrink_all.py", "shrinking_beside.py"}, {"copied.py"}, {"theirs.py"}]
    shutil.rmtree(mine)
    table = (output / "report" / "summary.md").read_bytes()
    assert b"| copy |" in table
    (output / "report" / "summary.md").unlink()
    again = installed.run("mode=report", "output_dir=runs/smoke", cwd=folder)
    assert again.status == 0, again.err
    assert (output / "report" / "summary.md").read_bytes() == table
    refused = installed.run("sweep=runs/smoke/sweep.yaml", "mode=plan", cwd=folder)
    assert refused.status == 2
    assert refused.err.count("\n") == 1
    assert f"the plugin {mine}/shrink_all.py is not there" in refused.err
