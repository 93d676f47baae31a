"""Published numbers beside ours: only a person fills them in."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.result_frames import frame_of, row

from oneshui.errors import InputError
from sweeps.report import paper
from sweeps.report.summary import summarise

SUMMARY = summarise(frame_of([row("ssd", 0, 0.8), row("ssd", 1, 0.82), row("jit", 0, None)]))
TOLERANT = "dataset,num_forget,method,measure,paper_mean,tolerance\n"
HEAD = "dataset,num_forget,method,measure,paper_mean,paper_std,source\n"


def written(folder: Path, text: str) -> Path:
    path = folder / paper.FILE
    path.write_text(text)
    return path


def test_the_template_has_a_line_per_number_and_no_number(tmp_path: Path) -> None:
    table = paper.template(SUMMARY)
    assert list(table.columns) == paper.COLUMNS
    assert len(table) == 2 * len(paper.COMPARED)
    assert table[["paper_mean", "paper_std", "paper_n", "source"]].isna().all().all()
    assert set(table["tolerance"]) == {paper.TOLERANCE} == {2.0}
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
    assert said[0] == (
        "of 3 numbers of the paper: 0 reproduced, 0 not, 1 undecided at 2 seeds, 2 not run"
    )
    assert said[2].endswith(
        "ssd tow: undecided at 2 seeds; paper 79.0, ours 81.0 (n=2), +2.0 (-10.7 to +14.7), "
        "tolerance 2"
    )
    assert said[3].endswith("jit tow: not run; paper 50.0, ours missing")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-1.9, 1.9, "reproduced"),
        (-2.0, 2.0, "reproduced"),
        (0.5, 1.0, "reproduced"),
        (-2.1, 1.0, "undecided"),
        (1.0, 3.0, "undecided"),
        (-9.0, 9.0, "undecided"),
        (2.1, 3.0, "not reproduced"),
        (-5.0, -2.1, "not reproduced"),
        (math.nan, math.nan, "undecided"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(low: float, high: float, verdict: str) -> None:
    assert paper.verdict(low, high, 2.0) == verdict
    assert paper.verdict(low, high, 2.0, is_there=False) == "not run"


VALUES = (0.80, 0.82, 0.81, 0.83, 0.79)


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("80.5,,,3", "reproduced"),
        ("80.5,,,", "undecided"),
        ("70,,,3", "not reproduced"),
        ("70,,,12.99", "reproduced"),
        # Three seeds of theirs with a wide spread say little.
        ("70,9,3,3", "undecided"),
        # One that nobody counted is taken as it stands.
        ("70,9,,3", "not reproduced"),
    ],
)
def test_numbers_have_a_tolerance_each_and_the_paper_s_spread_counts(
    tmp_path: Path, line: str, verdict: str
) -> None:
    summary = summarise(frame_of([row("ssd", seed, tow) for seed, tow in enumerate(VALUES)]))
    head = "dataset,num_forget,method,measure,paper_mean,paper_std,paper_n,tolerance\n"
    path = written(tmp_path, f"{head}synthetic,20,ssd,tow,{line}\n")
    (found,) = paper.compare(paper.read(path), summary).to_dict("records")
    assert found["verdict"] == verdict


def test_the_interval_is_student_s_or_welch_s(tmp_path: Path) -> None:
    theirs = (0.70, 0.74, 0.75)
    summary = summarise(frame_of([row("ssd", seed, tow) for seed, tow in enumerate(VALUES)]))
    head = "dataset,num_forget,method,measure,paper_mean,paper_std,paper_n\n"
    mean, std = 100 * np.mean(theirs), 100 * np.std(theirs, ddof=1)
    lines = f"synthetic,20,ssd,tow,{mean},{std},3\nsynthetic,20,ssd,tow,{mean},,\n"
    welch, student = paper.compare(paper.read(written(tmp_path, head + lines)), summary).to_dict(
        "records"
    )
    ends = stats.ttest_ind(VALUES, theirs, equal_var=False).confidence_interval(0.95)
    assert [welch["low"], welch["high"]] == pytest.approx([100 * end for end in ends])
    ends = stats.ttest_1samp(VALUES, mean / 100).confidence_interval(0.95)
    assert [student["low"] + mean, student["high"] + mean] == pytest.approx(
        [100 * end for end in ends]
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("method,measure,paper_mean\n", "lacks the column dataset"),
        (HEAD + "synthetic,many,ssd,tow,50,,\n", "line 2: num_forget is 'many'"),
        (HEAD + "synthetic,20,ssd,towing,50,,\n", "line 2: measure is 'towing'"),
        (HEAD + "synthetic,20,ssd,tow,50,wide,\n", "line 2: paper_std is 'wide'"),
        ("", "is not a readable CSV file"),
        (HEAD + "synthetic,20,ssd,tow,50,-1,\n", "line 2: paper_std is -1, but it must be 0 or"),
        (TOLERANT + "synthetic,20,ssd,tow,50,0\n", "line 2: tolerance is 0, but .* above 0 points"),
        (TOLERANT + "synthetic,20,ssd,tow,50,wide\n", "line 2: tolerance is 'wide'"),
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
