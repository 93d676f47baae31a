"""The results table: one row per dataset, forget size, seed and method, from the store alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from oneshui.spec import Role
from sweeps.graph.artifacts import PLUGINS, PREPARED
from sweeps.graph.job import Stage
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report.audits.hiding import probe_values
from sweeps.report.measures import CATALOGUE, OF_PLUGINS, SHIPPED, show
from sweeps.store import Entry

IDENTITY = (
    *("dataset", "num_forget", "requests", "seed", "method", "role", "access", "task", "tuning"),
    "hyperparameters_from",
)
MADE = ("device", "precision", "versions", "commit")
"""What the jobs behind a row were computed with; several values are joined by ALSO."""
ALSO = " + "
COLUMNS = (*IDENTITY, *SHIPPED, "method_source", "protection", *MADE, "job_key")
"""Scores and measures are fractions in [0, 1]; what is missing or not measured yet is null.

"requests" says for how many requests of "num_forget" people each the row stands: what is said about
forget and support images is said of all of them together, the rest is the mean over the requests,
bytes the most of any. "tuning" is the objective that the row's hyperparameters were chosen by; null
where they are used as they are. "hyperparameters_from" is one of ``sweeps.graph.spec.ValuesFrom``;
null where there is nothing to be chosen. Gaps and the normalised ToW may be negative, the weight
distance above 1. "method_source" is the hash of the method's code, ``oneshui.sources``;
"protection" what kept the method from the data when it unlearned, null where it had full access.
Measures of plugins follow after these.
"""

_COPYING: frozenset[Stage] = frozenset({"index", "cache", "split", "weights"})
"""Stages that bring data in: their results are bytes, whatever computed them."""

Entries = Mapping[str, Entry]
OF_A_ROW = ("dataset", "num_forget", "seed", "method")
"""What tells rows of the results apart."""


def announce(*sweeps: tuple[Plan, Entries]) -> None:
    """Have the catalogue hold what plugins have measured in sweeps, as their scores say it.

    Args:
        sweeps: The graph and the finished jobs by key of each; of a measure that several have,
            the last one's words.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for plan, entries in sweeps:
        asked = {
            key for row in plan.results for key in plan.jobs[row.score_key].spec.get("measures", ())
        }
        said: dict[str, Mapping[str, Any]] = {}
        for row in plan.results if asked else ():
            if row.score_key in entries:
                said |= entries[row.score_key].value.get(PLUGINS, {})
        found |= {key: said[key] for key in asked & said.keys()}
    show({key: found[key] for key in sorted(found)})


def is_complete(row: ResultRow, entries: Entries) -> bool:
    """Whether everything that the row shows is in the store."""
    needed = (*row.made_keys, *row.measured_keys, *filter(None, [row.prepare_key]))
    return all(key in entries for key in needed)


def resolved_hyperparameters(row: ResultRow, entries: Entries) -> dict[str, Any]:
    """The hyperparameters that a row runs with, those that its study chose among them.

    Args:
        row: One row of the results table.
        entries: Finished jobs by key.

    Returns:
        By name, in the order of the method's fields; of a row that is to be tuned and is not yet,
        without those that vary.
    """
    known = row.row.hyperparameters
    if row.choose_key is None:
        return dict(known)
    entry = entries.get(row.choose_key)
    chosen = {} if entry is None else entry.value["hyperparameters"]
    found = row.row.fixed | chosen
    return {name: found[name] for name in known if name in found}


def row_values(row: ResultRow, entries: Entries) -> dict[str, Any]:
    """One row of the table; values that are missing are None."""
    values: dict[str, Any] = dict.fromkeys((*COLUMNS, *OF_PLUGINS))
    values |= {
        "dataset": row.cell.dataset,
        "num_forget": row.cell.num_forget,
        "requests": row.requests,
        "seed": row.cell.seed,
        "method": row.row.name,
        "role": str(row.row.role),
        "access": str(row.row.access),
        "tuning": row.row.objective,
        "hyperparameters_from": row.row.hyperparameters_from,
        "method_source": row.row.source,
        "job_key": row.score_key,
    }
    if row.evaluate_key in entries:
        values["task"] = entries[row.evaluate_key].value["task"]
    if all(key in entries for key in row.measured_keys):
        values |= _measured([entries[key].value for key in row.measured_keys])
    values |= probe_values(row, entries)
    values |= _audited(row, values, entries)
    if row.row.role is not Role.PRETRAIN:
        unlearned = [entries[key] for key in row.made_keys if key in entries]
        values |= _cost("unlearn", unlearned)
        kept = {entry.cost["protection"] for entry in unlearned if "protection" in entry.cost}
        values["protection"] = ALSO.join(sorted(kept)) or None
    prepared = entries.get(row.prepare_key or "")
    if prepared is not None:
        values |= _cost("prepare", [prepared])
        if PREPARED in prepared.files:
            values["prepared_bytes"] = float(prepared.files[PREPARED]["bytes"])
    return values


