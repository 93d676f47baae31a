"""Two sweeps held against each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from support.inline_sweep import InlineSweep

from sweeps.archive.diff import WIDTH, Difference, Side, _asked, difference, told
from sweeps.graph.plan import expand
from sweeps.store import Entry
from sweeps.store.status import scan

SSD = ("synthetic_tiny", 4, "ssd")


def side(sweep: InlineSweep, name: str) -> Side:
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    return Side(name=name, plan=sweep.plan, entries=entries)


@pytest.fixture(scope="module")
def here(one: InlineSweep) -> Side:
    return side(one, "here")


@pytest.fixture(scope="module")
def there(other: InlineSweep) -> Side:
    return side(other, "there")


def whys(found: Difference) -> set[tuple[str, str]]:
    return {(cause.label, cause.why) for one in found.changed for cause in one.causes.values()}


def changed(here: Side, keys: Mapping[str, Mapping[str, Any]]) -> Side:
    """The same sweep with other things said of some of its results."""
    entries: dict[str, Entry] = dict(here.entries)
    for key, fields in keys.items():
        entries[key] = dataclasses.replace(entries[key], **fields)
    return Side(name="there", plan=here.plan, entries=entries)


def behind(here: Side, stage: str) -> str:
    """The key of the first job of a stage."""
    return next(key for key, job in here.plan.jobs.items() if job.stage == stage)


def test_rows_numbers_and_the_first_job_that_differs(here: Side, there: Side) -> None:
    found = difference(here, there)
    assert {of[2] for of in found.gone} == {"retrain_again", "gradient_ascent"}
    assert {of[2] for of in found.added} == {"jit"}
    ssd = next(one for one in found.changed if one.of == SSD)
    assert {cause.why for cause in ssd.causes.values()} == {
        "another hyperparameters.alpha: 50 and 20"
    }
    assert [cause.label for cause in ssd.causes.values()] == [
        f"unlearn ssd synthetic_tiny n4 s{seed}" for seed in (0, 1)
    ]
    tow = next(number for number in ssd.numbers if number.measure == "tow")
    for side, value in ((here, tow.here), (there, tow.there)):
        rows = side.frame[side.frame["method"] == "ssd"]
        assert value == rows["tow"].mean()
    assert tow.num == 2


def test_a_sweep_is_the_same_as_itself(here: Side) -> None:
    found = difference(here, here)
    assert found == Difference(gone=(), added=(), changed=(), same=5)
    assert list(told(found, here, here)) == [
        "Rows: 5 the same, 0 changed, 0 only here, 0 only here."
    ]


OTHER: dict[str, Any] = {"content": "0" * 64}


def after(here: Side, key: str) -> dict[str, dict[str, Any]]:
    """Another content for a job and for all that is made of it."""
    found = {key}
    for name, job in here.plan.jobs.items():
        if found & set(job.needs):
            found.add(name)
    return {name: dict(OTHER) for name in found}


def test_what_is_behind_another_result_of_the_same_job_is_said(here: Side) -> None:
    pretrain = behind(here, "pretrain")
    made = {**here.entries[pretrain].made, "device": "cuda"}
    other = after(here, pretrain)
    other[pretrain]["made"] = made
    found = whys(difference(here, changed(here, other)))
    assert found == {(here.plan.jobs[pretrain].label, "another device: cpu and cuda")}
    versions = str(here.entries[pretrain].made["versions"])
    other[pretrain]["made"] = {**made, "device": "cpu", "versions": f"{versions}, new 2.0"}
    found = whys(difference(here, changed(here, other)))
    assert found == {(here.plan.jobs[pretrain].label, "another versions: none and new 2.0")}


def test_what_is_computed_first_is_named_first(here: Side) -> None:
    index = behind(here, "index")
    files = after(here, index)
    # Whatever reads a file finds the same in it.
    files[index]["made"] = {**here.entries[index].made, "commit": "another"}
    found = whys(difference(here, changed(here, files)))
    assert found == {("index synthetic_tiny", "the files that it reads have another content")}
    pretrain, retrain = behind(here, "pretrain"), behind(here, "retrain")
    both = difference(here, changed(here, after(here, pretrain) | after(here, retrain)))
    (ssd,) = [one for one in both.changed if one.of == SSD]
    assert ssd.causes[0].label == here.plan.jobs[pretrain].label


def test_what_nothing_explains_is_called_so(here: Side) -> None:
    score = here.rows[SSD][0].score_key
    said = "the same was asked of the same inputs and versions: it is not repeatable"
    found = whys(difference(here, changed(here, after(here, score))))
    assert found == {(here.plan.jobs[score].label, said)}


def test_what_was_asked_otherwise_is_told(here: Side) -> None:
    """Of a sweep of the day before: a stage meant something else, a method had another source."""
    score = here.plan.jobs[here.rows[SSD][0].score_key]
    versions = {**here.plan.sweep.versions, "score": 3}
    earlier = expand(dataclasses.replace(here.plan.sweep, versions=versions))
    there = Side(name="there", plan=earlier, entries={})
    said = {cause.why for one in difference(here, there).changed for cause in one.causes.values()}
    assert said == {"it has no result in there"}
    neither = difference(dataclasses.replace(here, entries={}), there)
    assert {why for _, why in whys(neither)} == {"another version of the stage: 5 and 3"}
    results = {
        key: dataclasses.replace(here.entries[now], **OTHER)
        if job.stage == "score"
        else here.entries[now]
        for (key, job), now in zip(earlier.jobs.items(), here.plan.jobs, strict=True)
    }
    found = whys(difference(here, Side(name="there", plan=earlier, entries=results)))
    assert (score.label, "another version of the stage: 5 and 3") in found
    unlearn = here.plan.jobs[here.rows[SSD][0].model_key]
    other = dataclasses.replace(unlearn, spec={**unlearn.spec, "source": "0" * 16})
    assert list(_asked(unlearn, other)) == [
        f"another source of the method: {unlearn.spec['source']} and {'0' * 16}"
    ]


def test_a_result_that_one_side_lacks_is_said(here: Side) -> None:
    key = here.rows[SSD][0].score_key
    entries = {name: entry for name, entry in here.entries.items() if name != key}
    lacking = Side(name="there", plan=here.plan, entries=entries)
    assert whys(difference(here, lacking)) == {
        (here.plan.jobs[key].label, "it has no result in there")
    }


def test_seeds_that_only_one_has_are_told(here: Side) -> None:
    results = tuple(row for row in here.plan.results if row.cell.seed == 0)
    fewer = Side(
        name="there",
        plan=dataclasses.replace(here.plan, results=results),
        entries=here.entries,
    )
    found = difference(here, fewer)
    assert [one.seeds for one in found.changed] == [((1,), ())] * 5
    assert "    seeds only here: 1" in told(found, here, fewer)


def test_it_is_told_in_80_columns(here: Side, there: Side) -> None:
    lines = list(told(difference(here, there), here, there))
    assert max(map(len, lines)) <= WIDTH == 80
    assert lines[0].startswith("Rows: ")
    assert "  synthetic_tiny 4 ssd" in lines
    tow = next(line for line in lines if line.startswith("    ToW  "))
    mine, theirs, difference_, num = map(float, tow.split()[1:])
    assert abs(theirs - mine - difference_) < 0.11
    assert num == 2
