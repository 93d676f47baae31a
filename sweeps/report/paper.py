"""Beside the paper: a table that a person fills with published numbers, and what came out of them.

A number is reproduced where the 95 % interval of our mean minus the paper's lies within its
tolerance, not reproduced where it lies outside of it, and undecided at so many seeds elsewhere: a
mean that happens to be near shows nothing, and one that is far may be chance. The interval is
Student's; where the paper's spread and number of seeds are filled in, theirs enters by Welch's
(docs/statistics.md). Verdicts are each number's own: nothing corrects for their number.

Ships empty: oneshui holds no number of a paper that it did not measure. Must not import torch, Ray
or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from oneshui.errors import InputError
from oneshui.printable import cell
from sweeps.graph.launch import EQUIVALENCE_MARGIN
from sweeps.inference.intervals import CONFIDENCE, t_quantile
from sweeps.report.measures import CATALOGUE, SUMMARISED
from sweeps.report.numbers import signed
from sweeps.report.sheets import write_csv

FILE = "paper_numbers.csv"
COMPARED = tuple(key for key, measure in CATALOGUE.items() if measure.is_published)
KEYS = ["dataset", "num_forget", "method", "measure"]
COLUMNS = [*KEYS, "paper_mean", "paper_std", "paper_n", "tolerance", "source"]
NUMBERS = ("num_forget", "paper_mean", "paper_std", "paper_n", "tolerance")
TOLERANCE = 100 * EQUIVALENCE_MARGIN
"""Points, where a line says nothing: what counts as good as retrained, too."""
Verdict = Literal["reproduced", "not reproduced", "undecided", "not run"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
NOT_FILLED = f"{FILE}: not filled (write published numbers, in percent, into paper_mean)"


def template(summary: pd.DataFrame) -> pd.DataFrame:
    """An empty table with a line for every number of the sweep that a paper may have.

    Args:
        summary: From ``sweeps.report.summary.summarise``.

    Returns:
        Columns ``COLUMNS``; paper_mean and paper_std, in percent, and paper_n are null; tolerance,
        in points, is ``TOLERANCE``.
    """
    rows = [
        {"dataset": d, "num_forget": n, "method": m, "measure": measure, "tolerance": TOLERANCE}
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
    for name in (name for name in NUMBERS if name in table):
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
    known = filled.reindex(columns=COLUMNS)
    for name, is_good, allowed in (
        ("paper_std", known["paper_std"] >= 0, "0 or more"),
        ("paper_n", known["paper_n"] >= 1, "1 or more seeds"),
        ("tolerance", known["tolerance"] > 0, "above 0 points"),
    ):
        wrong = known.index[known[name].notna() & ~(is_good & known[name].map(math.isfinite))]
        if len(wrong):
            raise InputError(
                f"{path}, line {wrong[0] + 2}: {name} is {known[name][wrong[0]]:g}, but it must be "
                f"{allowed}, or empty"
            )
    return known.assign(tolerance=known["tolerance"].fillna(TOLERANCE))


def compare(paper: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Published numbers beside ours.

    Args:
        paper: From ``read``.
        summary: From ``sweeps.report.summary.summarise``.

    Returns:
        The paper's lines with ours_mean, ours_std (percent), n, difference (ours minus the
        paper's, points), low and high (its 95 % interval, null without two seeds), errors (the
        difference in standard errors of our mean, null without a spread) and verdict, one of
        ``VERDICTS``.
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
        low, high = _interval(difference, std, n, line["paper_std"], line["paper_n"])
        found.append(
            {
                **line,
                "ours_mean": mean,
                "ours_std": std,
                "n": n,
                "difference": difference,
                "low": low,
                "high": high,
                "errors": difference / error if error else math.nan,
                "verdict": verdict(low, high, line["tolerance"], is_there=not math.isnan(mean)),
            }
        )
    return pd.DataFrame(found, columns=[*COLUMNS, *OURS])


OURS = ["ours_mean", "ours_std", "n", "difference", "low", "high", "errors", "verdict"]
"""Columns of the comparison after those of the table."""


def _interval(
    difference: float, std: float, n: int, paper_std: float, paper_n: float
) -> tuple[float, float]:
    """The 95 % interval of a difference of means; NaN where it is not known.

    Args:
        difference: Ours minus theirs.
        std: Spread of ours, ddof 1.
        n: How many.
        paper_std: Spread of theirs; NaN where the paper's mean is taken as it stands.
        paper_n: How many, NaN for the same.
    """
    if n < 2 or math.isnan(std):
        return math.nan, math.nan
    parts: list[tuple[float, float]] = [(std**2 / n, n - 1)]
    if paper_std > 0 and paper_n >= 2:
        parts.append((paper_std**2 / paper_n, paper_n - 1))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return difference, difference
    # Welch's degrees of freedom; with one part its own.
    freedom = variance**2 / sum(part**2 / own for part, own in parts)
    half = float(t_quantile((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    return difference - half, difference + half


def verdict(low: float, high: float, tolerance: float, *, is_there: bool = True) -> Verdict:
    """What an interval of ours minus the paper's says.

    Args:
        low: Its lower end, NaN where there is no interval.
        high: Its upper end.
        tolerance: Points that count as no difference.
        is_there: Whether we have the number at all.
    """
    if not is_there:
        return "not run"
    if -tolerance <= low and high <= tolerance:
        return "reproduced"
    if low > tolerance or high < -tolerance:
        return "not reproduced"
    return "undecided"


def total(comparison: pd.DataFrame) -> str:
    """How many numbers have each verdict, in words."""
    counts = comparison["verdict"].value_counts()
    seeds = sorted({int(n) for n in comparison.loc[comparison["verdict"] == "undecided", "n"]})
    at = f" at {seeds[0]}{f' to {seeds[-1]}' if len(seeds) > 1 else ''} seeds" if seeds else ""
    words: Mapping[Verdict, str] = {
        "reproduced": "reproduced",
        "not reproduced": "not",
        "undecided": f"undecided{at}",
        "not run": "not run",
    }
    said = [f"{counts.get(one, 0)} {word}" for one, word in words.items()]
    return f"of {len(comparison)} numbers of the paper: {', '.join(said)}"


def lines(comparison: pd.DataFrame) -> list[str]:
    """The comparison in words, one line per number; says so if nothing is filled."""
    if comparison.empty:
        return [NOT_FILLED]
    found = [
        total(comparison),
        f"compared with {FILE} ({len(comparison)} numbers, percent; ours minus the paper's, with "
        "its 95 % interval)",
    ]
    for row in comparison.to_dict("records"):
        name = f"{row['dataset']} n{row['num_forget']:.0f} {row['method']} {row['measure']}"
        if math.isnan(row["ours_mean"]):
            found.append(f"  {name}: not run; paper {row['paper_mean']:.1f}, ours missing")
            continue
        said = row["verdict"]
        if said == "undecided":
            said += f" at {row['n']} seed{'s' if row['n'] != 1 else ''}"
        within = (
            "" if math.isnan(row["low"]) else f" ({signed(row['low'])} to {signed(row['high'])})"
        )
        found.append(
            f"  {name}: {said}; paper {row['paper_mean']:.1f}, ours {row['ours_mean']:.1f} "
            f"(n={row['n']}), {signed(row['difference'])}{within}, tolerance {row['tolerance']:g}"
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