OF_CHOSEN = ("tow", "forget_gap", "mia_auc", "rmia_auc")
"""What is shown of a row in the cell whose people memorisation chose, after "chosen_"."""


def _audited(row: ResultRow, values: Mapping[str, Any], entries: Entries) -> dict[str, Any]:
    """What finished audits of a row's own say, and the row on people chosen by memorisation."""
    found: dict[str, Any] = {}
    for key in (row.completeness_key, row.lira_key):
        if key is not None and key in entries:
            found |= {k: v for k, v in entries[key].value.items() if k in CATALOGUE}
    if row.chosen is not None and row.chosen.score_key in entries:
        score = entries[row.chosen.score_key].value
        found |= {f"chosen_{name}": score.get(name) for name in OF_CHOSEN}
        if values["tow"] is not None:
            found["chosen_drop"] = values["tow"] - score["tow"]
    return found


def _measured(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What jobs that measured the same row found, on average; null where one of them is."""
    if len(scores) == 1:
        return {key: value for key, value in scores[0].items() if key in CATALOGUE}
    found: dict[str, Any] = {}
    for key in scores[0]:
        if key in CATALOGUE:
            values = [one.get(key) for one in scores]
            known = [float(value) for value in values if value is not None]
            found[key] = fmean(known) if len(known) == len(values) else None
    return found


def made_of(plan: Plan, row: ResultRow, entries: Entries) -> dict[str, str]:
    """What the finished jobs behind a row were computed with, by the names ``MADE``.

    Args:
        plan: The sweep's graph.
        row: One row of the results table.
        entries: Finished jobs by key.
    """
    found: dict[str, set[str]] = {}
    for key in plan.needed(row):
        if key in entries and plan.jobs[key].stage not in _COPYING:
            job = plan.jobs[key]
            # Metrics are computed on processors, wherever the model was, and what computes with no
            # network has no precision that could be asked for.
            names: tuple[str, ...] = MADE[2:] if job.stage == "score" else MADE
            if "model" not in job.spec:
                names = tuple(name for name in names if name != "precision")
            made = entries[key].made
            for name in names:
                if name in made:
                    found.setdefault(name, set()).add(made[name])
    return {name: ALSO.join(sorted(values)) for name, values in found.items()}


def _cost(part: str, entries: Sequence[Entry]) -> dict[str, float]:
    """Mean seconds and peak memory of the method's calls; what no entry holds is left out."""
    measured: dict[str, tuple[str, Callable[[list[float]], float]]] = {
        "method_seconds": ("seconds", fmean),
        "peak_bytes": ("peak_bytes", max),
        "peak_gpu_bytes": ("peak_gpu_bytes", max),
    }
    costs = {}
    for name, (to, over) in measured.items():
        known = [float(entry.cost[name]) for entry in entries if name in entry.cost]
        if known:
            costs[f"{part}_{to}"] = over(known)
    return costs


def with_rows(joined: pd.DataFrame, rows: Sequence[ResultRow], lengths: list[int]) -> pd.DataFrame:
    """Tables under each other with the row that each belongs to before the other columns.

    Named after they are joined: columns for each of thousands of tables would take seconds.

    Args:
        joined: The tables in the order of the rows; changed.
        rows: Whose they are.
        lengths: How long each is.
    """
    values: dict[str, list[Any]] = {
        "dataset": [row.cell.dataset for row in rows],
        "num_forget": [row.cell.num_forget for row in rows],
        "seed": [row.cell.seed for row in rows],
        "method": [row.row.name for row in rows],
    }
    for place, name in enumerate(OF_A_ROW):
        joined.insert(place, name, pd.Series(values[name]).repeat(lengths).to_numpy())
    return joined


def results_frame(plan: Plan, entries: Entries) -> pd.DataFrame:
    """The contract's results table, rows in the order of the plan.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.

    Returns:
        Columns ``COLUMNS`` and measures of plugins; numbers are float64, missing is null.
    """
    announce((plan, entries))
    return announced_frame(plan, entries)


def announced_frame(plan: Plan, entries: Entries) -> pd.DataFrame:
    """The same with the measures that were announced, be they this sweep's or not."""
    rows = [row_values(row, entries) | made_of(plan, row, entries) for row in plan.results]
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *OF_PLUGINS])
    whole = dict.fromkeys(("num_forget", "requests", "seed"), "int64")
    types = {**dict.fromkeys(CATALOGUE, "float64"), **whole}
    texts = dict.fromkeys(("task", *IDENTITY[-2:], "protection", *MADE), "str")
    # One block for each type: a column more would be the last straw for what is many.
    return frame.astype({**types, **texts}).copy()
