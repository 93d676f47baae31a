"""The page's one table: its order, axes and places, and the overview made from it."""

from __future__ import annotations

import pandas as pd
import pytest
from support.result_frames import frame_of, row

from sweeps.inference.evidence import Evidence
from sweeps.report.grid import Grid, grid_of
from sweeps.report.overview import overview
from sweeps.report.summary import summarise
from sweeps.report.tables import GAIN, gain_note, titles

LEVELS = {"retrain": 1.0, "ssd": 0.75, "pretrain": 0.7, "jit": 0.8, "scrub": 0.9, "far": 0.2}


def frame_at(*sizes: int) -> pd.DataFrame:
    more = {"a": 0.72, "b": 0.74}
    return frame_of(
        [
            row(m, s, v + s / 100, num_forget=size)
            for size in sizes
            for m, v in (LEVELS | more).items()
            for s in (0, 1)
        ]
    )


def grid(*sizes: int, reference: str = "") -> Grid:
    frame = frame_at(*sizes)
    summary = summarise(frame, Evidence.of(frame, reference=reference))
    return grid_of(summary, {"ssd": "#123456"}, reference or "nothing")


def test_controls_are_pinned_then_come_ranked_rows_by_tow_and_references() -> None:
    (group,) = grid(20).groups
    names = ["pretrain", "retrain", "jit", "ssd", "b", "a", "far", "scrub"]
    assert [r.line.method for r in group.rows] == names
    assert [r.kind for r in group.rows] == ["pin"] * 2 + ["ranked"] * 5 + ["ref"]
    assert [r.rank for r in group.rows] == ["", "", "1", "2", "3", "4", "5", ""]
    ssd = group.rows[3]
    assert (ssd.id, ssd.asked, ssd.colour) == ("synthetic-n20-ssd", "synthetic 20 ssd", "#123456")
    assert group.rows[4].colour == ""


def test_columns_begin_with_what_matters_and_each_says_what_it_is() -> None:
    columns = grid(20).columns
    keys = [column.key for column in columns]
    assert keys[:4] == ["tow", GAIN, "retain_score", "forget_score"]
    assert {*keys} - {GAIN} <= {*titles()}
    assert len({*keys}) == len(keys)
    assert [column.title for column in columns if column.on_phones] == ["ToW", "retain", "RMIA AUC"]
    assert all(column.meaning.endswith((".", "better.")) for column in columns)
    assert dict(zip(keys, columns, strict=True))[GAIN].meaning == gain_note("nothing")


def test_differences_are_to_doing_nothing_or_to_the_row_of_choice() -> None:
    def gains(of: Grid) -> list[str]:
        return [r.numbers[1].cell.mean for r in of.groups[0].rows]

    assert gains(grid(20)) == ["-", "-", "+10.0", "+5.0", "+4.0", "+2.0", "-50.0", "+20.0"]
    chosen = grid(20, reference="jit")
    assert chosen.columns[1].title == "vs jit"
    assert gains(chosen)[:3] == ["-10.0", "-", "-"]


def test_a_row_far_off_does_not_set_the_axis_and_is_drawn_at_its_end() -> None:
    (group,) = grid(20).groups
    places = {r.line.method: r.numbers[0].place for r in group.rows}
    low, high = map(float, group.axes[0].split(" to "))
    assert 60 < low < 70.5 < 90.5 < high < 95
    far, ssd = places["far"], places["ssd"]
    assert far is not None
    assert ssd is not None
    assert (far.at, far.is_cut) == (0.0, True)
    assert not ssd.is_cut
    assert ssd.at == pytest.approx(100 * (75.5 - low) / (high - low), abs=3)
    assert places["retrain"] is None
    assert group.axes[[c.key for c in grid(20).columns].index("unlearn_seconds")] == ""


def test_every_group_has_its_latex_with_a_label() -> None:
    first, second = grid(20, 5).groups
    assert r"\label{tab:synthetic-n20-1}" in first.latex
    assert r"\label{tab:synthetic-n5-1}" in second.latex


def test_the_overview_has_a_line_per_method_by_mean_rank() -> None:
    assert overview(grid(20)) == []
    lines = overview(grid(20, 5))
    names = ["pretrain", "jit", "ssd", "b", "a", "far", "scrub"]
    assert [line.method for line in lines] == names
    assert [line.mean_rank for line in lines] == ["", "1.0", "2.0", "3.0", "4.0", "5.0", ""]
    jit = lines[1].standings
    assert [(s.cell.mean, s.rank, s.address) for s in jit] == [
        ("80.5", "1", "synthetic-n20-jit"),
        ("80.5", "1", "synthetic-n5-jit"),
    ]
