"""What the likelihood audit says of every row: who can tell those unlearned from those never seen.

The audit is of a row on the models of a dataset's pool; cells whose hyperparameters are alike share
it. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sweeps.graph.artifacts import LIKELIHOOD, LIKELIHOOD_ROC
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report.analyses import stored_table
from sweeps.report.audits.part import AuditTable, Part
from sweeps.report.numbers import signed
from sweeps.report.results import Entries
from sweeps.report.sheets import write_csv
from sweeps.report.tables import MISSING

CURVES, PERSONS = "likelihood_roc.csv", "likelihood_people.csv"
OF_AN_AUDIT = ("dataset", "method", "audit")
PREFIX = "lira_"
TITLES = (
    *("row", "privacy AUC", "TPR at 1 %", "TPR at 10 %", "ε at least", "worst person"),
    *("95th percentile", "shift", "efficacy AUC", "decisions", "people, models"),
)
ASKS = (
    "Can anyone tell a person whom the row has unlearned from one whom the model never saw? Models "
    "are trained on random halves of a pool of people and each is asked to forget half of its "
    "half; the attacker knows how sure all other models are of a person, and makes the best of "
    "it. The unit is a person, not a picture."
)
NOTE = (
    "All in percent but ε and the shift. Privacy: unlearned against never seen; 50 is what "
    "retraining gives, and an interval that holds 50 with few people and models is little evidence "
    "of anything. Efficacy: unlearned against still trained on; 50 is nothing forgotten. 95 % "
    "intervals in brackets are over people and models together. No rate is shown below what ten "
    "decisions about people never seen resolve. ε: one-sided 95 % lower bound of an (ε, δ) "
    "closeness to retraining; 0 shows nothing, it does not show ε = 0. Worst person: the largest "
    "AUC among the decisions about one person, and in brackets what the largest stays below in 95 "
    "of 100 audits in which nobody can be told. Shift: how much surer models are of the truth "
    "about people unlearned than about people never seen, in log-odds; above 0 they are still "
    "known, below 0 the forgetting itself shows. The audit is of the method under this recipe, on "
    "models like the one in use, not of that model; rows that see the training data are not "
    "audited."
)


def part(plan: Plan, entries: Entries, frame: pd.DataFrame, folder: Path) -> Part | None:
    """The table of the likelihood audits; None while there is none.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.
        frame: From ``sweeps.report.results.results_frame``.
        folder: The report's, where ``likelihood_roc.csv`` and ``likelihood_people.csv`` are
            written.
    """
    known = frame[frame["lira_auc"].notna()]
    if known.empty:
        return None
    for name, file in ((LIKELIHOOD_ROC, CURVES), (LIKELIHOOD, PERSONS)):
        write_csv(stored(plan, entries, name), folder / file)
    by_dataset = list(known.groupby("dataset", sort=False))
    return Part(
        anchor="likelihood",
        title="The likelihood audit, person by person",
        asks=ASKS,
        tables=tuple(_table(str(dataset), rows) for dataset, rows in by_dataset),
        note=NOTE,
        files=(PERSONS, CURVES),
        figures=("likelihood_roc", "memorisation", "hardness_memorised"),
        sentences=tuple(_sentence(str(dataset), rows) for dataset, rows in by_dataset),
    )


def audits(plan: Plan, entries: Entries) -> Iterator[tuple[ResultRow, int]]:
    """A row of each finished audit, with the number of the audit among those of its method.

    Only rows that are tuned by cell have several: others run everywhere with the same values.
    """
    numbers: dict[tuple[str, str], list[str]] = {}
    for row in plan.results:
        if row.lira_key is None or row.lira_key not in entries:
            continue
        own = numbers.setdefault((row.cell.dataset, row.row.name), [])
        if row.lira_key not in own:
            own.append(row.lira_key)
            yield row, len(own) - 1


def stored(plan: Plan, entries: Entries, name: str) -> pd.DataFrame:
    """A file of all finished audits under each other, after columns ``OF_AN_AUDIT``."""
    parts = []
    for row, number in audits(plan, entries):
        assert row.lira_key is not None
        table = stored_table(entries[row.lira_key], name)
        told = zip(OF_AN_AUDIT, (row.cell.dataset, row.row.name, number), strict=True)
        for place, (column, value) in enumerate(told):
            table.insert(place, column, value)
        parts.append(table)
    if not parts:
        return pd.DataFrame(columns=list(OF_AN_AUDIT))
    return pd.concat(parts, ignore_index=True)


def _of_rows(rows: pd.DataFrame) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What the audits of every row say, the mean of them where it was tuned by cell."""
    columns = [name for name in rows.columns if name.startswith(PREFIX)]
    for method, part in rows.groupby("method", sort=False):
        yield str(method), part[columns].drop_duplicates().mean().to_dict()


def _table(dataset: str, rows: pd.DataFrame) -> AuditTable:
    return AuditTable(
        title=dataset,
        titles=TITLES,
        lines=tuple(_line(method, said) for method, said in _of_rows(rows)),
    )


def _line(method: str, said: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        method,
        _percent(said, "auc"),
        _percent(said, "tpr"),
        _percent(said, "tpr_10"),
        _number(said["lira_epsilon"], 2),
        f"{_share(said['lira_worst'])} ({_share(said['lira_worst_by_chance'])})",
        _share(said["lira_p95"]),
        MISSING if math.isnan(said["lira_shift"]) else signed(said["lira_shift"], 2),
        _percent(said, "efficacy_auc"),
        f"{said['lira_positives']:.0f} unlearned, {said['lira_negatives']:.0f} never seen",
        f"{said['lira_people']:.0f}, {said['lira_models']:.0f}",
    )


def _percent(said: Mapping[str, Any], name: str) -> str:
    """Such as "57.2 [51, 63]"; without the interval where there is none."""
    value = said[f"{PREFIX}{name}"]
    if math.isnan(value):
        return MISSING
    low, high = (said.get(f"{PREFIX}{name}_{end}", math.nan) for end in ("low", "high"))
    ends = "" if math.isnan(low) else f" [{100 * low:.0f}, {100 * high:.0f}]"
    return f"{100 * value:.1f}{ends}"


def _share(value: float) -> str:
    return _number(100 * value, 0)


def _number(value: float, digits: int) -> str:
    return MISSING if math.isnan(value) else f"{value:.{digits}f}"


def _sentence(dataset: str, rows: pd.DataFrame) -> str:
    """Whom the audit tells from people never seen, and how sure it is."""
    said = dict(_of_rows(rows))
    told = [name for name, one in said.items() if one["lira_auc_low"] > 0.5]
    below = [name for name, one in said.items() if one["lira_auc_high"] < 0.5]
    rest = [name for name in said if name not in (*told, *below)]
    one = next(iter(said.values()))
    parts = [
        f"{dataset}, {one['lira_people']:.0f} people and {one['lira_models']:.0f} models:",
        f"people unlearned by {_names(told)} are told from people never seen."
        if told
        else "no row is shown to leave people who can be told from people never seen.",
    ]
    if below:
        parts.append(f"Below chance, which is no attack: {_names(below)}.")
    if told and rest:
        parts.append(f"Not shown either way: {_names(rest)}.")
    return " ".join(parts)


def _names(found: list[str]) -> str:
    return ", ".join(found)
