"""The likelihood audit in a report: who can tell a person who was unlearned from a stranger.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from sweeps.graph.artifacts import LIKELIHOOD, LIKELIHOOD_ROC, MEMORISATION
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report.analyses import stored_table
from sweeps.report.audits.part import NOT_DONE, AuditTable, Part, some_of, tables_of
from sweeps.report.numbers import signed
from sweeps.report.results import Entries, with_rows
from sweeps.report.sheets import write_csv
from sweeps.store import Entry

PEOPLE_FILE, MEMORISATION_FILE = "likelihood_people.csv", "memorisation.csv"
CURVES_FILE = "likelihood_roc.csv"
ABSENT = "-"
ENDS = ("lira_auc_low", "lira_auc_high")
SHIFT_ENDS = ("lira_shift_low", "lira_shift_high")
GUESSING = 0.5
Audits: TypeAlias = Mapping[str, tuple[ResultRow, Entry]]
ANCHOR, TITLE = "likelihood", "Likelihood audit, person by person"
TITLES = (
    *("row", "AUC (by chance)", "TPR at 1 %", "TPR at 10 %", "epsilon at least", "worst person"),
    *("95th percentile", "efficacy AUC", "shift", "people", "models", "decisions", "audits"),
)
ASKS = (
    "Models that were trained on a person and then asked to forget them are held against models "
    "that never saw them: can it be told which is which? The unit is a person, not a picture."
)
NOTE = (
    "AUC, rates and percentiles in percent, with 95 % intervals that resample people and models. "
    "AUC 50 is guessing: nobody can tell; on few models it is above 50 by chance, and in round "
    "brackets stands what it stays below in 97.5 of 100 audits in which nobody can be told and "
    "models differ as these do. A row is said to be told where its AUC is above that and its "
    "interval above 50. TPR at 1 % and 10 %: unlearned people who are found, "
    "where that share of strangers is accused; - where there are too few strangers to say. Epsilon "
    "at least: a lower bound at one-sided 95 % of what differential privacy would have to grant. "
    "Worst person and 95th percentile are of people's own AUC; in brackets what the worst stays "
    "below in 95 of 100 audits in which nobody can be told. Efficacy AUC holds unlearned people "
    "against those who are still trained on: 50 is nothing forgotten, as in doing nothing. Shift: "
    "how much surer of the truth about a person a model is after forgetting them than one that "
    "never saw them, in log-odds, with its interval: above 0 people are still known, below 0 "
    "forgetting itself shows; where the interval holds 0 it is not shown which of the two, and "
    "may be the one for some people and the other for others. Decisions: of unlearned people "
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
        None where the sweep has no such audit. Without files and tables where none is finished.
    """
    found, keys = audits(plan, entries), _keys(plan)
    sentences = tuple(_sentences(keys, frame))
    if not found and not sentences:
        return None
    if not found:
        return Part(anchor=ANCHOR, title=TITLE, asks=ASKS, tables=(), note="", sentences=sentences)
    write_csv(people_frame(found), folder / PEOPLE_FILE)
    write_csv(curves_frame(found), folder / CURVES_FILE)
    files = [PEOPLE_FILE, CURVES_FILE]
    memorised = memorisation_frame(plan, entries)
    if not memorised.empty:
        write_csv(memorised, folder / MEMORISATION_FILE)
        files.append(MEMORISATION_FILE)
    return Part(
        anchor=ANCHOR,
        title=TITLE,
        asks=ASKS,
        tables=_tables(keys, frame),
        note=NOTE,
        files=tuple(files),
        figures=("likelihood_roc", "memorisation", "hardness_memorised"),
        sentences=sentences,
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


def _keys(plan: Plan) -> dict[str, str]:
    """The audit of every row, by the key of the row's score."""
    return {row.score_key: row.lira_key for row in plan.results if row.lira_key is not None}


def _tables(keys: Mapping[str, str], frame: pd.DataFrame) -> tuple[AuditTable, ...]:
    audited = frame[frame["job_key"].isin(list(keys)) & frame["lira_auc"].notna()]

    def line(method: str, rows: pd.DataFrame) -> tuple[str, ...]:
        return _line(method, _once(keys, rows))

    return tables_of(audited, TITLES, line)


def _once(keys: Mapping[str, str], rows: pd.DataFrame) -> pd.DataFrame:
    """One row of each audit, however many seeds and forget sizes share it."""
    return rows[~rows["job_key"].map(keys).duplicated()]


def _means(audits: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    return {name: float(audits[name].mean()) for name in names}


def _line(method: str, audits: pd.DataFrame) -> tuple[str, ...]:
    mean = _means(audits, [name for name in map(str, audits) if name.startswith("lira_")])

    def ranged(name: str) -> str:
        ends = (mean[f"{name}_low"], mean[f"{name}_high"])
        return percent(mean[name]) + ("" if any(map(math.isnan, ends)) else _ends(*ends))

    def number(name: str) -> str:
        return ABSENT if math.isnan(mean[name]) else f"{mean[name]:.0f}"

    return (
        method,
        f"{ranged('lira_auc')} ({percent(mean['lira_auc_by_chance'])})",
        ranged("lira_tpr"),
        percent(mean["lira_tpr_10"]),
        ABSENT if math.isnan(mean["lira_epsilon"]) else f"{mean['lira_epsilon']:.2f}",
        f"{percent(mean['lira_worst'])} ({percent(mean['lira_worst_by_chance'])})",
        percent(mean["lira_p95"]),
        ranged("lira_efficacy_auc"),
        _shift(mean),
        number("lira_people"),
        number("lira_models"),
        f"{number('lira_positives')} and {number('lira_negatives')}",
        str(len(audits)),
    )


def _shift(mean: Mapping[str, float]) -> str:
    """Such as "+0.49 [+0.20, +0.78]"."""
    value, low, high = (mean[name] for name in ("lira_shift", *SHIFT_ENDS))
    if math.isnan(value):
        return ABSENT
    ends = "" if math.isnan(low) else f" [{signed(low, 2)}, {signed(high, 2)}]"
    return f"{signed(value, 2)}{ends}"


def percent(value: float) -> str:
    """A fraction in percent, or what stands for a missing one."""
    return ABSENT if math.isnan(value) else f"{100 * value:.1f}"


def _ends(low: float, high: float) -> str:
    return f" [{percent(low)}, {percent(high)}]"


def _sentences(keys: Mapping[str, str], frame: pd.DataFrame) -> Iterator[str]:
    """Whom the audit tells from strangers, of every dataset, and where it cannot say."""
    names = ["lira_auc", *ENDS, "lira_auc_by_chance", *SHIFT_ENDS]
    for dataset, every in frame[frame["job_key"].isin(list(keys))].groupby("dataset", sort=False):
        rows = every[every["lira_auc"].notna()]
        is_absent = every["lira_auc"].isna().groupby(every["method"], sort=False)
        counts = zip(is_absent.sum().items(), is_absent.size(), strict=True)
        absent = [some_of(str(name), int(none), int(all_)) for (name, none), all_ in counts]
        sentences = []
        if not rows.empty:
            means = {
                str(method): _means(_once(keys, own), names)
                for method, own in rows.groupby("method", sort=False)
            }
            told = {name: _which_way(mean) for name, mean in means.items() if _is_told(mean)}
            below = [name for name, mean in means.items() if mean["lira_auc_high"] < GUESSING]
            rest = [name for name in means if name not in (*told, *below)]
            people, models = (rows[name].iloc[0] for name in ("lira_people", "lira_models"))
            said = "no row is shown to leave people who are told from strangers."
            if told:
                named = ", ".join(f"{name} ({how})" for name, how in told.items())
                said = f"told from strangers are people unlearned by {named}."
            sentences.append(f"{dataset}, {people:.0f} people and {models:.0f} models: {said}")
            if below:
                sentences.append(f"Below guessing, where the attack fails: {', '.join(below)}.")
            if rest:
                sentences.append(f"Not shown either way: {', '.join(rest)}.")
        if any(absent):
            where = "Not" if sentences else f"{dataset}: not"
            sentences.append(f"{where} {NOT_DONE}: {', '.join(filter(None, absent))}.")
        yield " ".join(sentences)


def _is_told(mean: Mapping[str, float]) -> bool:
    """Whether people are told, of the means over a row's audits."""
    return mean["lira_auc"] > mean["lira_auc_by_chance"] and mean["lira_auc_low"] > GUESSING


def _which_way(mean: Mapping[str, float]) -> str:
    low, high = (mean[name] for name in SHIFT_ENDS)
    if low > 0:
        return "still known"
    return "forgotten too much" if high < 0 else "which way is not shown"
