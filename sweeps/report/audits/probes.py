"""What probes say of every row: what comes back when it learns again, who is still recognised.

A probe is of one model; what is said of a row is said beside the probes of the retrained and of the
pretrained model, on the same pictures. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from oneshui.spec import Role
from sweeps.graph.plan import Plan, ResultRow
from sweeps.inference.comparisons import blocks
from sweeps.report.audits.hiding import (
    COMES_BACK,
    ERRORS,
    HIDES,
    NOTHING,
    OF_PROBES,
    STEPS,
    curves_frame,
    probes_frame,
)
from sweeps.report.audits.part import Part, not_audited, tables_of
from sweeps.report.numbers import signed
from sweeps.report.sheets import write_csv
from sweeps.report.tables import MISSING, request_title
from sweeps.store import Entry

PROBES, CURVES = "probes.csv", "relearning.csv"
ANCHOR, TITLE = "probes", "What comes back, and who is still recognised"
TITLES = (
    *("row", "ToW", "taught, asked", "back from 5", "from 1", "from S", "steps", "rank 1"),
    *("Δ rank 1", "accepted", "Δ accepted", "Δ rank 1, stay", "flag"),
)
ASKS = (
    "Has a model forgotten people, or does it only not say so? It is taught again, with a few of "
    "their pictures, as a model is that was retrained without them: who learns faster has kept "
    "something. And it is asked to recognise them, by what enters its classifier."
)
NOTE = (
    "All in percent or points but steps and pictures; means over seeds. Taught, asked: pictures in "
    "the lesson of five, and those that models were asked about; somebody with a single picture "
    "beside the support picture is asked about it and not taught. Back: the area between the row's "
    f"curve and the retrained model's over {STEPS[-1]} steps, of the same area of the pretrained "
    "model: 0 learns like one that never saw these people, 100 had never lost them, - where the "
    "pretrained model is not ahead of the retrained one. From 5 and from 1 forget picture of each "
    "person, of at most half that there are, and from the public support picture alone; asked "
    "about the others. Steps: the first of "
    f"{', '.join(map(str, STEPS))} at which nine tenths of what was to be forgotten are known, > "
    f"{STEPS[-1]} where they never are (in so many of the seeds), - where there is nothing to "
    "relearn. Rank 1: share of a forgotten person's pictures nearer to the person's support "
    "picture than to those of other forgotten people and of strangers, over people. Networks tell "
    "people apart whom they never saw: only Δ, minus the retrained model's on the same pictures, "
    "says something. ± is the standard error over people, within these seeds. Accepted: the same "
    "where "
    "1 % of pairs of different people are taken for one; - where fewer than 1,000 such pairs are "
    "there. Stay: Δ rank 1 of people who stay, what unlearning did to the others. Flag: comes back "
    "if more than 30 comes back from 5, or Δ accepted (Δ rank 1 where that is missing) is above 0, "
    "by more than two standard errors and by more than the model that was retrained again is away "
    "from the retrained one; hides if besides the ToW is inside the noise floor (at least that "
    "model's), or the row scores as little as the retrained model on the support pictures, which "
    "are all that is left to look at, while more than half of what was to be forgotten is still "
    "known. In brackets: in how many of the seeds where that can be told. A row without a flag may "
    "hide from these probes all the same: other features, "
    "more steps or more pictures may find what they do not."
)


def part(
    plan: Plan, entries: Mapping[str, Entry], frame: pd.DataFrame, folder: Path
) -> Part | None:
    """What the probes have to say; None where nobody asked.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.
        frame: From ``sweeps.report.results.results_frame``; its rows are those of the tables.
        folder: The report's, where ``probes.csv`` and ``relearning.csv`` are written.
    """
    probed = probes_frame(plan, entries)
    probed = probed[probed["method"].isin(frame["method"])]
    shown, done = set(frame["method"]), set(probed["job_key"])
    asked = [row for row in plan.results if row.probes is not None and row.row.name in shown]
    absent = not_audited(
        (row, row.probes is not None and row.probes.own[0] in done) for row in asked
    )
    sentences = (*_sentences(probed, asked), *absent)
    if not asked:
        return None
    if probed.empty:
        return Part(anchor=ANCHOR, title=TITLE, asks=ASKS, tables=(), note="", sentences=sentences)
    write_csv(probed, folder / PROBES)
    write_csv(curves_frame(plan, entries), folder / CURVES)
    return Part(
        anchor=ANCHOR,
        title=TITLE,
        asks=ASKS,
        tables=tables_of(probed, TITLES, _line),
        note=NOTE,
        files=(PROBES, CURVES),
        figures=("recovery",),
        sentences=sentences,
    )


def _line(method: str, rows: pd.DataFrame) -> tuple[str, ...]:
    means = rows[["tow", *OF_PROBES]].mean()
    errors = {name: _error(rows[name]) for name in ERRORS}
    taught, asked = (rows[name].mean() for name in ("taught_5", "asked"))
    return (
        method,
        _percent(means["tow"]),
        f"{taught:.0f}, {asked:.0f}",
        _percent(means["recovery_5"], errors["recovery_5_error"]),
        *(_percent(means[name]) for name in ("recovery_1", "recovery_support")),
        _steps(rows.loc[rows["can_relearn"], "relearn_steps"]),
        _percent(means["reid_rank1"]),
        _percent(means["reid_rank1_gap"], errors["reid_rank1_error"], is_signed=True),
        _percent(means["reid_tpr"]),
        _percent(means["reid_tpr_gap"], errors["reid_tpr_error"], is_signed=True),
        _percent(means["reid_retain_gap"], is_signed=True),
        _flags(rows["flag"]),
    )


def _steps(of_seeds: pd.Series[float]) -> str:
    """The mean over seeds that had something to relearn, and in how many it never came."""
    never = int(of_seeds.isna().sum())
    if len(of_seeds) == 0 or not never:
        return _number(of_seeds.mean())
    beyond = f"> {STEPS[-1]}"
    if never == len(of_seeds):
        return beyond
    return f"{_number(of_seeds.mean())}, {beyond} ({never}/{len(of_seeds)})"


def _error(of_seeds: pd.Series[float]) -> float:
    """Of the mean over seeds, each with people of its own; NaN where one has none."""
    return math.sqrt((of_seeds**2).sum(skipna=False)) / len(of_seeds)


def _flags(flags: pd.Series[str]) -> str:
    """The worst flag with the number of seeds that have it."""
    known = flags.dropna()
    for flag in (HIDES, COMES_BACK):
        count = int((known == flag).sum())
        if count:
            return f"{flag} ({count}/{len(known)})"
    return NOTHING if len(known) else MISSING


def _percent(value: float, error: float = math.nan, *, is_signed: bool = False) -> str:
    if math.isnan(value):
        return MISSING
    mean = signed(100 * value) if is_signed else _number(100 * value)
    return mean if math.isnan(error) else f"{mean} ± {100 * error:.1f}"


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{round(value, 1) + 0.0:.1f}"


def _sentences(probed: pd.DataFrame, asked: Sequence[ResultRow]) -> Iterator[str]:
    """Which rows hide, of every dataset and forget size that has methods."""
    has_floor = {
        (row.cell.dataset, row.cell.num_forget)
        for row in asked
        if row.row.role is Role.RETRAIN_AGAIN
    }
    for block, rows in blocks(probed):
        where = request_title(*block)
        methods = rows[rows["role"] == Role.METHOD]
        if methods.empty:
            continue
        found = methods[methods["flag"] == HIDES].groupby("method", sort=False).size()
        if len(found):
            named = ", ".join(f"{name} ({count})" for name, count in found.items())
            yield (
                f"{where}: look as if they had forgotten and have not, in so many seeds: {named}. "
                "What they kept comes back faster than a retrained model learns it, or still "
                "recognises the people."
            )
        elif methods["hides"].notna().any():
            rests = "; nothing could come back, so this rests upon who is recognised"
            told = rests if methods["recovery_5"].isna().all() else ""
            yield f"{where}: no row was found that only hides what it knows{told}."
        else:
            if block not in has_floor:
                why = (
                    "nothing was retrained again: the row retrain_again in sweep.methods gives the "
                    "noise floor"
                )
            elif methods["flag"].isna().all():
                why = (
                    "nothing could come back, and too few people are shown to say who is recognised"
                )
            else:
                why = "a job of the row retrain_again, the noise floor, is not done or has failed"
            yield f"{where}: which row only hides cannot be told, because {why}."
