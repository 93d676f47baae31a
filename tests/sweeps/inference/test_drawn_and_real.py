"""Orders of methods in several sweeps beside each other (benchmarks/drawn_and_real.py)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats
from support.result_frames import frame_of, row

from benchmarks.drawn_and_real import (
    agreement,
    agreement_of_seeds,
    main,
    markdown,
    mean_gains,
    table,
)

NAMES = "abcdefg"


def frame(tows: dict[str, list[float]], **more: int) -> pd.DataFrame:
    made = {"pretrain": [0.5] * 3, "retrain": [1.0] * 3, **tows}
    return frame_of(
        [row(name, seed, tow, **more) for name, own in made.items() for seed, tow in enumerate(own)]
    )


def gains(*points: float) -> pd.Series[float]:
    return pd.Series(points, index=list(NAMES[: len(points)]))


def test_gains_are_means_over_seeds_and_then_over_requests() -> None:
    small = frame({"a": [0.6, 0.6, 0.6], "b": [0.4, 0.5, 0.6]}, num_forget=5)
    large = frame({"a": [0.8, 0.8, 0.8]}, num_forget=20)
    full = frame({"scrub": [0.9, 0.9, 0.9], "b": [0.5, 0.5, 0.8]}, num_forget=5)
    assert mean_gains(small).to_dict() == pytest.approx({"a": 10.0, "b": 0.0})
    assert mean_gains(pd.concat([small, large])).to_dict() == pytest.approx({"a": 20.0})
    assert mean_gains(full).to_dict() == pytest.approx({"b": 10.0})


def test_the_correlation_is_of_the_rows_that_both_have() -> None:
    one, other = gains(7, 6, 5, 4, 3, 2), gains(5, 6, 4, 3, 2).rename({"e": "z"})
    found = agreement("drawn", "real", {"drawn": one, "real": other})
    assert found.rows == 4
    # The orders 1 2 3 4 and 2 1 3 4: 1 - 6 * 2 / (4 * 15).
    assert found.spearman == pytest.approx(0.8)
    # Of 24 orders one correlates by 1 and three by .8; twice that, for both signs.
    assert found.p == pytest.approx(8 / 24)
    assert found.sentence == (
        "Over the 4 rows that drawn and real have in common, drawn is not shown to say which "
        "method is better on real (Spearman +0.80, p 0.33)."
    )


def test_what_is_shown_is_said_with_its_sign() -> None:
    up = gains(*range(7))
    same = agreement("drawn", "real", {"drawn": up, "real": up**3})
    assert (same.spearman, same.p) == pytest.approx((1.0, 2 / math.factorial(7)))
    assert "drawn says something about which method is better on real" in same.sentence
    down = agreement("drawn", "real", {"drawn": up, "real": -up})
    assert "what is better on drawn is shown to be worse on real" in down.sentence


def test_ties_have_their_mean_rank() -> None:
    one, other = gains(0, 0, 1, 2, 3), gains(1, 0, 0, 3, 2)
    found = agreement("x", "y", {"x": one, "y": other}).spearman
    assert found == pytest.approx(stats.spearmanr(one, other).statistic)


@pytest.mark.parametrize("other", [gains(1, 2, 3), gains(1, 1, 1, 1, 1), gains()])
def test_too_few_rows_and_equal_gains_are_no_order(other: pd.Series[float]) -> None:
    found = agreement("x", "y", {"x": gains(1, 2, 3, 4, 5), "y": other})
    assert math.isnan(found.spearman)
    assert math.isnan(found.p)
    assert found.sentence.endswith("have in common no order can be compared.")


def test_seeds_are_held_against_the_mean_of_the_others() -> None:
    steady = {name: [0.5 + place / 10] * 3 for place, name in enumerate("abcd")}
    assert agreement_of_seeds(frame(steady)) == pytest.approx(1.0)
    turned = {name: [*tows[:2], 1.0 - tows[2]] for name, tows in steady.items()}
    # Two seeds rise by 1, 2, 3 steps, one falls: the mean of one of each is the same for all rows.
    assert agreement_of_seeds(frame(turned)) == pytest.approx(-1.0)
    assert math.isnan(agreement_of_seeds(frame({"a": [0.6] * 3})))
    assert math.isnan(agreement_of_seeds(frame(steady).query("seed == 0")))


def test_the_table_has_gains_with_ranks_of_rows_in_two_sweeps_or_more() -> None:
    three = {"x": gains(3, -2, 0.04), "y": gains(1, 5), "z": gains(2, 2, -0.04, 9)}
    assert markdown(table(three)).splitlines() == [
        "| row | x | y | z |",
        "| --- | ---: | ---: | ---: |",
        "| a | +3.0 (1) | +1.0 (2) | +2.0 (1.5) |",
        "| b | -2.0 (3) | +5.0 (1) | +2.0 (1.5) |",
        "| c | +0.0 (2) | - | +0.0 (3) |",
    ]


def test_finished_sweeps_are_compared_by_their_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steady = {name: [0.5 + place / 10] * 3 for place, name in enumerate("abcd")}
    for name in ("demo", "people"):
        folder = tmp_path / name / "report"
        folder.mkdir(parents=True)
        frame(steady).to_parquet(folder / "results.parquet")
    assert main([str(tmp_path / "demo"), str(tmp_path / "people")]) == 0
    *said, last = capsys.readouterr().out.splitlines()
    assert said[0] == "| row | demo | people |"
    assert "Over the 4 rows that demo and people have in common" in "\n".join(said)
    assert json.loads(last)["pairs"][0]["spearman"] == pytest.approx(1.0)


def test_what_is_no_finished_sweep_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "text.parquet"
    other.write_text("no table", encoding="utf-8")
    for given, says in (
        ([tmp_path], "name the output folders of two finished sweeps or more"),
        ([other, other], "name the output folders of two finished sweeps or more"),
        ([tmp_path, other], f"{tmp_path / 'report' / 'results.parquet'} cannot be read"),
        ([other, tmp_path], f"{other} cannot be read as the results of a sweep"),
    ):
        assert main(list(map(str, given))) == 2
        told = capsys.readouterr()
        assert told.err.startswith(says)
        assert told.err.count("\n") == 1
        assert told.out == ""
