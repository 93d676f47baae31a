"""Beside the paper: a table that a person fills with published numbers, and the comparison.

Ships empty: oneshui holds no number of a paper that it did not measure. Must not import torch, Ray
or MLflow.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from oneshui.errors import InputError
from oneshui.printable import cell
from sweeps.report.measures import CATALOGUE, SUMMARISED
from sweeps.report.numbers import signed
from sweeps.report.sheets import write_csv

FILE = "paper_numbers.csv"
COMPARED = tuple(key for key, measure in CATALOGUE.items() if measure.is_published)
KEYS = ["dataset", "num_forget", "method", "measure"]
COLUMNS = [*KEYS, "paper_mean", "paper_std", "source"]
NOT_FILLED = f"{FILE}: not filled (write published numbers, in percent, into paper_mean)"


def template(summary: pd.DataFrame) -> pd.DataFrame:
    """An empty table with a line for every number of the sweep that a paper may have.

    Args:
        summary: From ``sweeps.report.summary.summarise``.

    Returns:
        Columns ``COLUMNS``; paper_mean and paper_std, in percent, are null.
    """
    rows = [
        {"dataset": d, "num_forget": n, "method": m, "measure": measure}
        for d, n, m in zip(
            summary["dataset"], summary["num_forget"], summary["method"], strict=True
        )
        for measure in COMPARED
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def read(path: Path) -> pd.DataFrame:
    """The filled lines of a table.

    Raises:
        InputError: It is no such table, or holds what is no number, with file and line.
    """
    try:
        table = pd.read_csv(path, dtype={"dataset": str, "method": str, "measure": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable CSV file: {error}") from None
    absent = [name for name in [*KEYS, "paper_mean"] if name not in table]
    if absent:
        raise InputError(
            f"{path} lacks the column {absent[0]}; delete it and run mode=report to get a new one"
        )
    for name in ("num_forget", "paper_mean", *(["paper_std"] if "paper_std" in table else [])):
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = table.index[numbers.isna() & table[name].notna()]
        if len(wrong):
            raise InputError(
                f"{path}, line {wrong[0] + 2}: {name} is {table[name][wrong[0]]!r}, but it must be "
                "a number"
            )
        table[name] = numbers
    filled = table[table["paper_mean"].notna()]
    endless = filled.index[~filled[["num_forget", "paper_mean"]].map(math.isfinite).all(axis=1)]
    if len(endless):
        raise InputError(
            f"{path}, line {endless[0] + 2}: num_forget and paper_mean must be finite numbers"
        )
    unknown = filled.loc[~filled["measure"].isin(SUMMARISED), "measure"]
    if len(unknown):
        raise InputError(
            f"{path}, line {unknown.index[0] + 2}: measure is {unknown.iloc[0]!r}, but it must be "
            f"one of {', '.join(COMPARED)}"
        )
    return filled.reindex(columns=COLUMNS)


def compare(paper: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Published numbers beside ours.

    Args:
        paper: From ``read``.
        summary: From ``sweeps.report.summary.summarise``.

    Returns:
        The paper's lines with ours_mean, ours_std (percent), n, difference (ours minus the
        paper's, points) and errors: the difference in standard errors of our mean, null without a
        spread.
    """
    # By the names that the table to be filled has.
    named = summary.assign(**{name: summary[name].map(cell) for name in ("dataset", "method")})
    rows = named.set_index(["dataset", "num_forget", "method"])
    found = []
    for line in paper.to_dict("records"):
        key = (line["dataset"], int(line["num_forget"]), line["method"])
        mean = std = math.nan
        n = 0
        if key in rows.index:
            measure = line["measure"]
            mean, std = (100 * float(rows.loc[key, f"{measure}_{p}"]) for p in ("mean", "std"))
            n = int(rows.loc[key, "n"])
        difference = mean - line["paper_mean"]
        error = std / math.sqrt(n) if n else math.nan
        found.append(
            {
                **line,
                "ours_mean": mean,
                "ours_std": std,
                "n": n,
                "difference": difference,
                "errors": difference / error if error else math.nan,
            }
        )
    columns = [*COLUMNS, "ours_mean", "ours_std", "n", "difference", "errors"]
    return pd.DataFrame(found, columns=columns)


def lines(comparison: pd.DataFrame) -> list[str]:
    """The comparison in words, one line per number; says so if nothing is filled."""
    if comparison.empty:
        return [NOT_FILLED]
    found = [f"compared with {FILE} ({len(comparison)} numbers, percent; ours minus the paper's)"]
    for row in comparison.to_dict("records"):
        name = f"{row['dataset']} n{row['num_forget']:.0f} {row['method']} {row['measure']}"
        if math.isnan(row["ours_mean"]):
            found.append(f"  {name}: paper {row['paper_mean']:.1f}, ours missing")
            continue
        errors = "" if math.isnan(row["errors"]) else f", {abs(row['errors']):.1f} standard errors"
        found.append(
            f"  {name}: paper {row['paper_mean']:.1f}, ours {row['ours_mean']:.1f} "
            f"(n={row['n']}), {signed(row['difference'])}{errors}"
        )
    return found


def update(old: Path, folder: Path, summary: pd.DataFrame) -> pd.DataFrame:
    """Carry a person's table over into a new report and compare with it.

    What a person wrote is copied byte for byte; only a table without any number is made anew.

    Args:
        old: The table of the report so far, which need not exist.
        folder: The new report.
        summary: From ``sweeps.report.summary.summarise``.

    Returns:
        The comparison, also written as ``paper_comparison.csv`` unless it is empty.

    Raises:
        InputError: The table cannot be read.
    """
    filled = read(old) if old.is_file() else pd.DataFrame(columns=COLUMNS)
    if filled.empty:
        write_csv(template(summary), folder / FILE)
    else:
        (folder / FILE).write_bytes(old.read_bytes())
    comparison = compare(filled, summary)
    if not comparison.empty:
        write_csv(comparison, folder / "paper_comparison.csv")
    return comparison


def said(report: Path) -> list[str]:
    """What a written report says about the paper, as lines for the terminal."""
    table = report / "paper_comparison.csv"
    return lines(pd.read_csv(table)) if table.is_file() else [NOT_FILLED]
