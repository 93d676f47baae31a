"""``mode=why``: where one number of the tables comes from, down to the files.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oneshui.errors import InputError, unknown_name
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report import provenance
from sweeps.report.measures import CATALOGUE
from sweeps.report.results import announce, made_of, row_values
from sweeps.report.sequences import MEASURES, sequence_frame
from sweeps.report.tables import TRUTH_NOTE
from sweeps.report.tracing import (
    DIGITS,
    cost_in_words,
    hyperparameters_in_words,
    jobs_behind,
    recipe_in_words,
    said_by,
)
from sweeps.store import Entry

FORM = 'row="<dataset> <num_forget> <method> <metric>", for example row="celebahq 20 ssd tow"'


@dataclass(frozen=True, kw_only=True)
class Number:
    """One of the numbers that a cell of a table is the mean of.

    Attributes:
        title: Which one, in words.
        row: Whose it is.
        value: None if it is not there.
        last: Keys of the jobs that said it.
    """

    title: str
    row: ResultRow
    value: float | None
    last: Sequence[str]


def explanation(
    asked: str,
    plan: Plan,
    entries: Mapping[str, Entry],
    output: Path,
    command: Sequence[str],
) -> Iterator[str]:
    """The jobs, keys, inputs, configuration and logs behind one number, line by line.

    Args:
        asked: Dataset, forget size, method and metric, separated by spaces; a metric is a column
            of ``results.parquet``, a title of the tables without spaces, or a schedule of people
            who ask one after the other with a column of ``sequence.csv``: "20x1:survived", which
            is what holds after the last of them.
        plan: The sweep's graph.
        entries: Finished jobs by key.
        output: Folder of the sweep.
        command: The user's overrides.

    Raises:
        InputError: There is no such row or metric.
    """
    announce((plan, entries))
    rows, metric = find(asked, plan)
    if ":" in metric:
        numbers = _of_chains(rows, metric, plan, entries)
    else:
        numbers = [_of_seed(row, metric, entries) for row in rows]
    known = [n.value for n in numbers if n.value is not None and not math.isnan(n.value)]
    what = "chains" if ":" in metric else "seeds"
    yield f"{asked}: {_mean(known, metric)}, n={len(known)} of {len(numbers)} {what}"
    of = rows[0].row
    if rows[0].requests > 1:
        yield f"each seed stands for {rows[0].requests} requests, measured as one"
    yield f"row {of.name}: method {of.method} (source {of.source}), access {of.access}"
    chosen = dict.fromkeys(hyperparameters_in_words(row, entries) for row in rows)
    if len(chosen) == 1:
        yield f"hyperparameters: {next(iter(chosen))}"
    else:
        yield f"hyperparameters by seed ({plan.sweep.tuning.where}):"
        for row in rows:
            yield f"  seed {row.cell.seed}: {hyperparameters_in_words(row, entries)}"
    if of.truth_in_view:
        yield f"  {TRUTH_NOTE}"
    for name, text in recipe_in_words(plan, rows[0]).items():
        yield f"{name}: {text}"
    for number in numbers:
        yield ""
        said = "missing" if number.value is None else f"{number.value:.6g}"
        yield f"{number.title}: {said}"
        for name, text in made_of(plan, number.row, entries).items():
            yield f"  {name}: {text}"
        yield from _jobs(number, plan, entries, output)
    yield ""
    yield "to compute it alone, from nothing:"
    yield f"  {provenance.alone(plan, rows[0], command)}"
    yield "(with every seed, because the attack is tuned on another seed's retrained model)"


def find(asked: str, plan: Plan) -> tuple[list[ResultRow], str]:
    """The rows of all seeds and the column that are asked about.

    Raises:
        InputError: There is no such row or metric.
    """
    words = asked.split()
    if len(words) != 4:
        raise InputError(f"row is {asked!r}, but it must be of the form {FORM}")
    dataset, size, method, metric = words
    names = {m.title.replace(" ", "").lower(): m.key for m in CATALOGUE.values() if m.title}
    metric = names.get(metric.lower(), metric)
    schedule, colon, measure = metric.partition(":")
    if colon and measure not in MEASURES:
        raise unknown_name("metric of people who ask one after the other", measure, MEASURES)
    if not colon and metric not in CATALOGUE:
        raise unknown_name("metric of row", metric, tuple(CATALOGUE))
    rows = list(plan.results)
    for name, wanted, of in (
        ("dataset of row", dataset, lambda row: row.cell.dataset),
        ("num_forget of row", size, lambda row: str(row.cell.num_forget)),
        ("method of row", method, lambda row: row.row.name),
    ):
        known = sorted({of(row) for row in rows})
        if wanted not in known:
            raise unknown_name(name, wanted, known)
        rows = [row for row in rows if of(row) == wanted]
    schedules = sorted({chain.schedule for row in rows for chain in row.chains})
    if colon and not schedules:
        raise InputError(
            f"row is {asked!r}, but nobody asks one after the other in {method}: set "
            "sweep.sequence, for rows without full access"
        )
    if colon and schedule not in schedules:
        raise unknown_name("schedule of row", schedule, schedules)
    return rows, metric


def _of_seed(row: ResultRow, metric: str, entries: Mapping[str, Entry]) -> Number:
    value = row_values(row, entries)[metric]
    return Number(
        title=f"seed {row.cell.seed}",
        row=row,
        value=None if value is None else float(value),
        last=said_by(row, metric),
    )


def _of_chains(
    rows: Sequence[ResultRow], metric: str, plan: Plan, entries: Mapping[str, Entry]
) -> list[Number]:
    """What every chain of the schedule says after its last request."""
    schedule, _, measure = metric.partition(":")
    frame = sequence_frame(plan, entries)
    ends = frame.groupby("job_key", sort=False)[measure].last()
    return [
        Number(
            title=chain.title(row.cell.seed),
            row=row,
            value=float(ends[chain.score_key]) if chain.score_key in ends.index else None,
            last=(chain.score_key,),
        )
        for row in rows
        for chain in row.chains
        if chain.schedule == schedule
    ]


def _mean(known: Sequence[float], metric: str) -> str:
    if not known:
        return f"{metric} is missing"
    spread = f" ± {statistics.stdev(known):.6g}" if len(known) > 1 else ""
    return f"{metric} = {statistics.fmean(known):.6g}{spread}"


def _jobs(number: Number, plan: Plan, entries: Mapping[str, Entry], output: Path) -> Iterator[str]:
    """Every job behind a number, those that say it first and the data last."""
    for key in jobs_behind(number.row, plan, number.last):
        job, entry = plan.jobs[key], entries.get(key)
        state = entry.address if entry else "has no result"
        yield f"  {job.stage}/{key}  {job.label}: {state}"
        inputs = ", ".join(f"{name} {plan.jobs[k].stage}/{k}" for name, k in job.needed.items())
        yield f"      inputs: {inputs or 'none'}"
        if entry is not None:
            yield f"      content {entry.content[:DIGITS]}, {cost_in_words(entry)}"
            if "fingerprint" in entry.value:
                yield f"      fingerprint {entry.value['fingerprint']}"
        log = output / "logs" / f"{key}.log"
        if log.is_file():
            yield f"      log {log}"
