"""What is said, written and drawn of probes: of values made by hand, and of a sweep run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.inline_sweep import InlineSweep
from support.probed import PROBED, probed
from support.several_requests import SEVERAL

from oneshui.audits.hiding import TIMES
from sweeps.config import load
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.report.audits import probes
from sweeps.report.audits.hiding import OF_PROBES, curves_frame, probe_values, probes_frame
from sweeps.report.audits.part import Part
from sweeps.report.figures import catalogue
from sweeps.report.figures.recovery import PRETRAINED, RETRAINED, recovery
from sweeps.report.figures.style import Material
from sweeps.report.results import results_frame
from sweeps.report.summary import summarise
from sweeps.store import Entry
from sweeps.store.status import scan

PLAN = expand(load([*PROBED, "sweep.seeds=[0,1]"]).sweep)
PEOPLE = (3, 5, 8, 9)
MODELS = ("pretrain", "retrain", "retrain_again", "ssd")

START = {"pretrain": 0.9, "retrain": 0.5, "retrain_again": 0.52, "ssd": 0.5}
"""Scores at step 0; all but ssd's then stay as they are, and ssd's is as pretrained from step 1."""
TOW = {"pretrain": 0.6, "retrain": 1.0, "retrain_again": 0.95, "ssd": 0.97}
FIRST = {
    "pretrain": (1.0, 1.0, 1.0, 0.5),
    "retrain": (0.5, 0.5, 0.0, 0.0),
    "retrain_again": (0.5, 0.0, 0.0, 0.5),
    "ssd": (0.5, 0.5, 0.0, 0.5),
}


def value_of(name: str) -> dict[str, Any]:
    rest = START["pretrain"] if name == "ssd" else START[name]
    curve = [START[name], *[rest] * (len(TIMES) - 1)]
    rates = {"people": list(PEOPLE), "pictures": [4] * 4, "pairs": 1500}
    return {
        "times": list(TIMES),
        "curves": dict.fromkeys(("1", "5", "support"), curve),
        "heights": [rest + shift for shift in (-0.01, 0.0, 0.01)],
        "taught": {"1": 4, "5": 8, "support": 4},
        "asked": 12,
        "support_score": START[name],
        "forgotten": {
            **rates,
            "first": list(FIRST[name]),
            "accepted": [one / 2 for one in FIRST[name]],
        },
        "retained": {**rates, "first": [START[name]] * 4, "accepted": None},
        "strangers": 20,
    }


def entry(stage: Any, key: str, value: Mapping[str, Any]) -> Entry:
    return Entry(
        stage=stage,
        key=key,
        folder=Path("/nowhere"),
        files={},
        value=dict(value),
        content=key,
        inputs={},
        cost={},
    )


def entries_of(plan: Plan, **changes: Mapping[str, Any]) -> dict[str, Entry]:
    """Every row's score and probes, with other values of some rows' probes."""
    found = {}
    for row in plan.results:
        name = row.row.name
        found[row.score_key] = entry("score", row.score_key, {"tow": TOW[name]})
        assert row.probes is not None
        for key in row.probes.own:
            found[key] = entry("probe", key, {**value_of(name), **changes.get(name, {})})
    return found


def row_of(plan: Plan, name: str) -> ResultRow:
    return next(row for row in plan.results if row.row.name == name)


def values(name: str, **changes: Mapping[str, Any]) -> dict[str, float | None]:
    return probe_values(row_of(PLAN, name), entries_of(PLAN, **changes))


def test_a_row_s_columns_are_its_probes_beside_those_of_retrained_and_pretrained_model() -> None:
    found = values("ssd")
    assert set(found) == set(OF_PROBES)
    # From 0.5 to 0.9 within the first of thirty steps.
    back = (0.5 * 0.4 + 29 * 0.4) / (30 * 0.4)
    for lesson in ("1", "5", "support"):
        assert found[f"recovery_{lesson}"] == pytest.approx(back)
    assert found["relearn_steps"] == 1
    assert found["reid_rank1"] == pytest.approx(0.375)
    assert found["reid_rank1_gap"] == pytest.approx(0.125)
    assert found["reid_tpr"] == pytest.approx(0.1875)
    assert found["reid_tpr_gap"] == pytest.approx(0.0625)
    assert found["reid_retain_gap"] == pytest.approx(0.0)
    assert found["hides"] == 1.0


def test_doing_nothing_comes_back_whole_and_retrained_models_do_not() -> None:
    assert values("pretrain")["recovery_5"] == 1
    assert values("pretrain")["hides"] == 0
    assert values("retrain")["recovery_5"] == 0
    assert values("retrain_again")["recovery_5"] == pytest.approx(0.05)
    flags = probes_frame(PLAN, entries_of(PLAN)).set_index(["method", "seed"])["flag"]
    assert flags.unstack()[0].to_dict() == {
        "pretrain": "comes back",
        "retrain": "none",
        "retrain_again": "none",
        "ssd": "hides",
    }


def test_what_is_missing_in_a_probe_is_missing_in_the_row() -> None:
    nobody = values("ssd", ssd={"forgotten": None, "retained": None, "heights": None})
    assert nobody["reid_rank1"] is None
    assert nobody["reid_rank1_gap"] is None
    assert nobody["reid_retain_gap"] is None
    assert nobody["recovery_5"] is not None
    few = values(
        "ssd", retrain={"forgotten": {**value_of("retrain")["forgotten"], "accepted": None}}
    )
    assert few["reid_tpr"] == pytest.approx(0.1875)
    assert few["reid_tpr_gap"] is None


def test_the_flag_rests_upon_true_accepts_and_upon_rank_one_where_there_are_too_few_pairs() -> None:
    """Nothing comes back of ssd here, but the people are recognised."""
    same = {"curves": value_of("retrain")["curves"], "heights": value_of("retrain")["heights"]}
    goal = value_of("retrain")["forgotten"]

    def hides(first: list[float], accepted: list[float] | None, of_goal: Any) -> float | None:
        known = {**goal, "first": first, "accepted": accepted}
        retrained = {"forgotten": {**goal, "accepted": of_goal}}
        return values("ssd", ssd={**same, "forgotten": known}, retrain=retrained)["hides"]

    low, high = list(goal["first"]), [0.9, 1.0, 0.6, 0.7]
    assert hides(low, high, goal["accepted"]) == 1
    assert hides(high, list(goal["accepted"]), goal["accepted"]) == 0
    assert hides(high, None, None) == 1
    assert hides(low, None, None) == 0


def test_a_row_whose_probes_are_not_all_done_has_no_columns() -> None:
    row = row_of(PLAN, "ssd")
    assert row.probes is not None
    for keys in (row.probes.own, row.probes.retrained, row.probes.pretrained):
        known = entries_of(PLAN)
        del known[keys[0]]
        assert probe_values(row, known) == {}
    unasked = dataclasses.replace(row, probes=None)
    assert probe_values(unasked, entries_of(PLAN)) == {}


def test_without_the_noise_floor_nobody_is_said_to_hide() -> None:
    row = row_of(PLAN, "ssd")
    assert row.probes is not None
    known = entries_of(PLAN)
    del known[row.probes.again_score or ""]
    assert probe_values(row, known)["hides"] is None


def test_several_requests_are_seen_together() -> None:
    plan = expand(load([*SEVERAL, "sweep.audit.probes=true"]).sweep)
    row = row_of(plan, "ssd")
    known = entries_of(plan)
    assert row.probes is not None
    assert len(row.probes.own) == 4
    single = values("ssd")
    assert probe_values(row, known) == pytest.approx(single)
    key = row.probes.own[2]
    better = dict(value_of("ssd"), curves=value_of("pretrain")["curves"])
    better["forgotten"] = {**value_of("ssd")["forgotten"], "first": [1.0] * 4}
    known[key] = entry("probe", key, better)
    found = probe_values(row, known)
    assert found["recovery_5"] == pytest.approx(0.75 * (single["recovery_5"] or 0) + 0.25)
    assert found["reid_rank1"] == pytest.approx((3 * 0.375 + 1) / 4)
    del known[key]
    assert probe_values(row, known) == {}


def frame_of(plan: Plan, known: Mapping[str, Entry]) -> pd.DataFrame:
    return pd.DataFrame({"method": [row.row.name for row in plan.results if known]})


def test_the_table_has_a_line_for_every_row_with_errors_over_people(tmp_path: Path) -> None:
    known = entries_of(PLAN)
    part = probes.part(PLAN, known, frame_of(PLAN, known), tmp_path)
    assert part is not None
    (table,) = part.tables
    lines = {line[0]: dict(zip(table.titles, line, strict=True)) for line in table.lines}
    assert list(lines) == list(MODELS)
    rank = 0.25 / math.sqrt(2)  # of one seed, (0, 0, 0, 0.5) over people: half of 0.25
    assert lines["ssd"] == {
        "row": "ssd",
        "ToW": "97.0",
        "taught, asked": "8, 12",
        "back from 5": "98.3 ± 0.0",
        "from 1": "98.3",
        "from S": "98.3",
        "steps": "1.0",
        "rank 1": "37.5",
        "Δ rank 1": f"+12.5 ± {100 * rank / 2:.1f}",
        "accepted": "18.8",
        "Δ accepted": f"+6.2 ± {100 * rank / 4:.1f}",
        "Δ rank 1, stay": "+0.0",
        "flag": "hides (2/2)",
    }
    assert lines["pretrain"]["flag"] == "comes back (2/2)"
    assert lines["retrain"]["steps"] == "> 30"
    assert lines["retrain"]["flag"] == "none"
    (sentence,) = part.sentences
    assert "ssd (2)" in sentence
    for name in part.files:
        assert (tmp_path / name).is_file()
    assert set(part.figures) <= catalogue.KINDS.keys()


def flat(height: float) -> dict[str, Any]:
    """A probe's curves that stay at one height."""
    curve = [height] * len(TIMES)
    return {"curves": dict.fromkeys(("1", "5", "support"), curve), "heights": [height] * 3}


