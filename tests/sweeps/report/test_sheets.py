"""Names that others gave end as text in every file of a report, whatever opens it."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
from support.result_frames import frame_of, row

from sweeps.report import formats, paper
from sweeps.report.sheets import write_csv
from sweeps.report.summary import summarise

EVIL = '=HYPERLINK("http://x","y")\x1b[31m|`<b>\u202e'


def cells(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_no_cell_is_a_formula_and_numbers_stay(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"=name": ["=1+1", "-", None, "ssd"], "x": [-1.5, 2.0, None, 0.1], "n": [1, -2, 3, 4]}
    )
    write_csv(table, tmp_path / "t.csv")
    assert cells(tmp_path / "t.csv") == [
        ["'=name", "x", "n"],
        ["'=1+1", "-1.5", "1"],
        ["-", "2.0", "-2"],
        ["", "", "3"],
        ["ssd", "0.1", "4"],
    ]
    assert list(table.columns) == ["=name", "x", "n"]


def test_categories_and_flags_are_written_too(tmp_path: Path) -> None:
    table = pd.DataFrame({"c": pd.Categorical(["@a", "b"]), "flag": [True, False]})
    write_csv(table, tmp_path / "t.csv")
    assert cells(tmp_path / "t.csv") == [["c", "flag"], ["'@a", "True"], ["b", "False"]]


@pytest.fixture
def summary() -> pd.DataFrame:
    return summarise(frame_of([row("retrain", 0, 1.0), row(EVIL, 0, 0.8)]))


def test_markdown_and_latex_show_a_name_and_obey_it_in_nothing(summary: pd.DataFrame) -> None:
    for text in (formats.markdown(summary), formats.latex(summary)):
        assert text.replace("\n", "").isprintable()
        assert "HYPERLINK" in text
    line = next(x for x in formats.markdown(summary).splitlines() if "HYPERLINK" in x)
    other = next(x for x in formats.markdown(summary).splitlines() if "| `retrain`" in x)
    assert line.replace(r"\|", "").count("|") == other.count("|")
    assert "<b>" not in line
    assert r"\textbackslash{}x1b[31m" in formats.latex(summary)


def test_numbers_of_an_odd_name_are_compared(summary: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / paper.FILE
    write_csv(paper.template(summary), path)
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    number = next(i for i, x in enumerate(lines) if "HYPERLINK" in x and ",tow," in x)
    lines[number] = lines[number].replace(",tow,,", ",tow,79,")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (line,) = paper.compare(paper.read(path), summary).to_dict("records")
    assert line["ours_mean"] == pytest.approx(80)
