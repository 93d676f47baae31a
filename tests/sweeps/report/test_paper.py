"""Published numbers beside ours: only a person fills them in."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from support.result_frames import frame_of, row

from oneshui.errors import InputError
from sweeps.report import paper
from sweeps.report.summary import summarise

SUMMARY = summarise(frame_of([row("ssd", 0, 0.8), row("ssd", 1, 0.82), row("jit", 0, None)]))
HEAD = "dataset,num_forget,method,measure,paper_mean,paper_std,source\n"


def written(folder: Path, text: str) -> Path:
    path = folder / paper.FILE
    path.write_text(text)
    return path


def test_the_template_has_a_line_per_number_and_no_number(tmp_path: Path) -> None:
    table = paper.template(SUMMARY)
    assert list(table.columns) == paper.COLUMNS
    assert len(table) == 2 * len(paper.COMPARED)
    assert table[["paper_mean", "paper_std", "source"]].isna().all().all()
    path = tmp_path / paper.FILE
    table.to_csv(path, index=False)
    assert paper.lines(paper.compare(paper.read(path), SUMMARY)) == [paper.NOT_FILLED]
    assert "not filled" in paper.NOT_FILLED


def test_a_filled_number_is_compared_in_points_and_standard_errors(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        HEAD + "synthetic,20,ssd,tow,79,1,x\nsynthetic,20,jit,tow,50,,\nother,5,ssd,tow,50,,\n",
    )
    found = paper.compare(paper.read(path), SUMMARY)
    assert found["difference"][0] == pytest.approx(2)
    assert found["errors"][0] == pytest.approx(2)  # 1.41 / sqrt(2) = 1 point
    assert list(found["n"]) == [2, 0, 0]
    assert math.isnan(found["ours_mean"][2])
    said = paper.lines(found)
    assert said[1].endswith("paper 79.0, ours 81.0 (n=2), +2.0, 2.0 standard errors")
    assert said[2].endswith("paper 50.0, ours missing")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("method,measure,paper_mean\n", "lacks the column dataset"),
        (HEAD + "synthetic,many,ssd,tow,50,,\n", "line 2: num_forget is 'many'"),
        (HEAD + "synthetic,20,ssd,towing,50,,\n", "line 2: measure is 'towing'"),
        (HEAD + "synthetic,20,ssd,tow,50,wide,\n", "line 2: paper_std is 'wide'"),
        ("", "is not a readable CSV file"),
    ],
)
def test_bad_tables_are_refused_by_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as error:
        paper.read(written(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", ["", "inf", "nan"])
def test_a_filled_line_without_a_size_is_refused(tmp_path: Path, number: str) -> None:
    path = tmp_path / "paper_numbers.csv"
    path.write_text(f"dataset,num_forget,method,measure,paper_mean\nd,{number},m,tow,90\n")
    with pytest.raises(InputError, match="line 2: num_forget and paper_mean must be finite"):
        paper.read(path)


def test_a_table_without_numbers_is_made_anew_for_a_grown_sweep(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    old = written(tmp_path, HEAD + "synthetic,20,ssd,tow,,,\n")
    assert paper.update(old, tmp_path / "new", SUMMARY).empty
    assert len(pd.read_csv(tmp_path / "new" / paper.FILE)) == 2 * len(paper.COMPARED)