def line_of(part: Part | None, name: str) -> dict[str, str]:
    assert part is not None
    (table,) = part.tables
    lines = {line[0]: dict(zip(table.titles, line, strict=True)) for line in table.lines}
    return lines[name]


def test_steps_say_who_never_relearned_and_where_there_was_nothing_to_relearn(
    tmp_path: Path,
) -> None:
    known = entries_of(PLAN)
    frame = frame_of(PLAN, known)
    (_, second) = (row for row in PLAN.results if row.row.name == "ssd")
    assert second.probes is not None
    (key,) = second.probes.own
    slow = {**known, key: entry("probe", key, {**value_of("ssd"), **flat(0.5)})}
    assert line_of(probes.part(PLAN, slow, frame, tmp_path), "ssd")["steps"] == "1.0, > 30 (1/2)"
    level = entries_of(PLAN, pretrain=flat(0.5))
    shown = probes.part(PLAN, level, frame, tmp_path)
    for name in MODELS:
        assert line_of(shown, name)["steps"] == "-", name
    assert shown is not None
    (sentence,) = shown.sentences
    assert sentence.endswith(
        "what it knows; nothing could come back, so this rests upon who is recognised."
    )


def test_of_a_single_person_without_anything_to_recover_nothing_is_told(tmp_path: Path) -> None:
    one = {"people": [3], "pictures": [4], "pairs": 9, "first": [1.0], "accepted": None}
    alone = {"forgotten": one, **flat(0.5)}
    known = entries_of(PLAN, **dict.fromkeys(MODELS, alone))
    shown = probes.part(PLAN, known, frame_of(PLAN, known), tmp_path)
    assert line_of(shown, "ssd")["flag"] == "-"
    assert shown is not None
    (sentence,) = shown.sentences
    assert "too few people" in sentence


