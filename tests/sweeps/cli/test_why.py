"""Where a number comes from, and the command that computes it alone."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.inline_sweep import InlineSweep, inline_sweep

from oneshui.enclosure import protection
from oneshui.errors import InputError
from sweeps.cli.why import explanation
from sweeps.config import load
from sweeps.graph.plan import Plan, expand
from sweeps.report.results import results_frame
from sweeps.store.status import scan

COMMAND = [
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.methods=[pretrain,retrain,retrain_again,ssd]",
    "+sweep.rows.retrain_again={method: retrain, reseed: 1}",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("why")


@pytest.fixture(scope="module")
def sweep(folder: Path) -> InlineSweep:
    return inline_sweep(folder, *COMMAND)


def lines_of(asked: str, sweep: InlineSweep, folder: Path) -> list[str]:
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    return list(explanation(asked, sweep.plan, entries, folder, [*COMMAND, "mode=why"]))


def test_it_names_value_jobs_inputs_logs_and_configuration(
    sweep: InlineSweep, folder: Path
) -> None:
    lines = lines_of("synthetic_tiny 4 ssd tow", sweep, folder)
    text = "\n".join(lines)
    frame = results_frame(sweep.plan, scan(sweep.plan, sweep.store, discard=False).entries)
    values = frame.loc[frame["method"] == "ssd", "tow"]
    assert f"tow = {values.mean():.6g} ± {values.std():.6g}, n=2 of 2 seeds" in lines[0]
    row = next(r for r in sweep.plan.results if (r.row.name, r.cell.seed) == ("ssd", 1))
    for key in (row.score_key, row.evaluate_key, row.model_key, row.prepare_key):
        assert key is not None
        assert str(sweep.store.root / sweep.plan.jobs[key].stage / key) in text
    for role, key in sweep.plan.jobs[row.model_key].inputs.items():
        assert f"{role} {sweep.plan.jobs[key].stage}/{key}" in text
    for said in ('"alpha": 50.0', '"epochs": 2', "convnext_atto", "fingerprint"):
        assert said in text
    kept = frame.loc[frame["method"] == "ssd", "protection"]
    assert set(kept) == {protection()}
    assert text.count(f", kept from the data by {protection()}") == 4
    assert frame.loc[frame["method"] == "retrain", "protection"].isna().all()
    sizes = frame.loc[frame["method"] == "ssd", "prepared_bytes"]
    assert row.prepare_key is not None
    prepared = sweep.store.find("prepare", row.prepare_key)
    assert prepared is not None
    assert sizes.iloc[1] == (prepared.folder / "prepared.safetensors").stat().st_size


def test_a_title_of_the_tables_is_as_good_as_a_column(sweep: InlineSweep, folder: Path) -> None:
    column = lines_of("synthetic_tiny 4 ssd mia_auc", sweep, folder)
    title = lines_of("synthetic_tiny 4 ssd MIAAUC", sweep, folder)
    assert column[1:] == title[1:]


def test_what_is_not_finished_is_missing(sweep: InlineSweep, folder: Path) -> None:
    lines = list(explanation("synthetic_tiny 4 ssd tow", sweep.plan, {}, folder, COMMAND))
    assert lines[0].endswith("tow is missing, n=0 of 2 seeds")
    assert "seed 0: missing" in lines
    assert any(line.endswith("has no result") for line in lines)


def test_the_command_computes_the_same_job_and_less(sweep: InlineSweep, folder: Path) -> None:
    lines = lines_of("synthetic_tiny 4 ssd tow", sweep, folder)
    command = next(line for line in lines if line.startswith("  python launch.py"))
    spec = load(shlex.split(command)[2:])
    alone: Plan = expand(spec.sweep)
    wanted = {row.score_key for row in sweep.plan.results if row.row.name == "ssd"}
    assert wanted <= alone.jobs.keys()
    assert len(alone.jobs) < len(sweep.plan.jobs)
    assert spec.places.output_dir != str(folder)
    assert spec.mode == "run"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("", "must be of the form"),
        ("synthetic_tiny ssd tow", "must be of the form"),
        ("celebahk 4 ssd tow", "synthetic_tiny"),
        ("synthetic_tiny 5 ssd tow", "num_forget of row"),
        ("synthetic_tiny 4 ssdd tow", "ssd"),
        ("synthetic_tiny 4 ssd towing", "tow"),
    ],
)
def test_what_does_not_exist_is_named(
    sweep: InlineSweep, folder: Path, asked: str, reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as error:
        lines_of(asked, sweep, folder)
    assert "\n" not in str(error.value)
