"""What the report says of studies, on studies made by hand with every text written out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from support.result_frames import frame_of, row

from oneshui.spec import Range
from sweeps.graph.spec import Cell, TuningObjective
from sweeps.graph.studies import StudyJobs
from sweeps.report.studies import leaks, words
from sweeps.report.studies.results import StudyResult, studies_frame


def result(
    name: str,
    tows: Sequence[float | None],
    chosen: dict[TuningObjective, int],
    correlations: tuple[float | None, float | None] = (None, None),
    importance: dict[str, float] | None = None,
    seed: int = 1000,
    nothing: int | None = None,
) -> StudyResult:
    study = StudyJobs(
        dataset="faces",
        num_forget=5,
        row=name,
        method="ssd",
        space={"alpha": Range(low=1, high=100), "rate": Range(low=0, high=1)},
        cells=(Cell(dataset="faces", num_forget=5, seed=seed),),
        simulated=(),
        trials=tuple(f"{name}{place}" for place in range(len(tows))),
        nothing=nothing,
        choices={},
        true_tows=(),
    )
    points: list[dict[str, Any]] = [
        {
            "place": place,
            "simulated": 0.5,
            "score": None,
            "tow": tow,
            "carried": False,
            "alpha": 10.0 * place + 1 + seed - 1000,
            "rate": 0.123456,
        }
        for place, tow in enumerate(tows)
    ]
    return StudyResult(
        study=study,
        points=pd.DataFrame(points).astype({"tow": "float64"}),
        chosen=chosen,
        importance=importance or {},
        simulated_correlation=correlations[0],
        score_correlation=correlations[1],
    )


UP = result("up", [0.5, 0.7, 0.9], {"support_only": 1, "oracle": 2}, (0.8, 0.25))
DOWN = result("down", [0.8, 0.6, 0.7], {"support_only": 1, "oracle": 0}, (0.4, None))
HIDDEN = result("hidden", [None, None], {"support_only": 1})


def test_what_doing_nothing_would_have_been_worth_is_said() -> None:
    idle = result("idle", [0.2, 0.7, 0.6], {"support_only": 1}, nothing=1)
    good = result("good", [0.2, 0.7, 0.76], {"support_only": 2}, nothing=1)
    bad = result("bad", [0.6, 0.7, 0.2], {"support_only": 0}, nothing=1)
    assert words.study_sentences([idle, good, bad])[1] == (
        "support_only: 1 of 3 studies picked doing nothing; the others' picks are -2.0 points "
        "from it, 1 of them worse."
    )
    assert [line.picked for line in words.study_lines([idle])] == ["1: does nothing"]


def test_sentences_say_gain_loss_and_how_far_the_score_can_be_trusted() -> None:
    # up gains 20 points and misses 20, down loses 20 and misses 20; hidden says nothing.
    assert words.study_sentences([UP, DOWN, HIDDEN]) == [
        "support_only: over 2 studies the picked point's ToW is +0.0 points from the defaults' and "
        "20.0 below that of the best evaluated point; 1 picked worse than the defaults.",
        "oracle: over 2 studies the picked point's ToW is +20.0 points from the defaults' and "
        "0.0 below that of the best evaluated point; 0 picked worse than the defaults.",
        "Rank correlation of the simulated value with the true ToW: mean 0.60, lowest 0.40 "
        "(2 studies).",
        "Rank correlation of the support-only score with the true ToW: mean 0.25, lowest 0.25 "
        "(1 study).",
    ]
    assert words.study_sentences([DOWN])[0] == (
        "support_only: over 1 study the picked point's ToW is -20.0 points from the defaults' and "
        "20.0 below that of the best evaluated point; 1 picked worse than the defaults."
    )
    assert words.study_sentences([HIDDEN]) == []
    assert words.study_sentences([]) == []


def test_lines_name_the_picked_point_and_what_it_was_worth() -> None:
    shares = {"rate": 0.2, "alpha": 0.8}
    picked = result("ssd", [0.5, 0.75, 0.625], {"oracle": 1}, (0.5, -0.25), shares)
    (line,) = words.study_lines([picked])
    assert line == words.StudyLine(
        study="ssd faces n5 s1000",
        objective="oracle",
        points="3",
        picked="1: alpha 11, rate 0.1235",
        picked_tow="75.0",
        defaults_tow="50.0",
        best_tow="75.0",
        simulated_correlation="0.50",
        score_correlation="-0.25",
        importance="alpha 80%, rate 20%",
    )
    (line,) = words.study_lines([result("jit", [None], {"simulated": 0})])
    assert line.picked == "defaults: alpha 1, rate 0.1235"
    missing = (line.picked_tow, line.defaults_tow, line.best_tow, line.simulated_correlation)
    assert {*missing, line.score_correlation, line.importance} == {"-"}


def test_the_frame_has_a_row_per_study_and_objective() -> None:
    frame = studies_frame([UP, HIDDEN])
    assert frame[["study", "objective", "points", "picked"]].values.tolist() == [
        ["up faces n5 s1000", "support_only", 3, 1],
        ["up faces n5 s1000", "oracle", 3, 2],
        ["hidden faces n5 s1000", "support_only", 2, 1],
    ]
    assert frame[["picked_tow", "defaults_tow", "best_tow"]].values[:2].tolist() == [
        [0.7, 0.5, 0.9],
        [0.9, 0.5, 0.9],
    ]
    assert frame[["picked_tow", "best_tow", "simulated_correlation"]].iloc[2].isna().all()


def test_how_far_the_picks_of_several_studies_lie_apart_is_said() -> None:
    """Of one row's: another row's study between them is no part of it."""
    several = [
        result("ssd", [0.5, 0.6, 0.75], {"support_only": 2}),
        result("jit", [0.5, 0.9], {"support_only": 1}),
        result("ssd", [0.6, 0.5, 0.4], {"support_only": 1}, seed=1003),
        result("ssd", [None, None], {"support_only": 1}, seed=1001),
    ]
    frame = studies_frame(several)
    assert frame["seeds"].tolist() == ["1000", "1000", "1003", "1001"]
    assert frame["studies"].tolist() == [3, 1, 3, 3]
    assert json.loads(frame["hyperparameters"][2]) == {"alpha": 14, "rate": 0.123456}
    # ToW 75 and 50 percent, 25 points above the defaults and 10 below.
    assert frame["gain"].dropna().tolist() == pytest.approx([0.25, 0.4, -0.1])
    assert frame["picked_tow_std"][0] == pytest.approx(0.25 / 2**0.5)
    assert frame["gain_std"][2] == pytest.approx(0.35 / 2**0.5)
    assert frame[["picked_tow_std", "gain_std"]].iloc[1].isna().all()
    assert words.study_sentences(several)[1:] == [
        "ssd faces n5, support_only: 3 studies picked alpha 12 to 21, rate 0.1235 to 0.1235; true "
        "ToW 50.0 to 75.0, -10.0 to +25.0 points from the defaults' in the same study (standard "
        "deviation 24.7)."
    ]
    assert len(words.study_sentences([several[1]])) == 1
    unknown = [result("ssd", [None], {"simulated": 0}, seed=seed) for seed in (1000, 1001)]
    assert words.study_sentences(unknown) == [
        "ssd faces n5, simulated: 2 studies picked alpha 1 to 2, rate 0.1235 to 0.1235."
    ]


def test_what_knowledge_buys_is_paired_and_ordered_by_tow() -> None:
    tows: dict[str, list[float | None]] = {
        "support_only": [0.70, 0.80, None],
        "oracle": [0.80, 0.95, 0.6],
        "simulated": [0.60, 0.84, 0.5],
    }
    frame = frame_of(
        [
            row(f"jit@{objective}", seed, tow, tuning=objective)
            for objective, column in tows.items()
            for seed, tow in enumerate(column)
        ]
    )
    table = leaks.leak_cost(frame)
    assert table["objective"].tolist() == ["oracle", "support_only", "simulated"]
    assert table["n"].tolist() == [3, 2, 3]
    assert table["gain_mean"].tolist() == pytest.approx([0.125, 0.0, -0.03])
    assert table["better"].tolist()[0] == 1.0
    assert table["better"].tolist()[2] == 0.5
    assert list(leaks.leak_cost_lines(table)) == [
        ["oracle", "3", "78.3 ± 17.6", "+12.5 ± 3.5", "100%"],
        ["support_only", "2", "75.0 ± 7.1", "-", "-"],
        ["simulated", "3", "64.7 ± 17.5", "-3.0 ± 9.9", "50%"],
    ]
    assert leaks.leak_cost_markdown(table).startswith(
        "| objective | rows x cells | ToW | against support_only | ahead of it |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| oracle | 3 | 78.3 ± 17.6 | +12.5 ± 3.5 | 100% |\n"
    )


def test_rows_of_one_study_are_paired_by_name_without_their_objective_alone() -> None:
    """A name may hold an @ of its own; rows that nothing tuned are left out."""
    rows = [row("a@b@oracle", 0, 0.9, tuning="oracle"), row("c@oracle", 0, 0.1)]
    rows += [row("a@b@support_only", 0, 0.8, tuning="support_only")]
    rows += [row("a@c@oracle", 0, 0.2, tuning="oracle")]
    table = leaks.leak_cost(frame_of(rows)).set_index("objective")
    (found,) = table.loc[["oracle"], ["n", "gain_mean"]].to_numpy().tolist()
    assert found == pytest.approx([2, 0.1])