def test_what_is_not_done_is_named(tmp_path: Path) -> None:
    known = entries_of(PLAN)
    frame = frame_of(PLAN, known)

    def without(name: str, count: int) -> tuple[str, ...]:
        gone = [row.probes.own[0] for row in PLAN.results if row.row.name == name and row.probes]
        left = {key: it for key, it in known.items() if key not in gone[:count]}
        part = probes.part(PLAN, left, frame, tmp_path)
        assert part is not None
        return part.sentences

    _, some = without("ssd", 1)
    assert some.endswith("not done or has failed: ssd (in 1 of 2 cells).")
    floor, _ = without("retrain_again", 2)
    assert "a job of the row retrain_again, the noise floor, is not done" in floor
    # Without the retrained model's probes nothing can be said of any row.
    (everything,) = without("retrain", 2)
    assert everything.endswith("has failed: pretrain, retrain, retrain_again, ssd.")


def test_nothing_is_shown_where_nobody_asked(tmp_path: Path) -> None:
    plan = expand(load(["sweep=smoke"]).sweep)
    assert probes.part(plan, {}, frame_of(plan, {}), tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    material = Material(plan=plan, entries={}, frame=pd.DataFrame(), summary=pd.DataFrame())
    assert list(recovery(material)) == []


def test_where_nothing_was_retrained_again_the_sentence_says_so(tmp_path: Path) -> None:
    plan = expand(
        load(
            ["sweep=smoke", "sweep.methods=[ssd,pretrain,retrain]", "sweep.audit.probes=true"]
        ).sweep
    )
    known = entries_of(plan)
    part = probes.part(plan, known, frame_of(plan, known), tmp_path)
    assert part is not None
    assert all("retrain_again" in sentence for sentence in part.sentences)
    assert {line[-1] for table in part.tables for line in table.lines} <= {
        "none",
        "comes back (2/2)",
    }


def test_curves_are_written_beside_those_of_both_models() -> None:
    table = curves_frame(PLAN, entries_of(PLAN))
    assert len(table) == len(PLAN.results) * 3 * len(TIMES)
    own = table[(table["method"] == "ssd") & (table["lesson"] == "5") & (table["seed"] == 1)]
    assert own["steps"].tolist() == list(TIMES)
    assert own["score"].tolist() == [0.5, 0.9, 0.9, 0.9, 0.9, 0.9]
    assert set(own["retrained"]) == {0.5}
    assert set(own["pretrained"]) == {0.9}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    return probed(tmp_path_factory.mktemp("probed"))


def test_of_a_sweep_really_run_all_is_there(sweep: InlineSweep, tmp_path: Path) -> None:
    known = scan(sweep.plan, sweep.store, discard=False).entries
    frame = results_frame(sweep.plan, known)
    by_method = frame.set_index("method")
    of_retrained = by_method.loc["retrain", ["recovery_1", "recovery_5", "reid_rank1_gap"]]
    assert set(of_retrained.dropna()) == {0}
    assert by_method.loc["retrain", "hides"] == 0
    assert by_method["reid_rank1"].between(0, 1).all()
    part = probes.part(sweep.plan, known, frame, tmp_path)
    assert part is not None
    assert len(part.tables[0].lines) == len(frame)
    summary = summarise(frame)
    material = Material(plan=sweep.plan, entries=known, frame=frame, summary=summary)
    (drawing,) = recovery(material)
    panels = drawing.make().axes
    assert len(panels) == 3
    for axes in panels:
        assert len(axes.lines) == 2 + 2, "both models to compare with, ssd and retrain_again"
        assert [text.get_text() for text in axes.get_xticklabels()] == [str(one) for one in TIMES]
    table = curves_frame(sweep.plan, known)
    own = table[(table["method"] == "ssd") & (table["lesson"] == "1")]
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in panels[0].lines]
    assert any(line == pytest.approx(100 * own["score"].to_numpy()) for line in drawn)
    names = {text.get_text().split(" (")[0] for text in panels[-1].texts}
    assert names == {PRETRAINED, RETRAINED, "ssd", "retrain_again"}
