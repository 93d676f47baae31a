"""What probes say of every row: what comes back when it learns again, who is still recognised.

A probe is of one model; what is said of a row is said beside the probes of the retrained and of the
pretrained model, on the same pictures. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from oneshui.spec import Role
from sweeps.graph.plan import Plan
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
from sweeps.report.audits.part import Part, tables_of
from sweeps.report.numbers import signed
from sweeps.report.sheets import write_csv
from sweeps.report.tables import MISSING, request_title
from sweeps.store import Entry

PROBES, CURVES = "probes.csv", "relearning.csv"
TITLES = (
    *("row", "ToW", "back from 5", "from 1", "from S", "steps", "rank 1", "Δ rank 1"),
    *("accepted", "Δ accepted", "Δ rank 1, stay", "flag"),
)
ASKS = (
    "Has a model forgotten people, or does it only not say so? It is taught again, with a few of "
    "their pictures, as a model is that was retrained without them: who learns faster has kept "
    "something. And it is asked to recognise them, by what enters its classifier."
)
NOTE = (
    "All in percent or points but steps; means over seeds. Back: the area between the row's curve "
    f"and the retrained model's over {STEPS[-1]} steps, of the same area of the pretrained model: "
    "0 learns like one that never saw these people, 100 had never lost them, - where the "
    "pretrained model is not ahead of the retrained one. From 5 and from 1 forget picture of each "
    "person, of at most half that there are, and from the public support picture alone; asked "
    "about the others. Steps: the first of "
    f"{', '.join(map(str, STEPS))} at which nine tenths of what was to be forgotten are known. "
    "Rank 1: share of a forgotten person's pictures nearer to the person's support picture than to "
    "those of other forgotten people and of strangers, over people. Networks tell people apart "
    "whom they never saw: only Δ, minus the retrained model's on the same pictures, says "
    "something. ± is the standard error over people, within these seeds. Accepted: the same where "
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
    """What the probes have to say; None where nobody asked, or none is done.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.
        frame: From ``sweeps.report.results.results_frame``; its rows are those of the tables.
        folder: The report's, where ``probes.csv`` and ``relearning.csv`` are written.
    """
    probed = probes_frame(plan, entries)
    probed = probed[probed["method"].isin(frame["method"])]
    if probed.empty:
        return None
    write_csv(probed, folder / PROBES)
    write_csv(curves_frame(plan, entries), folder / CURVES)
    return Part(
        anchor="probes",
        title="What comes back, and who is still recognised",
        asks=ASKS,
        tables=tables_of(probed, TITLES, _line),
        note=NOTE,
        files=(PROBES, CURVES),
        figures=("recovery",),
        sentences=tuple(_sentences(probed)),
    )


def _line(method: str, rows: pd.DataFrame) -> tuple[str, ...]:
    means = rows[["tow", *OF_PROBES]].mean()
    errors = {name: _error(rows[name]) for name in ERRORS}
    steps = rows["relearn_steps"]
    known = rows["recovery_5"].notna().any()
    return (
        method,
        _percent(means["tow"]),
        _percent(means["recovery_5"], errors["recovery_5_error"]),
        *(_percent(means[name]) for name in ("recovery_1", "recovery_support")),
        f"> {STEPS[-1]}" if known and steps.isna().all() else _number(steps.mean()),
        _percent(means["reid_rank1"]),
        _percent(means["reid_rank1_gap"], errors["reid_rank1_error"], is_signed=True),
        _percent(means["reid_tpr"]),
        _percent(means["reid_tpr_gap"], errors["reid_tpr_error"], is_signed=True),
        _percent(means["reid_retain_gap"], is_signed=True),
        _flags(rows["flag"]),
    )


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


def _sentences(probed: pd.DataFrame) -> Iterator[str]:
    """Which rows hide, of every dataset and forget size."""
    for block, rows in blocks(probed):
        where = request_title(*block)
        methods = rows[rows["role"] == Role.METHOD]
        found = methods[methods["flag"] == HIDES].groupby("method", sort=False).size()
        if len(found):
            named = ", ".join(f"{name} ({count})" for name, count in found.items())
            yield (
                f"{where}: look as if they had forgotten and have not, in so many seeds: {named}. "
                "What they kept comes back faster than a retrained model learns it, or still "
                "recognises the people."
            )
        elif methods["hides"].notna().any():
            yield f"{where}: no row was found that only hides what it knows."
        else:
            yield (
                f"{where}: which row only hides cannot be told, because nothing was retrained "
                "again: the row retrain_again in sweep.methods gives the noise floor."
            )
