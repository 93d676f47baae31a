"""``mode=why``: where one number of the tables comes from, down to the files.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from oneshui.errors import InputError, unknown_name
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report import provenance
from sweeps.report.measures import CATALOGUE
from sweeps.report.results import announce, made_of, row_values
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
            of ``results.parquet`` or a title of the tables without spaces.
        plan: The sweep's graph.
        entries: Finished jobs by key.
        output: Folder of the sweep.
        command: The user's overrides.

    Raises:
        InputError: There is no such row or metric.
    """
    announce((plan, entries))
    rows, metric = find(asked, plan)
    values = {row.cell.seed: row_values(row, entries)[metric] for row in rows}
    known = [float(v) for v in values.values() if v is not None and not math.isnan(v)]
    yield f"{asked}: {_mean(known, metric)}, n={len(known)} of {len(rows)} seeds"
    what = rows[0].row
    if rows[0].requests > 1:
        yield f"each seed stands for {rows[0].requests} requests, measured as one"
    yield f"row {what.name}: method {what.method} (source {what.source}), access {what.access}"
    chosen = dict.fromkeys(hyperparameters_in_words(row, entries) for row in rows)
    if len(chosen) == 1:
        yield f"hyperparameters: {next(iter(chosen))}"
    else:
        yield f"hyperparameters by seed ({plan.sweep.tuning.where}):"
        for row in rows:
            yield f"  seed {row.cell.seed}: {hyperparameters_in_words(row, entries)}"
    if what.truth_in_view:
        yield f"  {TRUTH_NOTE}"
    for name, text in recipe_in_words(plan, rows[0]).items():
        yield f"{name}: {text}"
    for row in rows:
        value = values[row.cell.seed]
        yield ""
        yield f"seed {row.cell.seed}: {'missing' if value is None else f'{value:.6g}'}"
        for name, text in made_of(plan, row, entries).items():
            yield f"  {name}: {text}"
        yield from _jobs(row, plan, entries, output, said_by(row, metric, entries))
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
    if metric not in CATALOGUE:
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
    return rows, metric


def _mean(known: Sequence[float], metric: str) -> str:
    if not known:
        return f"{metric} is missing"
    spread = f" ± {statistics.stdev(known):.6g}" if len(known) > 1 else ""
    return f"{metric} = {statistics.fmean(known):.6g}{spread}"


def _jobs(
    row: ResultRow,
    plan: Plan,
    entries: Mapping[str, Entry],
    output: Path,
    last: Sequence[str],
) -> Iterator[str]:
    """Every job behind a number of the row, those that say it first and the data last."""
    for key in jobs_behind(row, plan, last):
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
