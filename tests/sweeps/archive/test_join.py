"""One report over several sweeps."""

from __future__ import annotations

import base64
import copy
import dataclasses
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from support.inline_sweep import InlineSweep
from support.publishing import plan_of
from support.result_frames import frame_of, row

from sweeps.archive.diff import Side, difference
from sweeps.archive.join import (
    Part,
    _said,
    _together,
    joined_summary,
    names_of,
    write_joined,
)
from sweeps.graph.artifacts import PLUGINS
from sweeps.graph.launch import EQUIVALENCE_MARGIN
from sweeps.graph.spec import Pretrained
from sweeps.inference.evidence import Evidence
from sweeps.report.people import resamples
from sweeps.report.results import announce
from sweeps.report.summary import summarise
from sweeps.report.tables import comparison_tables
from sweeps.store.status import scan


def part(sweep: InlineSweep, name: str) -> Part:
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    return Part(
        name=name,
        folder=sweep.env.logs.parent,
        plan=sweep.plan,
        entries=entries,
        margin=EQUIVALENCE_MARGIN,
    )


@pytest.fixture(scope="module")
def parts(one: InlineSweep, other: InlineSweep) -> list[Part]:
    return [part(one, "first"), part(other, "second")]


@pytest.fixture(scope="module")
def report(parts: list[Part], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_joined(parts, tmp_path_factory.mktemp("joined"), "oneshui mode=why").parent


def test_every_number_is_the_one_of_its_sweep(parts: list[Part], report: Path) -> None:
    results = pd.read_parquet(report / "results.parquet")
    summary = pd.read_parquet(report / "summary.parquet")
    assert list(results.columns[:2]) == ["sweep", "dataset"]
    assert set(results["dataset"]) == {"synthetic_tiny"}
    for one in parts:
        people = resamples(one.plan, one.entries)
        own = summarise(one.plain, Evidence.of(one.plain, people, one.margin))
        for joined, alone in ((results, one.plain), (summary, own)):
            found = joined[joined["sweep"] == one.name].drop(columns="sweep")
            pd.testing.assert_frame_equal(found.reset_index(drop=True), alone, check_dtype=False)


def test_rows_of_two_sweeps_are_never_tested_against_each_other(
    parts: list[Part], report: Path
) -> None:
    tests = pd.read_csv(report / "comparisons.csv")
    for one in parts:
        own = tests[tests["sweep"] == one.name]
        names = {row.row.name for row in one.plan.results} | {"chance"}
        assert set(own["method"]) | set(own["other"]) <= names
        people = resamples(one.plan, one.entries)
        alone = Evidence.of(one.plain, people, one.margin).tests
        assert own["p_corrected"].to_list() == pytest.approx(
            [test.p_corrected for test in alone], nan_ok=True
        )


def test_tables_and_page_name_the_sweep(report: Path) -> None:
    for name in ("summary.md", "summary.tex", "index.html"):
        text = (report / name).read_text().replace(r"\_", "_")
        for sweep in ("first", "second"):
            assert f"{sweep}: synthetic_tiny, 4 forget identities" in text


def test_the_page_says_where_each_number_comes_from(parts: list[Part], report: Path) -> None:
    page = (report / "index.html").read_text()
    packed = re.search(r'id="traces">([^<]+)<', page)
    assert packed is not None
    found = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    for one in parts:
        ssd = next(row for row in one.plan.results if row.row.name == "ssd")
        seeds = found["rows"][f"{one.name}: synthetic_tiny 4 ssd"]["seeds"]
        places = next(it[-1] for it in seeds if it[0] == ssd.cell.seed)
        assert {found["jobs"][place][1] for place in places} == set(one.plan.needed(ssd))
        score = next(job for job in found["jobs"] if job[1] == ssd.score_key)
        assert found["jobs"][dict(score[6])["predictions"]][1] == ssd.evaluate_key


def test_what_weakens_one_sweep_is_said_in_its_name(parts: list[Part]) -> None:
    one, other = parts
    given = Pretrained(path="m.safetensors", saw="all")
    plan = dataclasses.replace(
        other.plan, sweep=dataclasses.replace(other.plan.sweep, pretrained=given)
    )
    brought = dataclasses.replace(other, plan=plan)
    vars(brought)["plain"] = other.plain.assign(protection="audit")
    said = _said([one, brought], joined_summary(parts), _together(parts))
    (note,) = [note for note in said if "sweep.pretrained" in note]
    assert note.startswith("second: ")
    (note,) = [note for note in said if "What kept one-shot methods" in note]
    assert "audit in " in note


@pytest.fixture
def _nothing_announced() -> Iterator[None]:
    yield
    announce()


@pytest.mark.usefixtures("_nothing_announced")
def test_a_measure_that_only_one_sweep_has(
    one: InlineSweep, other: InlineSweep, tmp_path: Path
) -> None:
    parts = [part(one, "first"), measured(part(other, "second"))]
    for ordered in (parts, parts[::-1]):
        # As if nothing had been read yet.
        fresh = [dataclasses.replace(each) for each in ordered]
        report = write_joined(fresh, tmp_path, "oneshui mode=why").parent
        frame = pd.read_parquet(report / "results.parquet")
        own = {name: set(rows["agreement"].dropna()) for name, rows in frame.groupby("sweep")}
        assert own == {"first": set(), "second": {0.5}}
        assert "it agrees" in (report / "index.html").read_text()
    here, there = (Side(name=each.name, plan=each.plan, entries=each.entries) for each in parts)
    for found in (difference(here, there), difference(there, here)):
        assert found.changed


def measured(plain: Part) -> Part:
    """The part with a measure of a plugin's."""
    words = {"title": "it agrees", "better": "higher", "unit": "fraction", "meaning": "agrees"}
    jobs, entries = dict(plain.plan.jobs), dict(plain.entries)
    for shown in plain.plan.results:
        job = copy.copy(jobs[shown.score_key])
        object.__setattr__(job, "spec", {**job.spec, "measures": {"agreement": "0"}})
        entry = entries[shown.score_key]
        value = {**entry.value, "agreement": 0.5, PLUGINS: {"agreement": words}}
        jobs[shown.score_key] = job
        entries[shown.score_key] = dataclasses.replace(entry, value=value, content="other")
    plan = dataclasses.replace(plain.plan, jobs=jobs)
    return dataclasses.replace(plain, plan=plan, entries=entries)


def test_the_same_sweep_twice_is_two_blocks(one: InlineSweep, tmp_path: Path) -> None:
    """Nothing is counted as more seeds: each has its own n."""
    page = write_joined([part(one, "a"), part(one, "b")], tmp_path, "why")
    summary = pd.read_parquet(page.with_name("summary.parquet"))
    assert set(summary["n"]) == {2}
    assert len(summary) == 2 * 5


def test_sweeps_of_one_name_are_told_apart() -> None:
    sweeps = [("demo", Path("/a/x")), ("full", Path("/a/y")), ("demo", Path("/b/z"))]
    assert names_of(sweeps) == ["demo in x", "full", "demo in z"]
    twins = [("demo", Path("/a/x")), ("demo", Path("/b/x"))]
    assert names_of(twins) == ["demo in /a/x", "demo in /b/x"]


def made_up(name: str, gain: float) -> Part:
    """A sweep of two datasets in which a row is better than doing nothing by so much."""
    plan = plan_of("sweep.datasets=[synthetic_tiny,synthetic_tiny_mufac]")
    rows = [
        row(method, seed, tow + 0.01 * seed * (method == "jit"), dataset=dataset)
        for dataset in plan.sweep.datasets
        for seed in range(3)
        for method, tow in (("pretrain", 0.5), ("jit", 0.5 + gain))
    ]
    made = Part(name=name, folder=Path(name), plan=plan, entries={}, margin=EQUIVALENCE_MARGIN)
    vars(made)["plain"] = frame_of(rows)
    return made


def test_sweeps_are_no_datasets_to_each_other() -> None:
    """Over datasets each sweep is tested by itself, in its own name."""
    parts = [made_up("a", 0.1), made_up("b", 0.2)]
    for one, gain in zip(parts, (0.1, 0.2), strict=True):
        (test,) = [test for test in one.evidence.tests if test.family == "datasets"]
        assert (test.dataset, test.num_forget, test.num) == (one.name, 0, 2)
        assert test.difference == pytest.approx(gain + 0.01)
        assert [finding.title for finding in one.cards[1]] == [f"{one.name}: Over datasets"]
        assert list(one.overall["method"]) == [f"{one.name}: jit", f"{one.name}: pretrain"]
    shown = dict(comparison_tables(_together(parts)))
    (lines,) = [lines for question, lines in shown.items() if question.startswith("Over datasets")]
    assert [line.request for line in lines] == ["a", "b"]
