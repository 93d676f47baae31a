"""The recipes of CONTRIBUTING.md, carried out to the letter in a copy of both packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.inline_sweep import InlineSweep, inline_sweep

ROOT = Path(__file__).parents[1]
STEP = re.compile(r"In `([^`]+)`, (?:a new file|after `([^`]+)`):\n\n```\w+\n(.*?)```", re.DOTALL)


def section(title: str) -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(rf"^### {title}\n(.*?)(?=^### |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found.group(1)


def follow(title: str, folder: Path) -> None:
    """Copy both packages and do what a recipe says."""
    for package in ("oneshui", "sweeps"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    steps = STEP.findall(section(title))
    assert steps
    for name, line, text in steps:
        path = folder / name
        if not line:
            assert not path.exists()
            path.write_text(text, encoding="utf-8")
            continue
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (place,) = [at for at, own in enumerate(lines) if own.split("#")[0].rstrip() == line]
        path.write_text("".join([*lines[: place + 1], text, *lines[place + 1 :]]), "utf-8")


def python(folder: Path, code: str, *arguments: str, **environment: str) -> str:
    """What a script prints in which the copy stands before the checkout."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AZURE_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**own, "PYTHONPATH": str(folder), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    return inline_sweep(
        tmp_path_factory.mktemp("finished"),
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny]",
        "sweep.methods=[pretrain,retrain,gradient_ascent]",
    )


def test_a_method(tmp_path: Path) -> None:
    follow("A method", tmp_path)
    planned = python(
        tmp_path,
        "from sweeps.config import load; from sweeps.graph.plan import expand\n"
        "plan = expand(load(['sweep=smoke', 'sweep.methods=[shrink]']).sweep)\n"
        "print({(r.row.method, r.row.hyperparameters['factor']) for r in plan.results})",
    )
    assert planned == "{('shrink', 0.5)}\n"


def test_a_dataset(tmp_path: Path) -> None:
    follow("A dataset", tmp_path)
    for number in range(3):
        for kind in ("cat", "dog"):
            animal = tmp_path / "data" / "pets" / f"{kind}_{number:03d}"
            animal.mkdir(parents=True)
            for picture in range(2):
                Image.new("RGB", (8, 8), (number, picture, 0)).save(animal / f"{picture}.png")
    read = python(
        tmp_path,
        "import oneshui; table = oneshui.load_dataset('pets', 'data')\n"
        "print(len(table), table.identity.tolist(), table.label.tolist())\n"
        "from sweeps.config import load; from sweeps.graph.plan import expand\n"
        "plan = expand(load(['sweep=smoke', 'sweep.datasets=[pets]']).sweep)\n"
        "print({(r.cell.dataset, r.cell.num_forget) for r in plan.results})",
    )
    assert read == (
        "12 [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]\n"
        "{('pets', 5)}\n"
    )


REPORT = """
import json, sys
from pathlib import Path
from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.report.results import results_frame
from sweeps.report.summary import summarise
from sweeps.store import open_store
from sweeps.store.status import scan
plan = expand(load(json.loads(sys.argv[1])).sweep)
entries = scan(plan, open_store(sys.argv[2]), discard=False).entries
frame = results_frame(plan, entries)
"""


def overrides(finished: InlineSweep) -> str:
    methods = ",".join(dict.fromkeys(row.row.name for row in finished.plan.results))
    return f'["sweep=smoke","sweep.datasets=[synthetic_tiny]","sweep.methods=[{methods}]"]'


def test_a_measure(tmp_path: Path, finished: InlineSweep) -> None:
    follow("A measure", tmp_path)
    said = python(
        tmp_path,
        "import numpy as np, pandas as pd, oneshui\n"
        "rows = [(s, i, [float(i % 2), 0.5], [1, i % 2], 0.1 * i) for s in\n"
        "        ('retain', 'forget', 'test', 'val', 'support') for i in range(4)]\n"
        "own = pd.DataFrame(rows, columns=['set', 'image', 'logits', 'label', 'loss'])\n"
        "other = own.assign(logits=[[1.0, 0.5]] * len(own))\n"
        "found = oneshui.measure(own, other, task='multilabel')\n"
        "print(found['agreement'])\n"
        + REPORT
        + "print(frame.columns[0], 'agreement' in frame, frame['agreement'].isna().all())\n"
        "frame['agreement'] = 0.25\n"
        "from sweeps.report import formats\n"
        "print('agreement_mean' in summarise(frame))\n"
        "print('agrees' in formats.markdown(summarise(frame)))\n",
        overrides(finished),
        finished.store.address,
    )
    assert said.splitlines() == ["0.5", "dataset True True", "True", "True"]


def test_a_figure(tmp_path: Path, finished: InlineSweep) -> None:
    follow("A figure", tmp_path)
    drawn = python(
        tmp_path,
        REPORT + "from sweeps.report.figures.catalogue import KINDS, draw\n"
        "from sweeps.report.figures.style import Material\n"
        "material = Material(plan=plan, entries=entries, frame=frame, summary=summarise(frame))\n"
        "KINDS = {name: KINDS[name] for name in ('spread',)}\n"
        "import sweeps.report.figures.catalogue as catalogue; catalogue.KINDS = KINDS\n"
        "print([path.name for path in draw(material, Path('figures'))])\n",
        overrides(finished),
        finished.store.address,
    )
    assert drawn.startswith("['spread-synthetic_tiny-n4.png', 'spread-synthetic_tiny-n4.pdf'")


def test_a_service_for_stores(tmp_path: Path) -> None:
    follow("A service for stores", tmp_path)
    said = python(
        tmp_path,
        "from sweeps.store import open_store\n"
        "for uri in ('az://box/prefix', 'ab://box/prefix'):\n"
        "    try: open_store(uri)\n"
        "    except OSError as error: print(type(error).__name__, error)\n"
        "    except ValueError as error: print(type(error).__name__, error)\n",
        ONESHUI_CACHE=str(tmp_path / "cache"),
    )
    with_account, unknown = said.splitlines()
    assert "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY" in with_account
    assert unknown.startswith("InputError store.uri 'ab://box/prefix' is not supported")
    assert "az://bucket/prefix" in unknown
