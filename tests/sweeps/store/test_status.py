"""Why a job must run: what the store holds, and what it held before a stage's meaning changed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from oneshui import methods
from sweeps.config import load
from sweeps.graph.job import STAGE_VERSION
from sweeps.graph.plan import Plan, expand
from sweeps.store import Entry, LocalStore
from sweeps.store.status import measured, scan

COMMAND = [
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.seeds=[0]",
    "sweep.methods=[pretrain,ssd]",
]


def plan() -> Plan:
    return expand(load(COMMAND).sweep)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Every job of the plan, as if it had run: inputs by their content, seconds by their stage."""
    store = LocalStore(tmp_path)
    entries: dict[str, Entry] = {}
    for key, job in plan().jobs.items():
        with store.work(job) as work:
            (work.folder / "data.txt").write_text(job.label)
            inputs = {name: entries[needed].content for name, needed in job.needed.items()}
            entries[key] = work.publish({}, inputs, {"seconds": float(len(job.stage))})
    return store


def test_a_finished_plan_has_nothing_to_run_and_measured_times(store: LocalStore) -> None:
    found = scan(plan(), store, discard=False)
    assert not found.reasons
    seconds = measured(plan(), found.entries, "seconds")
    assert len(seconds) == len(plan().jobs)
    assert all(value == len(job.stage) for job, value in seconds)


def test_a_bumped_stage_and_all_that_needs_it_are_told_apart_from_new_jobs(
    store: LocalStore,
) -> None:
    before = plan()
    sweep = load([*COMMAND[:3], "sweep.methods=[pretrain,ssd,pgu]"]).sweep
    after = expand(dataclasses.replace(sweep, versions={**STAGE_VERSION, "prepare": 2}))
    found = scan(after, store, discard=True)
    reasons = {after.jobs[key].label.split(" synthetic")[0]: r for key, r in found.reasons.items()}
    assert reasons["prepare ssd"] == "version bumped"
    assert reasons["unlearn ssd"] == "input changed"
    assert reasons["score ssd"] == "input changed"
    assert reasons["prepare pgu"] == reasons["unlearn pgu"] == "new"
    untouched = {key for key, job in before.jobs.items() if job.stage in ("pretrain", "retrain")}
    assert untouched <= found.entries.keys()


def test_an_edited_method_runs_again_with_what_follows_it_and_nothing_else(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = methods.source_of

    def edited(cls: type) -> str:
        return "0123456789abcdef" if cls.__name__ == "SSD" else real(cls)

    monkeypatch.setattr("oneshui.methods.source_of", edited)
    after = plan()
    found = scan(after, store, discard=True)
    reasons = {after.jobs[key].label.split(" synthetic")[0]: r for key, r in found.reasons.items()}
    assert reasons == {
        "prepare ssd": "method changed",
        "unlearn ssd": "method changed",
        "evaluate ssd": "input changed",
        "score ssd": "input changed",
    }
    # Undoing the edit finds the old results.
    monkeypatch.undo()
    assert not scan(plan(), store, discard=True).reasons


def test_an_input_that_was_computed_anew_with_another_result_outdates_what_was_made_from_it(
    store: LocalStore,
) -> None:
    made = plan()
    split = next(job for job in made.jobs.values() if job.stage == "split")
    entry = store.find("split", split.key)
    assert entry is not None
    store.discard("split", split.key)
    with store.work(split) as work:
        (work.folder / "data.txt").write_text("another split")
        work.publish({}, entry.inputs, {})
    found = scan(made, store, discard=False)
    assert {made.jobs[key].stage for key in found.reasons} >= {"pretrain", "retrain", "score"}
    assert set(found.reasons.values()) == {"input changed"}


def damage(store: LocalStore, stage: str) -> str:
    """Spoil the only entry of a stage; its key."""
    (manifest,) = (store.root / stage).glob("*/result.json")
    manifest.write_text("{")
    return manifest.parent.name


@pytest.mark.parametrize("discard", [False, True])
def test_damage_is_told_and_moved_only_if_that_was_asked_for(
    store: LocalStore, discard: bool
) -> None:
    key = damage(store, "split")
    found = scan(plan(), store, discard=discard)
    assert found.reasons == {key: "damaged"}
    assert found.counts() == {"damaged": 1}
    (line,) = found.damage
    assert f"split/{key} is damaged" in line
    # What needs it may turn out unchanged, so it is kept.
    assert len(found.entries) == len(plan().jobs) - 1
    assert (store.root / "split" / key).exists() == (not discard)
    assert len(list((store.root / ".discarded").iterdir())) == discard
    again = scan(plan(), store, discard=False)
    assert again.reasons == {key: "new" if discard else "damaged"}


@pytest.mark.parametrize("discard", [False, True])
def test_outdated_results_are_moved_only_if_that_was_asked_for(
    store: LocalStore, discard: bool
) -> None:
    made = plan()
    (split,) = [job for job in made.jobs.values() if job.stage == "split"]
    inputs = store.find("split", split.key)
    assert inputs is not None
    store.discard("split", split.key)
    with store.work(split) as work:
        work.publish({"another": 1}, inputs.inputs, {})
    outdated = scan(made, store, discard=discard).reasons
    there = {key for stage in made.counts() for key in store.keys(stage)}
    assert (set(outdated) & there == set()) is discard


def test_costs_that_a_result_does_not_name_are_left_out(store: LocalStore) -> None:
    found = scan(plan(), store, discard=False)
    assert measured(plan(), found.entries, "gigabytes") == []
