"""Where numbers come from, in words that are written out here."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sweeps.config import load
from sweeps.graph.cells import index_job
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.report import provenance
from sweeps.store import Entry

COMMAND = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.methods=[pretrain,retrain,gold,ssd,jit]",
    "+sweep.rows.gold={method: retrain, reseed: 3}",
    "tuning.objective=support_only",
    "tuning.trials=3",
    "tuning.rows=[ssd]",
    "profile=tuned",
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return expand(load(COMMAND).sweep)


def row_of(plan: Plan, name: str, seed: int = 0) -> ResultRow:
    return next(r for r in plan.results if (r.row.name, r.cell.seed) == (name, seed))


def entry(plan: Plan, key: str, value: Mapping[str, Any]) -> Entry:
    return Entry(
        stage=plan.jobs[key].stage,
        key=key,
        folder=Path("/nowhere"),
        files={},
        value=value,
        content=key,
        inputs={},
        cost={},
    )


def test_a_dataset_is_described_by_what_was_read_of_it(plan: Plan) -> None:
    (spec,) = plan.sweep.datasets.values()
    key = index_job(spec).key
    value = {"num_images": 350, "num_identities": 50, "fingerprint": "abc"}
    (read,) = provenance.datasets(plan, {key: entry(plan, key, value)})
    assert read == provenance.DatasetInfo(
        name="synthetic_tiny",
        origin="generated faces",
        forget_sizes="4",
        seeds="0, 1",
        size="350 images of 50 identities",
        fingerprint="abc",
        credit="",
    )
    (unread,) = provenance.datasets(plan, {})
    assert (unread.size, unread.fingerprint) == ("-", "-")
    photographs = expand(load(["sweep=full", "sweep.methods=[retrain]"]).sweep)
    assert provenance.datasets(photographs, {})[0].origin.startswith("layout ")
    people = expand(load(["sweep=people", "sweep.methods=[retrain]"]).sweep)
    assert "AT&T Laboratories Cambridge" in provenance.datasets(people, {})[0].credit


def test_every_finished_split_is_named_once(plan: Plan) -> None:
    keys = {
        seed: plan.jobs[row_of(plan, "ssd", seed).evaluate_key].inputs["split"] for seed in (0, 1)
    }
    value = {"num_images": {"forget": 16, "test": 30}, "fingerprint": "f1"}
    (found,) = provenance.splits(plan, {keys[1]: entry(plan, keys[1], value)})
    assert (found.cell.seed, found.images) == (1, "16 forget, 30 test")
    assert found.fingerprint == "f1"


def test_rows_say_what_they_saw_and_ran_with_and_how_that_was_tuned(plan: Plan) -> None:
    found = {info.name: info for info in provenance.methods(plan, {})}
    assert list(found) == ["pretrain", "retrain", "gold", "ssd", "jit"]
    assert (found["gold"].method, found["gold"].seen) == ("retrain", "D_f, D_r")
    assert found["gold"].hyperparameters == ("reseed = 3",)
    assert found["pretrain"].hyperparameters == ("none",)
    (space,) = [r.row.space for r in plan.results if r is row_of(plan, "ssd")]
    alpha = space["alpha"]
    tuned = f"(tuned in {alpha.low:g} to {alpha.high:g}, support_only)"
    assert f"alpha {tuned}" in found["ssd"].hyperparameters[0]
    choice = row_of(plan, "ssd").choose_key
    assert choice is not None
    point = {"alpha": 12.345678, "dampening": 0.5}
    chosen = {choice: entry(plan, choice, {"hyperparameters": point})}
    (text,) = {i.name: i for i in provenance.methods(plan, chosen)}["ssd"].hyperparameters
    assert f"alpha = 12.35 {tuned}" in text
    assert "dampening = 0.5 (tuned in" in text


def test_hyperparameters_that_differ_between_forget_sizes_are_told_apart() -> None:
    two = expand(load([*COMMAND[:4], "sweep.forget_sizes=[4,6]", *COMMAND[4:]]).sweep)
    choice = row_of(two, "ssd").choose_key
    assert choice is not None
    point = {"alpha": 3.0, "dampening": 0.5}
    known = {choice: entry(two, choice, {"hyperparameters": point})}
    texts = {i.name: i for i in provenance.methods(two, known)}["ssd"].hyperparameters
    assert [text.split(":")[0] for text in texts] == ["synthetic_tiny n4", "synthetic_tiny n6"]
    assert "alpha = 3.0" in texts[0]
    assert "alpha = " not in texts[1]


def test_hyperparameters_that_differ_between_seeds_are_told_apart() -> None:
    """Seeds are named where they differ and nowhere else."""
    command = [*COMMAND, "sweep.forget_sizes=[4,6]", "sweep.seeds=[0,1,2]", "tuning.studies=2"]
    made = expand(load(command).sweep)
    known = {}
    for study in made.studies:
        choice = study.choices["support_only"]
        alpha = 7.0 if study.num_forget == 6 else float(study.cells[0].seed)
        point = {"alpha": alpha, "dampening": 0.5}
        known[choice] = entry(made, choice, {"hyperparameters": point})
    texts = {i.name: i for i in provenance.methods(made, known)}["ssd"].hyperparameters
    assert [(text.split(":")[0], "alpha = 7.0" in text) for text in texts] == [
        ("synthetic_tiny n4 s0+2", False),
        ("synthetic_tiny n4 s1", False),
        ("synthetic_tiny n6", True),
    ]
    assert "alpha = 1000.0" in texts[0]
    assert "alpha = 1001.0" in texts[1]


def test_a_tuned_row_alone_keeps_whom_the_other_cells_forget() -> None:
    command = [*COMMAND, "sweep.forget_sizes=[4,6]"]
    made = expand(load(command).sweep)
    for name, sizes in (("ssd", "[4,6]"), ("jit", "[4]")):
        row = row_of(made, name)
        words = shlex.split(provenance.alone(made, row, command))[2:]
        assert f"sweep.forget_sizes={sizes}" in words
        assert row.score_key in expand(load(words).sweep).jobs
    own = expand(load([*command, "tuning.cells=own"]).sweep)
    row = row_of(own, "ssd")
    words = shlex.split(provenance.alone(own, row, [*command, "tuning.cells=own"]))[2:]
    assert "sweep.forget_sizes=[4]" in words
    assert row.score_key in expand(load(words).sweep).jobs


def test_commands_leave_out_what_holds_for_one_run_and_quote_for_a_shell() -> None:
    assert provenance.again([*COMMAND[:2], "mode=report"]) == (
        "python launch.py sweep=smoke 'sweep.datasets=[synthetic_tiny]'"
    )


def test_a_row_alone_keeps_all_that_retrains_and_goes_elsewhere(plan: Plan) -> None:
    command = (*COMMAND, "output_dir=runs/mine", "store.uri=s3://b/x", "mode=why")
    found = provenance.alone(plan, row_of(plan, "ssd"), command, "runs/other")
    assert found == (
        "python launch.py sweep=smoke '+sweep.rows.gold={method: retrain, reseed: 3}' "
        "tuning.objective=support_only tuning.trials=3 'tuning.rows=[ssd]' profile=tuned "
        "'sweep.datasets=[synthetic_tiny]' 'sweep.forget_sizes=[4]' "
        "'sweep.methods=[retrain,gold,ssd]' output_dir=runs/other"
    )


def test_a_row_tuned_on_requests_in_turn_says_how_many_asked_at_a_time() -> None:
    made = expand(load(["sweep=sequence", "scale=toy"]).sweep)
    told = {one.name: one.hyperparameters[0] for one in provenance.methods(made, {})}
    assert (
        "step (tuned in 0.003 to 0.3, support_only, 1 at a time)" in told["gradient_ascent_in_turn"]
    )
    assert "step (tuned in 0.03 to 3, support_only)" in told["gradient_ascent_classifier"]
