from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from oneshui import methods
from oneshui.methods.base import Range, field_types
from oneshui.methods.fields import YOUNGER
from oneshui.spec import DATA_SEEN
from sweeps.report import measures, results

ROOT = Path(__file__).parents[1]
NAME = "docs/benchmark.md"
BENCHMARK = (ROOT / NAME).read_text(encoding="utf-8")
ANCHORS: list[str] = re.findall(r'<a id="(\w+)"></a>', BENCHMARK)
HEADINGS: list[str] = re.findall(r"^#+ (.+)$", BENCHMARK, flags=re.MULTILINE)
OWN_METHODS = [
    name for name in methods.names() if methods.get(name).__module__.startswith("oneshui.methods.")
]

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "cluster" / "README.md"]
SOURCES = [
    path
    for folder in ("oneshui", "sweeps", "benchmarks", "cluster", "tests", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yaml", ".md") and path != Path(__file__)
]
MARK = re.compile(rf'{re.escape(NAME)}, ([A-Z]\d+(?:-[A-Z]\d+)?\b|"[^"]+"(?: and "[^"]+")*)')
BARE_MARK = re.compile(r"[(;] ?([ADFJMPRST]\d{1,2})\)")


def on_one_line(path: Path) -> str:
    """A file's text without line breaks and what begins a line of a comment."""
    return re.sub(r"\s*\n[\s#:]*", " ", path.read_text(encoding="utf-8"))


def entries(mark: str) -> list[str]:
    """Anchors that a mark names, both ends of a range and all between."""
    first, *last = re.findall(r"[A-Z]\d+", mark)
    numbers = range(int(first[1:]), int(last[0][1:] if last else first[1:]) + 1)
    return [f"{first[0].lower()}{number}" for number in numbers]


def section(heading: str) -> str:
    (text,) = re.findall(rf"^### {heading}\n(.*?)(?=^##)", BENCHMARK, re.MULTILINE | re.DOTALL)
    return str(text)


def table(text: str, first_column: str) -> list[list[str]]:
    """Cells of the only table whose first column has this title, without the title's line."""
    (body,) = re.findall(rf"^\| {first_column} \|[^\n]*\n\|[-:| ]+\n((?:\|.*\n)+)", text, re.M)
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in body.splitlines()]


def value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def test_every_mark_in_the_sources_leads_to_an_entry_or_a_heading() -> None:
    found = 0
    for path in SOURCES:
        text = on_one_line(path)
        for mark in MARK.findall(text):
            found += 1
            if mark.startswith('"'):
                assert set(re.findall(r'"([^"]+)"', mark)) <= set(HEADINGS), f"{path}: {mark}"
            else:
                assert set(entries(mark)) <= set(ANCHORS), f"{path}: {mark}"
        if MARK.search(text):
            bare = {mark.lower() for mark in BARE_MARK.findall(text)}
            assert bare <= set(ANCHORS), f"{path}: {bare - set(ANCHORS)}"
        if path.suffix == ".py":
            assert len(MARK.findall(text)) == text.count(NAME), f"{path} has a mark that is none"
    assert found > 30


def test_no_mark_points_to_a_document_outside_the_repository() -> None:
    outside = re.compile(r"[(;] ?spec, (?:[A-Z]?\d|section)|\bspec section\b")
    assert not [path for path in SOURCES if outside.search(on_one_line(path))]


def test_deviations_have_one_anchor_each_and_are_numbered_without_gaps() -> None:
    lines = re.findall(r'^- <a id="(\w+)"></a>\*\*(\w+), [\w ]+\.\*\* (.+)$', BENCHMARK, re.M)
    assert [anchor for anchor, _, _ in lines] == ANCHORS
    assert [label.lower() for _, label, _ in lines] == ANCHORS
    assert not [anchor for anchor, times in Counter(ANCHORS).items() if times > 1]
    for letter, count in Counter(anchor[0] for anchor in ANCHORS).items():
        own = [anchor for anchor in ANCHORS if anchor[0] == letter]
        assert own == [f"{letter}{number}" for number in range(1, count + 1)]
    assert all(text.endswith(".") for _, _, text in lines)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if file.startswith(("http:", "https:")):
            continue
        assert (document.parent / file).exists(), f"{document}: {target}"
        if anchor:
            there = (document.parent / file if file else document).read_text(encoding="utf-8")
            titles = re.findall(r"^#+ (.+)$", there, flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
            assert anchor in slugs or f'<a id="{anchor}"></a>' in there, f"{document}: {target}"


def test_every_method_is_in_the_overview_with_what_it_sees() -> None:
    found = {
        re.sub(r"\[(\w+)\]\(#\1\)", r"\1", name): sees
        for name, sees, _ in table(BENCHMARK, "method \\| sees")
    }
    assert found == {name: DATA_SEEN[methods.get(name).access] for name in OWN_METHODS}


@pytest.mark.parametrize("method", OWN_METHODS)
def test_a_method_is_described_with_its_hyperparameters(method: str) -> None:
    cls = methods.get(method)
    defaults = methods.hyperparameters(cls())
    if not defaults:
        assert "No hyperparameters." in section(method)
        return
    rows = table(section(method), "hyperparameter")
    assert {row[0].strip("`"): value(row[1]) for row in rows} == defaults
    assert all(row[4] for row in rows)
    for column, space in ((2, cls.search_space), (3, cls.relative_space)):  # type: ignore[attr-defined]
        ranges = {}
        for row in rows:
            if row[column]:
                low, high, log = re.fullmatch(r"(\S+) to ([^,]+)(, log)?", row[column]).groups()  # type: ignore[union-attr]
                name = row[0].strip("`")
                ranges[name] = Range(
                    low=float(low),
                    high=float(high),
                    log=log is not None,
                    integer=isinstance(defaults[name], int),
                )
        assert ranges == dict(space)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    assert {field.name for field in fields if not field.metadata.get(YOUNGER)} == defaults.keys()


def test_clipping_is_described_once_for_all_that_can() -> None:
    listed = set(re.findall(r"`(\w+)`", section("Clipping").partition(":")[0]))
    able = {name for name in OWN_METHODS if "clip_norm" in field_types(methods.get(name))}
    assert listed - {"clip_norm"} == able


def test_published_hyperparameters_are_those_of_the_configuration() -> None:
    stated = [
        {
            "method": method,
            "dataset": dataset,
            "num_forget": int(size),
            **{key: value(text) for key, text in (pair.split(" ") for pair in values.split(", "))},
        }
        for method, dataset, sizes, values in table(BENCHMARK, "method \\| dataset")
        for size in sizes.split(", ")
    ]
    file = ROOT / "sweeps" / "conf" / "hparams" / "paper.yaml"
    loaded: Any = OmegaConf.to_container(OmegaConf.load(file))

    def order(row: dict[str, Any]) -> tuple[str, str, int]:
        return row["method"], row["dataset"], row["num_forget"]

    assert sorted(stated, key=order) == sorted(loaded["rows"], key=order)


def test_every_measure_of_the_results_is_explained() -> None:
    explained = {
        name for row in table(BENCHMARK, "column") for name in re.findall(r"`(\w+)`", row[0])
    }
    assert explained == set(measures.CATALOGUE)
    also = BENCHMARK.partition("The further columns of `results.parquet`")[2].partition("\n")[0]
    assert set(results.COLUMNS) - set(measures.CATALOGUE) <= set(re.findall(r"`(\w+)`", also))
