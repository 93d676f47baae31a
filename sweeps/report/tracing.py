"""Where every number of the tables comes from: seeds, jobs, keys, contents, costs and logs.

What ``mode=why`` prints of one number, the page holds of all: jobs once, rows as lists of them.
Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.graph.job import STAGES, Job
from sweeps.graph.plan import Plan, ResultRow
from sweeps.graph.studies import NOTHING
from sweeps.report.audits.hiding import OF_PROBES
from sweeps.report.measures import CATALOGUE
from sweeps.report.results import Entries, made_of, resolved_hyperparameters, row_values
from sweeps.store import Entry

DIGITS = 16
"""Of a content's hash: what people compare."""


def said_by(row: ResultRow, measure: str) -> tuple[str, ...]:
    """Keys of the jobs that say a measure of a row: its score, unless audits do.

    Args:
        row: One row of the results table.
        measure: A column of it, or a schedule, a colon and a column of ``sequence.csv``.
    """
    schedule, colon, _ = measure.partition(":")
    if colon:
        return tuple(chain.score_key for chain in row.chains if chain.schedule == schedule)
    if measure.startswith("chosen_") and row.chosen is not None:
        return (row.score_key, row.chosen.score_key)
    if measure in CATALOGUE and CATALOGUE[measure].mlflow.startswith("audit/"):
        audit = row.lira_key if measure.startswith("lira_") else row.completeness_key
        if audit is not None:
            return (audit,)
    if row.probes is not None and measure in OF_PROBES:
        return (row.score_key, *row.probes.keys)
    return (row.score_key,)


def jobs_behind(row: ResultRow, plan: Plan, last: Sequence[str] = ()) -> list[str]:
    """Keys of every job behind a row, the score first and the data last.

    Args:
        row: One row of the results table.
        plan: The sweep's graph.
        last: Keys of the jobs to begin with, from ``said_by``; its score if none are given.
    """
    needed = plan.behind(last) if last else plan.needed(row)
    return sorted(needed, key=lambda key: (-STAGES.index(plan.jobs[key].stage), needed[key]))


def hyperparameters_in_words(row: ResultRow, entries: Entries) -> str:
    """As JSON; of a tuned row what its study chose, and which job says so."""
    text = json.dumps(resolved_hyperparameters(row, entries), sort_keys=True)
    if row.choose_key is None:
        return text
    names = ", ".join(row.row.space)
    chosen = entries[row.choose_key].value if row.choose_key in entries else {}
    if row.row.nothing and chosen.get("point") == NOTHING:
        return f"{text}; does nothing, as chosen ({row.row.objective}) by choose/{row.choose_key}"
    if row.choose_key not in entries:
        return f"{text}; {names} to be tuned ({row.row.objective})"
    return f"{text}; {names} tuned ({row.row.objective}) by choose/{row.choose_key}"


def recipe_in_words(plan: Plan, row: ResultRow) -> dict[str, str]:
    """The network and its training, as JSON."""
    training = plan.sweep.training[row.cell.dataset]
    return {
        "network": json.dumps(plan.sweep.model.to_json(), sort_keys=True),
        "training": json.dumps(training.__dict__, sort_keys=True),
    }


def cost_in_words(entry: Entry) -> str:
    """What a job took, for people."""
    cost = entry.cost
    found = [
        f"{cost[name]:,.2f} s{of}"
        for name, of in (("seconds", ""), ("method_seconds", " of them the method's own"))
        if name in cost
    ]
    found += [
        f"{cost[name] / 2**20:,.0f} MiB {of} at most"
        for name, of in (("peak_bytes", "of memory"), ("peak_gpu_bytes", "of GPU memory"))
        if cost.get(name)
    ]
    if "worker" in cost:
        found.append(f"on {cost['worker']}")
    if "protection" in cost:
        found.append(f"kept from the data by {cost['protection']}")
    return ", ".join(found) or "no cost recorded"


def traces(
    plan: Plan, entries: Entries, measures: Collection[str], logs: Path
) -> Mapping[str, Any]:
    """What is behind all rows, as JSON.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.
        measures: Columns of the results whose values are told by seed.
        logs: Folder of the jobs' logs.

    Returns:
        "jobs": lists of stage, key, label, content (empty without a result), cost, fingerprint,
        inputs (name and place in this list) and whether there is a log. "rows": by ``row_id``, the
        method with its source and access, requests, network and training, hyperparameters with the
        seeds that had them, and "seeds": lists of seed, values by measure, what the jobs were
        computed with, and places of the jobs.
    """
    places: dict[str, int] = {}
    rows: dict[str, dict[str, Any]] = {}
    for result in plan.results:
        keys = jobs_behind(result, plan)
        for key in keys:
            places.setdefault(key, len(places))
        values = row_values(result, entries)
        row = rows.setdefault(row_id(result), _row(result, plan))
        chosen = row["hyperparameters"].setdefault(hyperparameters_in_words(result, entries), [])
        chosen.append(result.cell.seed)
        known = {name: _rounded(values[name]) for name in measures if values[name] is not None}
        made = made_of(plan, result, entries)
        row["seeds"].append([result.cell.seed, known, made, [places[key] for key in keys]])
    logged = {path.stem for path in logs.iterdir()} if logs.is_dir() else set()
    jobs = [_job(plan.jobs[key], entries.get(key), places, logged) for key in places]
    return {"jobs": jobs, "rows": rows}


def packed(found: Mapping[str, Any]) -> str:
    """JSON as base64 of gzip, which a page holds in a tenth of the room."""
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=True)
    return base64.b64encode(gzip.compress(text.encode("ascii"), 6, mtime=0)).decode("ascii")


def row_id(row: ResultRow) -> str:
    """Dataset, forget size and row as ``mode=why`` takes them."""
    return f"{row.cell.dataset} {row.cell.num_forget} {row.row.name}"


def _row(result: ResultRow, plan: Plan) -> dict[str, Any]:
    row = result.row
    return {
        "method": f"{row.method} (source {row.source}), access {row.access}",
        "requests": result.requests,
        **recipe_in_words(plan, result),
        "truth": row.truth_in_view,
        "hyperparameters": {},
        "seeds": [],
    }


def _job(
    job: Job, entry: Entry | None, places: Mapping[str, int], logged: Collection[str]
) -> Sequence[Any]:
    return (
        job.stage,
        job.key,
        job.label,
        entry.content[:DIGITS] if entry else "",
        cost_in_words(entry) if entry else "",
        str(entry.value.get("fingerprint", "")) if entry else "",
        [(name, places[key]) for name, key in job.needed.items() if key in places],
        int(job.key in logged),
    )


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
