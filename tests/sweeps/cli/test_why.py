"""Where a number comes from, and the command that computes it alone."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.in_turn import IN_TURN, chain_of, steps_of
from support.inline_sweep import InlineSweep, inline_sweep

from oneshui.enclosure import protection
from oneshui.errors import InputError
from sweeps.cli.reproduce import part_of
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


def test_what_a_chain_of_requests_says_names_its_steps(
    in_turn: InlineSweep, tmp_path: Path
) -> None:
    entries = scan(in_turn.plan, in_turn.store, discard=False).entries
    asked = "synthetic_tiny 4 ssd 4x1:tow"
    lines = list(explanation(asked, in_turn.plan, entries, tmp_path, [*IN_TURN, "mode=why"]))
    chains = [chain_of(in_turn.plan, "ssd", "4x1", order) for order in (0, "hardest")]
    ends = [entries[chain.score_key].value["tow"][-1] for chain in chains]
    assert lines[0].startswith(f"{asked}: 4x1:tow = {sum(ends) / 2:.6g} ± ")
    assert lines[0].endswith("n=2 of 2 chains")
    for order, end in zip((0, "hardest"), ends, strict=True):
        assert f"seed 0, order {order}: {end:.6g}" in lines
    text = "\n".join(lines)
    for chain in chains:
        assert all(f"unlearn/{key}" in text for key in steps_of(in_turn.plan, chain))
    other = chain_of(in_turn.plan, "ssd", "2x2")
    assert f"sequence/{other.score_key}" not in text


def test_what_a_chain_of_requests_says_is_computed_again_with_its_steps(
    in_turn: InlineSweep,
) -> None:
    part = part_of(in_turn.plan, "synthetic_tiny 4 ssd 2x2:survived")
    (row,) = part.results
    assert {(chain.schedule, chain.order) for chain in row.chains} == {
        ("2x2", 0),
        ("2x2", "hardest"),
    }
    for chain in row.chains:
        assert set(steps_of(in_turn.plan, chain)) <= part.jobs.keys()


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("20x1:tow", "schedule of row '20x1'.*1x4, 2x2, 4x1"),
        ("4x1:tov", "'tov'.*did you mean 'tow'"),
    ],
)
def test_a_schedule_or_a_measure_of_it_that_is_not_there_is_refused(
    in_turn: InlineSweep, tmp_path: Path, metric: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        list(explanation(f"synthetic_tiny 4 ssd {metric}", in_turn.plan, {}, tmp_path, [*IN_TURN]))


def test_a_row_in_which_nobody_asks_one_after_the_other_has_no_schedule(
    sweep: InlineSweep, folder: Path
) -> None:
    with pytest.raises(InputError, match="nobody asks one after the other in ssd"):
        lines_of("synthetic_tiny 4 ssd 4x1:tow", sweep, folder)
