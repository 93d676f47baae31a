"""Completeness in a report, and the cheap measures that other benchmarks print.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from sweeps.graph.artifacts import COMPLETENESS
from sweeps.graph.plan import Plan
from sweeps.report.analyses import stored_table
from sweeps.report.audits.part import Part, not_audited, tables_of
from sweeps.report.results import with_rows
from sweeps.report.sheets import write_csv
from sweeps.store import Entry

PEOPLE_FILE = "completeness_people.csv"
ABSENT = "-"
TITLES = (
    *("row", "completeness", "people", "pictures", "models", "same answers", "same, test"),
    *("activation distance", "on test", "ZRF", "RF-JS"),
)
ASKS = (
    "Where does a person stand between how the pretrained model knows them (near 0) and how a "
    "model knows them that never saw them? And what do the measures say that other papers print?"
)
NOTE = (
    "Means over seeds. Completeness in percent, the mean over people, with the mean of the seeds' "
    "95 % intervals over people in brackets. What complete forgetting looks like stands in the row "
    "of the model that was retrained again, and what none looks like in that of the pretrained "
    "one; where these two are near each other, the pictures cannot tell. More than the former is "
    "over-forgetting. Models: how many that never saw the people it rests upon; with fewer than "
    "three the spread of the signal is that between pictures, and the scale is short. Same "
    "answers: share of answers about forgotten people that are the retrained model's (SUPREME's "
    "completeness), and on test people. Activation distance: between the two models' "
    "probabilities, 0 to 1.41. ZRF: 100 is answering about the forgotten as a network of random "
    "weights does, which is more than retraining. RF-JS: LoTUS's divergence without a retrained "
    "model, in percent of a bit; 0 is answering as the pretrained model did about strangers. "
    "They look at outputs alone: a model that only masks them passes."
)


def part(
    plan: Plan, entries: Mapping[str, Entry], frame: pd.DataFrame, folder: Path
) -> Part | None:
    """What completeness and the cheap measures say of the rows.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.
        frame: From ``sweeps.report.results.results_frame``.
        folder: The report's, where ``completeness_people.csv`` is written.

    Returns:
        None where nobody asked, or where nothing is said of the rows.
    """
    measured = frame[frame["same_forget"].notna()]
    shown = set(frame["method"])
    asked = [row for row in plan.results if row.completeness_key and row.row.name in shown]
    sentences = tuple(not_audited((row, row.completeness_key in entries) for row in asked))
    if measured.empty and not sentences:
        return None
    people = people_frame(plan, entries)
    if not people.empty:
        write_csv(people, folder / PEOPLE_FILE)
    return Part(
        anchor="completeness",
        title="Completeness, and what other benchmarks print",
        asks=ASKS,
        tables=tables_of(measured, TITLES, _line),
        note="" if measured.empty else NOTE,
        files=() if people.empty else (PEOPLE_FILE,),
        sentences=sentences,
    )


def people_frame(plan: Plan, entries: Mapping[str, Entry]) -> pd.DataFrame:
    """A line for every row and forgotten person.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.

    Returns:
        Columns dataset, num_forget, seed, method, identity, images, completeness (a fraction).
    """
    rows, tables = [], []
    for row in plan.results:
        entry = entries.get(row.completeness_key or "")
        if entry is not None and COMPLETENESS in entry.files:
            rows.append(row)
            tables.append(stored_table(entry, COMPLETENESS))
    if not tables:
        return pd.DataFrame()
    lengths = [len(table) for table in tables]
    return with_rows(pd.concat(tables, ignore_index=True), rows, lengths)


def _line(method: str, rows: pd.DataFrame) -> tuple[str, ...]:
    names = [
        *("completeness", "completeness_low", "completeness_high", "completeness_people"),
        *("completeness_images", "completeness_models", "same_forget", "same_test"),
        *("activation_forget", "activation_test", "zrf", "rf_js"),
    ]
    mean = rows[names].mean()
    ends = [_percent(mean[f"completeness_{end}"]) for end in ("low", "high")]
    complete = _percent(mean["completeness"])
    if ABSENT not in ends:
        complete += f" [{ends[0]}, {ends[1]}]"
    return (
        method,
        complete,
        *(_whole(mean[f"completeness_{name}"]) for name in ("people", "images", "models")),
        _percent(mean["same_forget"]),
        _percent(mean["same_test"]),
        *(f"{mean[name]:.3f}" for name in ("activation_forget", "activation_test")),
        _percent(mean["zrf"]),
        _percent(mean["rf_js"]),
    )


def _percent(value: float) -> str:
    return ABSENT if math.isnan(value) else f"{100 * value:.1f}"


def _whole(value: float) -> str:
    return ABSENT if math.isnan(value) else f"{value:.0f}"
