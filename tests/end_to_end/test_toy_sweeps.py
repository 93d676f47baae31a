"""Every sweep that is shipped runs through at toy size, and both tasks do, stage by stage."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pandas as pd
import pytest
from support.inline_sweep import inline_sweep

from oneshui import load_dataset
from oneshui.faces.generate import FacesSpec, generate_mufac
from sweeps.composition import sweep_names
from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.report.results import results_frame
from sweeps.store.status import scan

pytestmark = pytest.mark.slow
SMALLER = {
    "large": ["sweep.forget_sizes=[4,6]"],
    "single_identity": ["sweep.requests=3"],
}
"""What sweeps are about, as far as there are people for it."""


def test_the_paper_s_experiments_are_shipped() -> None:
    wanted = {"full", "single_identity", "large", "ablation_loss", "ablation_inputs", "robustness"}
    assert wanted <= set(sweep_names())


OWN_FACES = {"audit", "field", "paper", "people", "people_field"}
"""Those that run on drawn people with attributes alone."""
MANY_JOBS = OWN_FACES | {"ablation_loss", "full", "large", "leak_cost", "single_identity"}
NAMES = sorted(set(sweep_names()) - {"demo", "demo_mufac", "smoke"} - OWN_FACES)
TASKS = {"synthetic_tiny": "multilabel", "synthetic_tiny_mufac": "multiclass"}
# In turn on one dataset and the other; on both what tunes in every way there is, and all audits.
TURNS = {
    *zip(NAMES, itertools.cycle(TASKS)),
    *itertools.product(("audit", "leak_cost"), TASKS),
    *((name, "synthetic_tiny") for name in OWN_FACES),
}


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        pytest.param(*turn, marks=[pytest.mark.long] if turn[0] in MANY_JOBS else [])
        for turn in sorted(TURNS)
    ],
)
def test_a_sweep_at_toy_size_measures_every_row(name: str, dataset: str, tmp_path: Path) -> None:
    toy = ("scale=toy", f"sweep.datasets=[{dataset}]", *SMALLER.get(name, []))
    sweep = inline_sweep(tmp_path, f"sweep={name}", *toy)
    assert not sweep.scheduler.failures()
    frame = results_frame(sweep.plan, scan(sweep.plan, sweep.store, discard=False).entries)
    assert set(frame["method"]) == {row.row.name for row in sweep.plan.results}
    assert frame[["retain_score", "forget_score", "test_score", "tow"]].notna().all(axis=None)
    assert set(frame["task"]) == {TASKS[dataset]}


@pytest.mark.parametrize("level", ["split", "training", "unlearning", "support"])
def test_one_seed_level_varies_and_the_others_stay(level: str) -> None:
    sweep = load(["sweep=smoke", "sweep.seeds=[3,4]", f"sweep.vary={level}"]).sweep
    one, other = (cell for cell in sweep.cells if cell.dataset == "synthetic_tiny")
    for name in ("split", "training", "unlearning", "support"):
        same = getattr(one, f"{name}_seed") == getattr(other, f"{name}_seed")
        assert same == (name != level)


def test_a_table_of_one_s_own_runs_as_the_documentation_says(tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    generate_mufac(FacesSpec(identities=50, pictures=7, size=32), faces)
    table = load_dataset("mufac", faces)
    mine = tmp_path / "data" / "mine"
    shutil.copytree(table.root, mine)
    pd.DataFrame({"path": table.paths, "identity": table.identity, "label": table.label}).to_csv(
        mine / "images.csv", index=False
    )
    sweep = inline_sweep(
        tmp_path / "out",
        "sweep=smoke",
        "sweep.seeds=[0]",
        "sweep.methods=[pretrain,retrain,ssd]",
        "+datasets.mine={layout: table, path: mine/images.csv, forget_sizes: [4]}",
        "sweep.datasets=[mine]",
        f"data_dir={tmp_path / 'data'}",
    )
    assert not sweep.scheduler.failures()
    frame = results_frame(sweep.plan, scan(sweep.plan, sweep.store, discard=False).entries)
    assert frame["tow"].notna().all()


def test_patients_and_writers_run_as_people_do(tmp_path: Path) -> None:
    sweep = inline_sweep(
        tmp_path / "out",
        "sweep=worlds",
        "sweep.seeds=[0]",
        "sweep.datasets=[synthetic_tiny_chestxray14,synthetic_tiny_femnist]",
        "sweep.methods=[pretrain,retrain,newton_head]",
        "datasets.synthetic_tiny_femnist.generate.pictures=8",
        "sweep.training={epochs: 1, warmup_epochs: 0}",
    )
    assert not sweep.scheduler.failures()
    frame = results_frame(sweep.plan, scan(sweep.plan, sweep.store, discard=False).entries)
    assert frame["tow"].notna().all()
    found = dict(zip(frame["dataset"], frame["task"], strict=True))
    assert found == {
        "synthetic_tiny_chestxray14": "multilabel",
        "synthetic_tiny_femnist": "multiclass",
    }


def test_the_authors_resizing_gives_other_pictures_and_no_other_split() -> None:
    plans = [
        expand(load(["sweep=smoke", f"sweep.preprocessing={variant}"]).sweep)
        for variant in ("corrected", "reference")
    ]
    index, cache = (
        [{key for key, job in plan.jobs.items() if job.stage == stage} for plan in plans]
        for stage in ("index", "cache")
    )
    assert index[0] == index[1]
    assert not cache[0] & cache[1]
