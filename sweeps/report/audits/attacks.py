"""The attacks that average over people: intervals over people, which way, chosen on other seeds.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sweeps.inference.attackers import ATTACKERS, deviations, strongest
from sweeps.inference.comparisons import Block, blocks
from sweeps.inference.rows import BLOCK, names
from sweeps.report.audits.part import AuditTable, Part
from sweeps.report.numbers import signed
from sweeps.report.people import mean_interval
from sweeps.report.sheets import write_csv
from sweeps.report.tables import MISSING, request_title

ATTACKS, STRONGEST = "attacks.csv", "attackers.csv"
COUNTED = ("forget_people", "forget_images", "test_people", "test_images")
NAMES: Mapping[str, str] = {
    "mia_auc": "loss, forest",
    "mia_threshold_auc": "loss, threshold",
    "rmia_auc": "relative (RMIA)",
}
ABOVE, BELOW = "↑", "↓"
TITLES = (
    *("row", *NAMES.values(), "RMIA TPR", "strongest on other seeds", "its advantage"),
    *("forget people (images)", "test people (images)", "seeds"),
)
ASKS = (
    "Can somebody who sees losses, or compares with retrained models, tell forget images from "
    "images of people who were never trained on? Each is an average over people."
)
NOTE = (
    "AUC in percent, 95 % interval over people in brackets (images of a person come along "
    "together; it holds within these trained models), then the deviation from the retrained models "
    f"of the same seed in points: {ABOVE} more is found than in retrained models, the row "
    f"remembers; {BELOW} less is found, which tells on those who asked as well; neither where the "
    "interval of the deviation over people holds 0. RMIA TPR: true positives at the smallest "
    "false-positive rate that ten test images resolve, in percent, with its interval over people. "
    "Strongest on other seeds: for every seed the attack and the direction are chosen on the row's "
    "other seeds and made on this one; the advantage is its mean deviation in that direction, with "
    "Student's interval over seeds. With a single seed nothing can be chosen elsewhere. An average "
    "over people hides the one person who is found every time: see the likelihood audit."
)


def part(frame: pd.DataFrame, people: pd.DataFrame | None, folder: Path) -> Part | None:
    """What the attacks say of every row; None while no row is finished.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
        people: From ``sweeps.report.people.resamples``.
        folder: The report's, where ``attacks.csv`` and ``attackers.csv`` are written.
    """
    known = frame[frame["mia_auc"].notna()]
    if known.empty:
        return None
    found = attacks_frame(known, people)
    chosen = strongest(known)
    write_csv(found, folder / ATTACKS)
    write_csv(chosen, folder / STRONGEST)
    own = dict(iter(found.groupby(BLOCK)))
    by_block = dict(iter(chosen.groupby(BLOCK)))
    return Part(
        anchor="attacks",
        title="Attacks that average over people",
        asks=ASKS,
        tables=tuple(
            _table(block, rows, own[block], by_block.get(block, chosen.head(0)), people)
            for block, rows in blocks(known)
        ),
        note=NOTE,
        files=(ATTACKS, STRONGEST),
    )


def attacks_frame(frame: pd.DataFrame, people: pd.DataFrame | None) -> pd.DataFrame:
    """``sweeps.inference.attackers.deviations`` with intervals of the AUC, and who was judged.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
        people: From ``sweeps.report.people.resamples``.

    Returns:
        Its columns, ``auc_low`` and ``auc_high`` (over people, 95 %), and ``COUNTED``, the fewest
        of any seed.
    """
    found = deviations(frame, people)
    by_row = _by_row(frame)
    drawn = {} if people is None else _by_row(people)
    lines: list[Mapping[Any, Any]] = []
    for line in found.to_dict("records"):
        which = tuple(line[name] for name in (*BLOCK, "method"))
        rows = by_row[which]
        low, high = _interval(rows, drawn.get(which), str(line["attack"]))
        counted: dict[Any, Any] = {name: rows[name].min() for name in COUNTED}
        lines.append({**line, "auc_low": low, "auc_high": high, **counted})
    return pd.DataFrame(lines, columns=[*found.columns, "auc_low", "auc_high", *COUNTED])


def _by_row(frame: pd.DataFrame) -> dict[Any, pd.DataFrame]:
    found: dict[Any, pd.DataFrame] = dict(iter(frame.groupby([*BLOCK, "method"])))
    return found


def _interval(rows: pd.DataFrame, drawn: pd.DataFrame | None, measure: str) -> tuple[float, float]:
    ends = None if drawn is None else mean_interval(rows, drawn, measure)
    return ends or (math.nan, math.nan)


def _table(
    block: Block,
    rows: pd.DataFrame,
    found: pd.DataFrame,
    chosen: pd.DataFrame,
    people: pd.DataFrame | None,
) -> AuditTable:
    lines = {(str(line["method"]), str(line["attack"])): line for line in found.to_dict("records")}
    by_method = {str(line["method"]): line for line in chosen.to_dict("records")}
    own = None
    if people is not None:
        is_own = (people["dataset"] == block[0]) & (people["num_forget"] == block[1])
        own = dict(iter(people[is_own].groupby("method")))
    return AuditTable(
        title=request_title(*block),
        titles=TITLES,
        lines=tuple(
            (
                method,
                *(_said(lines.get((method, attack))) for attack in ATTACKERS),
                _tpr(part, None if own is None else own.get(method)),
                *_strongest(by_method.get(method)),
                _counted(part, "forget"),
                _counted(part, "test"),
                str(len(part)),
            )
            for method, part in ((name, rows[rows["method"] == name]) for name in names(rows))
        ),
    )


def _said(line: Mapping[Any, Any] | None) -> str:
    """Such as "57.2 [51, 63], +4.1 ↑"."""
    if line is None:
        return MISSING
    said = f"{100 * line['auc']:.1f}{_ends(line['auc_low'], line['auc_high'])}"
    if math.isnan(line["deviation"]):
        return said
    shown = ""
    if line["deviation_low"] > 0:
        shown = f" {ABOVE}"
    elif line["deviation_high"] < 0:
        shown = f" {BELOW}"
    return f"{said}, {signed(100 * line['deviation'])}{shown}"


def _ends(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" [{100 * low:.0f}, {100 * high:.0f}]"


def _tpr(rows: pd.DataFrame, drawn: pd.DataFrame | None) -> str:
    """Such as "3.1 [1, 9] at 5 %"."""
    known = rows[rows["rmia_tpr"].notna()]
    if known.empty or known["rmia_fpr"].nunique() > 1:
        return MISSING
    ends = _ends(*_interval(known, drawn, "rmia_tpr"))
    return f"{100 * known['rmia_tpr'].mean():.1f}{ends} at {100 * known['rmia_fpr'].iloc[0]:g} %"


def _strongest(line: Mapping[Any, Any] | None) -> tuple[str, str]:
    if line is None:
        return MISSING, MISSING
    ends = ""
    if not math.isnan(line["low"]):
        ends = f" [{signed(100 * line['low'])}, {signed(100 * line['high'])}]"
    return NAMES[line["attack"]], f"{signed(100 * line['advantage'])}{ends}"


def _counted(rows: pd.DataFrame, name: str) -> str:
    """Such as "20 (136 to 140)"."""
    return f"{_range(rows[f'{name}_people'])} ({_range(rows[f'{name}_images'])})"


def _range(numbers: pd.Series[float]) -> str:
    known = numbers.dropna()
    if known.empty:
        return MISSING
    low, high = f"{known.min():.0f}", f"{known.max():.0f}"
    return low if low == high else f"{low} to {high}"
