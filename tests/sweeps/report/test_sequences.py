"""What is written, drawn and said of requests that came one after the other."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from support.in_turn import IN_TURN, chain_of
from support.inline_sweep import InlineSweep
from support.result_frames import frame_of, row
from support.stage_contexts import entry_of

from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.inference.evidence import Evidence
from sweeps.report import formats
from sweeps.report.figures import catalogue
from sweeps.report.figures.sequences import reversal, sequence
from sweeps.report.figures.style import Material
from sweeps.report.page import write_report
from sweeps.report.results import results_frame
from sweeps.report.sequences import (
    REVERSALS,
    SEQUENCE,
    SURVIVAL,
    sequence_findings,
    sequence_tables,
    survival,
    survival_tables,
    write,
)
from sweeps.report.summary import summarise
from sweeps.store.status import scan

WHERE = {"dataset": "synthetic", "num_forget": 20}


def lines(method: str, survived: dict[tuple[int, str], float], **own: Any) -> list[dict[str, Any]]:
    """Chains of twenty requests by seed and order, seen after 10 and 20 people."""
    made = []
    for (seed, order), count in survived.items():
        for forgotten in (10, 20):
            tow = 0.9 + seed / 100 + (0.04 if order == "1" else 0.0)
            made.append(
                {
                    **WHERE,
                    "seed": seed,
                    "method": method,
                    "tuned_on": "one request",
                    "schedule": "20x1",
                    "requests": 20,
                    "people": 1,
                    "order": order,
                    "keeps_support": False,
                    "forgotten": forgotten,
                    "request": forgotten,
                    "tow": tow if forgotten == 20 else 0.5,
                    "tow_nothing": 0.9,
                    "tow_mean": 0.8,
                    "erosion": 0.01,
                    "drift": 1.5,
                    "reversal_max": math.nan if forgotten == 10 else 0.25,
                    "noise_floor": 0.02,
                    "mia_first": 0.6,
                    "mia_first_retrained": 0.5,
                    "survived": count,
                    "batch_gap": -0.01,
                    **own,
                }
            )
    return made


COUNTS: dict[tuple[int, str], float] = {(0, "0"): 10, (0, "1"): 20, (1, "0"): 0, (1, "1"): 10}
FRAME = pd.DataFrame(
    [
        *lines("ssd", COUNTS),
        *lines("jit", dict.fromkeys(COUNTS, 0)),
        *lines("ssd", COUNTS, keeps_support=True),
    ]
)


def test_survival_is_a_mean_over_chains_with_the_spread_of_orders_and_of_seeds() -> None:
    found = survival(FRAME)
    ssd = found[(found["method"] == "ssd") & ~found["keeps_support"]].iloc[0]
    assert (ssd["survived"], ssd["chains"], ssd["times"]) == (10, 4, "10, 20")
    deviation = 10 / math.sqrt(2)  # of 10 and 20, as of 0 and 10, and of their means 15 and 5
    assert ssd["survived_orders"] == pytest.approx(deviation)
    assert ssd["survived_seeds"] == pytest.approx(deviation)
    assert ssd["tow"] == pytest.approx(0.925), "of the ends alone"
    assert ssd["order_spread"] == pytest.approx(0.04 / math.sqrt(2))
    assert len(found) == 3


def test_the_table_says_what_a_row_survives_and_what_was_looked_at() -> None:
    (table,) = survival_tables({SURVIVAL: survival(FRAME)})
    ssd, jit, kept = table.lines
    assert dict(zip(table.titles, ssd, strict=True)) == {
        "row": "ssd",
        "tuned on": "one request",
        "requests": "20x1",
        "survived": "10.0 of 20",
        "± orders": "7.1",
        "± seeds": "7.1",
        "ToW at the end": "92.5",
        "doing nothing": "90.0",
        "mean ToW": "80.0",
        "order spread": "2.8",
        "batch gap": "-1.0",
        "erosion": "+1.0",
        "came back": "+25.0",
        "drift": "1.50",
        "MIA on the first (retrained)": "60.0 (50.0)",
    }
    assert jit[3] == "0.0 of 20"
    assert kept[0] == "ssd + S"
    assert "after 10, 20 people" in table.note
    assert "rows marked + S" in table.note
    (plain,) = survival_tables({SURVIVAL: survival(FRAME[~FRAME["keeps_support"]])})
    assert "+ S" not in plain.note


def test_without_a_noise_floor_nothing_is_said_to_be_survived() -> None:
    unknown = FRAME.assign(survived=math.nan, noise_floor=math.nan)
    (table,) = survival_tables({SURVIVAL: survival(unknown)})
    assert {line[3] for line in table.lines} == {"-"}
    assert list(sequence_findings({SURVIVAL: survival(unknown)})) == []


def test_the_finding_names_who_survives_the_most_and_who_none() -> None:
    (finding,) = sequence_findings({SURVIVAL: survival(FRAME)})
    first, second, third = finding.sentences
    assert first.startswith("Of 20 requests one after the other ssd survives the most, 10.0 on av")
    assert second == "None at all: jit."
    assert "after 10, 20 people" in third
    (none,) = sequence_findings({SURVIVAL: survival(FRAME[FRAME["method"] == "jit"])})
    assert none.sentences[0].startswith("No row survives any of 20 requests")


@pytest.fixture(scope="module")
def written(in_turn: InlineSweep, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("report")
    entries = scan(in_turn.plan, in_turn.store, discard=False).entries
    tables = sequence_tables(in_turn.plan, entries)
    write(tables, folder)
    return folder, tables


def test_every_chain_has_a_line_for_every_time(
    in_turn: InlineSweep, written: tuple[Path, Any]
) -> None:
    folder, tables = written
    frame = pd.read_parquet(folder / "sequence.parquet")
    # Two rows: all at once, and two schedules in two orders, seen after two and four people.
    assert len(frame) == 2 * (1 + 2 * 2 * 2)
    chain = chain_of(in_turn.plan, "ssd", "2x2", "hardest")
    value = entry_of(in_turn, chain.score_key).value
    own = frame[frame["job_key"] == chain.score_key]
    assert own["forgotten"].tolist() == [2, 4]
    assert own["request"].tolist() == [1, 2]
    assert own["stale"].tolist() == [0, 1], "requests since the preparation"
    assert own["tow"].tolist() == value["tow"]
    at_once = chain_of(in_turn.plan, "ssd", "1x4", None)
    gap = entry_of(in_turn, at_once.score_key).value["tow"][-1] - value["tow"][-1]
    assert own["batch_gap"].tolist() == pytest.approx([gap, gap])
    assert frame.loc[frame["method"] == "gradient_ascent", "stale"].isna().all()
    for name in (SEQUENCE, REVERSALS, SURVIVAL):
        assert len(pd.read_csv(folder / name)) == len(tables[name])
    assert len(tables[REVERSALS]) == 2 * 4


def test_survived_are_requests_and_not_people(in_turn: InlineSweep) -> None:
    entries = dict(scan(in_turn.plan, in_turn.store, discard=False).entries)
    chain = chain_of(in_turn.plan, "ssd", "2x2")
    entry = entries[chain.score_key]
    whole = dataclasses.replace(entry, value={**entry.value, "survived": 4})
    frame = sequence_tables(in_turn.plan, {**entries, chain.score_key: whole})[SEQUENCE]
    assert frame.loc[frame["job_key"] == chain.score_key, "survived"].tolist() == [2, 2]


def test_an_ordinary_sweep_writes_nothing_of_the_kind(tmp_path: Path) -> None:
    tables = sequence_tables(expand(load(["sweep=smoke"]).sweep), {})
    write(tables, tmp_path)
    assert tables == {}
    assert list(tmp_path.iterdir()) == []


def summary() -> pd.DataFrame:
    rows = [row(name, 0, 0.9, task="multilabel", **WHERE) for name in ("pretrain", "ssd", "jit")]
    return summarise(frame_of(rows))


def test_markdown_and_latex_hold_the_table() -> None:
    found = survival_tables({SURVIVAL: survival(FRAME)})
    text = formats.markdown(summary(), (), found)
    assert "| `ssd` | one request | 20x1 | 10.0 of 20 | 7.1 |" in text
    assert found[0].note in text
    tex = formats.latex(summary(), (), found)
    assert r"ssd & one request & 20x1 & 10.0 of 20 & 7.1" in tex
    assert r"\label{tab:survival-1}" in tex
    assert "survive" not in formats.markdown(summary())
    stream = io.StringIO()
    formats.survival_terminal(found, Console(file=stream, width=100))
    shown = [line.split() for line in stream.getvalue().splitlines()]
    assert [
        "ssd",
        "one",
        "request",
        "20x1",
        "10.0",
        "of",
        "20",
        "7.1",
        "7.1",
        "92.5",
        "90.0",
    ] in shown


def material(tables: dict[str, pd.DataFrame]) -> Material:
    rows = [row(name, 0, 0.9, task="multilabel", **WHERE) for name in ("pretrain", "ssd", "jit")]
    frame = frame_of(rows)
    return Material(
        plan=expand(load(["sweep=smoke"]).sweep),
        entries={},
        frame=frame,
        summary=summarise(frame),
        tables=tables,
    )


def test_tow_is_drawn_against_the_line_of_doing_nothing() -> None:
    (drawing,) = sequence(material({SEQUENCE: FRAME}))
    assert drawing.name == "synthetic-n20-20x1"
    (axes,) = drawing.make().axes
    drawn = [np.asarray(line.get_ydata()) for line in axes.lines]
    # Doing nothing, that with the noise above it, and the mean of every row.
    expected = [[90, 90], [92, 92], [50, 92.5], [50, 92.5]]
    assert [line.tolist() for line in drawn] == [pytest.approx(line) for line in expected]
    names = {text.get_text() for text in axes.texts}
    assert {"doing nothing", "ssd", "jit"} <= {name.split(" (")[0] for name in names}


def test_what_comes_back_is_a_triangle_for_every_row() -> None:
    told = {key: FRAME[key].iloc[0] for key in ("dataset", "num_forget", "seed", "schedule")}
    shares = {(5, 10): 0.1, (5, 20): -0.2, (10, 20): 0.4}
    table = pd.DataFrame(
        {**told, "requests": 20, "keeps_support": False, "method": method}
        | {"order": order, "group": group, "forgotten": at, "reversal": share + extra}
        for method in ("ssd", "jit")
        for order, extra in (("0", 0.0), ("1", 0.2))
        for (group, at), share in shares.items()
    )
    (drawing,) = reversal(material({REVERSALS: table}))
    panels = [axes for axes in drawing.make().axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["ssd", "jit"]
    assert [text.get_text() for text in panels[0].texts] == ["+20", "-10", "+50"]
    assert list(reversal(material({REVERSALS: table.assign(reversal=math.nan)}))) == []


def test_an_ordinary_sweep_has_no_such_figures() -> None:
    assert {"sequence", "reversal"} <= catalogue.KINDS.keys()
    assert list(sequence(material({}))) == list(reversal(material({}))) == []


@pytest.mark.slow
def test_the_page_holds_table_finding_and_figures_and_links_to_what_is_there(
    in_turn: InlineSweep, tmp_path: Path
) -> None:
    entries = scan(in_turn.plan, in_turn.store, discard=False).entries
    frame = results_frame(in_turn.plan, entries)
    evidence = Evidence.of(frame)
    page = write_report(
        in_turn.plan,
        frame,
        summarise(frame, evidence),
        evidence,
        entries,
        (),
        (),
        tmp_path,
        IN_TURN,
    )
    text = page.read_text(encoding="utf-8")
    assert '<section id="sequence">' in text
    assert '<a href="#sequence">' in text
    for name in ("sequence.parquet", "sequence.csv", "reversals.csv", "survival.csv"):
        assert f'href="{name}"' in text
        assert (page.parent / name).is_file()
    for name in ("sequence-synthetic_tiny-n4-4x1", "sequence-synthetic_tiny-n4-2x2"):
        assert f'id="figure-{name}"' in text
    assert "survive" in (page.parent / "summary.md").read_text(encoding="utf-8")
