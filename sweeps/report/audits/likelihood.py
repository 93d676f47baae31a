"""The likelihood audit in a report: who can tell a person who was unlearned from a stranger.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from sweeps.graph.artifacts import LIKELIHOOD, LIKELIHOOD_ROC, MEMORISATION
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report.analyses import stored_table
from sweeps.report.audits.part import AuditTable, Part, tables_of
from sweeps.report.numbers import signed
from sweeps.report.results import Entries, with_rows
from sweeps.report.sheets import write_csv
from sweeps.store import Entry

PEOPLE_FILE, MEMORISATION_FILE = "likelihood_people.csv", "memorisation.csv"
CURVES_FILE = "likelihood_roc.csv"
ABSENT = "-"
ENDS = ("lira_auc_low", "lira_auc_high")
GUESSING = 0.5
Audits: TypeAlias = Mapping[str, tuple[ResultRow, Entry]]
TITLES = (
    *("row", "AUC", "TPR at 1 %", "TPR at 10 %", "epsilon at least", "worst person"),
    *("95th percentile", "efficacy AUC", "shift", "people", "models", "decisions", "audits"),
)
ASKS = (
    "Models that were trained on a person and then asked to forget them are held against models "
    "that never saw them: can it be told which is which? The unit is a person, not a picture."
)
NOTE = (
    "AUC, rates and percentiles in percent, with 95 % intervals that resample people and models. "
    "AUC 50 is guessing: nobody can tell. TPR at 1 % and 10 %: unlearned people who are found, "
    "where that share of strangers is accused; - where there are too few strangers to say. Epsilon "
    "at least: a lower bound at one-sided 95 % of what differential privacy would have to grant. "
    "Worst person and 95th percentile are of people's own AUC; in brackets what the worst stays "
    "below in 95 of 100 audits in which nobody can be told. Efficacy AUC holds unlearned people "
    "against those who are still trained on: 50 is nothing forgotten, as in doing nothing. Shift: "
    "how much surer of the truth about a person a model is after forgetting them than one that "
    "never saw them, in log-odds; below 0 forgetting itself shows. Decisions: of unlearned people "
    "and of strangers. The pool's people and models are its own, drawn and trained with seeds that "
    "no row reports: rows of all seeds and forget sizes with the same hyperparameters share one "
    "audit. Where their hyperparameters differ there are several (last column), and numbers and "
    "ends of intervals are means over them. Each model is asked to forget a quarter of the pool, "
    "whatever the row's forget size is."
)


def part(plan: Plan, entries: Entries, frame: pd.DataFrame, folder: Path) -> Part | None:
    """What the audit says of the rows; its people's tables are written beside.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.
        frame: From ``sweeps.report.results.results_frame``.
        folder: Where to write.

    Returns:
        None where the sweep has no such audit, or none is finished.
    """
    found = audits(plan, entries)
    if not found:
        return None
    write_csv(people_frame(found), folder / PEOPLE_FILE)
    write_csv(curves_frame(found), folder / CURVES_FILE)
    files = [PEOPLE_FILE, CURVES_FILE]
    memorised = memorisation_frame(plan, entries)
    if not memorised.empty:
        write_csv(memorised, folder / MEMORISATION_FILE)
        files.append(MEMORISATION_FILE)
    return Part(
        anchor="likelihood",
        title="Likelihood audit, person by person",
        asks=ASKS,
        tables=_tables(plan, frame),
        note=NOTE,
        files=tuple(files),
        figures=("likelihood_roc", "memorisation", "hardness_memorised"),
        sentences=tuple(_sentences(frame)),
    )


def audits(plan: Plan, entries: Entries) -> Audits:
    """Every finished audit by its key, with the first row that it is of."""
    found: dict[str, tuple[ResultRow, Entry]] = {}
    for row in plan.results:
        if row.lira_key is not None and row.lira_key in entries:
            found.setdefault(row.lira_key, (row, entries[row.lira_key]))
    return found


def people_frame(found: Audits) -> pd.DataFrame:
    """A line for every person of the pool and audit.

    Args:
        found: From ``audits``.

    Returns:
        Columns dataset, num_forget, seed, method (of that row), identity, images, memorisation and
        forgetting (log-odds), privacy_auc, efficacy_auc (fractions), job_key.
    """
    return _joined(found, LIKELIHOOD)


def curves_frame(found: Audits) -> pd.DataFrame:
    """A line for every point of the ROC curves of every audit.

    Args:
        found: From ``audits``.

    Returns:
        Columns dataset, num_forget, seed, method (of that row), attack ("privacy", "efficacy"),
        fpr, tpr, low, high (fractions), job_key.
    """
    return _joined(found, LIKELIHOOD_ROC)


def _joined(found: Audits, name: str) -> pd.DataFrame:
    """A file of all audits under each other; there must be one."""
    tables = [stored_table(entry, name) for _, entry in found.values()]
    joined = pd.concat(tables, ignore_index=True)
    lengths = [len(table) for table in tables]
    joined["job_key"] = pd.Series(list(found)).repeat(lengths).to_numpy()
    return with_rows(joined, [row for row, _ in found.values()], lengths)


def memorisation_frame(plan: Plan, entries: Entries) -> pd.DataFrame:
    """How well models know each person of a pool, beyond models that never saw them.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.

    Returns:
        Columns dataset, identity, images, memorisation (log-odds); a line per person, in the order
        in which they were drawn.
    """
    found = [pd.DataFrame(columns=["dataset", "identity", "images", "memorisation"])]
    for dataset, pool in plan.pools.items():
        entry = entries.get(pool.memorisation_key)
        if entry is not None:
            table = pd.read_parquet(entry.file(MEMORISATION))
            table.insert(0, "dataset", dataset)
            found.append(table)
    return pd.concat(found[1:] or found, ignore_index=True)


def _tables(plan: Plan, frame: pd.DataFrame) -> tuple[AuditTable, ...]:
    keys = {row.score_key: row.lira_key for row in plan.results if row.lira_key is not None}
    audited = frame[frame["job_key"].isin(keys) & frame["lira_auc"].notna()]

    def line(method: str, rows: pd.DataFrame) -> tuple[str, ...]:
        # Rows of one audit count once, however many seeds share it.
        return _line(method, rows[~rows["job_key"].map(keys).duplicated()])

    return tables_of(audited, TITLES, line)


def _line(method: str, audits: pd.DataFrame) -> tuple[str, ...]:
    mean = audits.filter(like="lira_").mean()

    def ranged(name: str) -> str:
        ends = (mean[f"{name}_low"], mean[f"{name}_high"])
        return percent(mean[name]) + ("" if any(map(math.isnan, ends)) else _ends(*ends))

    def number(name: str) -> str:
        return ABSENT if math.isnan(mean[name]) else f"{mean[name]:.0f}"

    return (
        method,
        ranged("lira_auc"),
        ranged("lira_tpr"),
        percent(mean["lira_tpr_10"]),
        ABSENT if math.isnan(mean["lira_epsilon"]) else f"{mean['lira_epsilon']:.2f}",
        f"{percent(mean['lira_worst'])} ({percent(mean['lira_worst_by_chance'])})",
        percent(mean["lira_p95"]),
        ranged("lira_efficacy_auc"),
        ABSENT if math.isnan(mean["lira_shift"]) else signed(mean["lira_shift"], 2),
        number("lira_people"),
        number("lira_models"),
        f"{number('lira_positives')} and {number('lira_negatives')}",
        str(len(audits)),
    )


def percent(value: float) -> str:
    """A fraction in percent, or what stands for a missing one."""
    return ABSENT if math.isnan(value) else f"{100 * value:.1f}"


def _ends(low: float, high: float) -> str:
    return f" [{percent(low)}, {percent(high)}]"


def _sentences(frame: pd.DataFrame) -> Iterator[str]:
    """Whom the audit tells from strangers, of every dataset, and where it cannot say."""
    for dataset, rows in frame[frame["lira_auc"].notna()].groupby("dataset", sort=False):
        means = rows.groupby("method", sort=False)[[*ENDS, "lira_shift"]].mean()
        told = {
            str(method): "known" if shift > 0 else "forgotten too much"
            for method, low, _, shift in means.itertuples(name=None)
            if low > GUESSING
        }
        below = [str(method) for method in means.index[means["lira_auc_high"] < GUESSING]]
        rest = [str(method) for method in means.index if method not in (*told, *below)]
        people, models = (rows[name].iloc[0] for name in ("lira_people", "lira_models"))
        said = "no row is shown to leave people who are told from strangers."
        if told:
            named = ", ".join(f"{method} ({how})" for method, how in told.items())
            said = f"told from strangers are people unlearned by {named}."
        sentences = [f"{dataset}, {people:.0f} people and {models:.0f} models: {said}"]
        if below:
            sentences.append(f"Below guessing, where the attack fails: {', '.join(below)}.")
        if rest:
            sentences.append(f"Not shown either way: {', '.join(rest)}.")
        yield " ".join(sentences)
