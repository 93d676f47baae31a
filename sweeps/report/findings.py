"""What the ToW column says, in sentences that the tests behind them carry.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from oneshui.spec import Role
from sweeps.inference.comparisons import Block, PairedTest, best_of, blocks
from sweeps.inference.evidence import Evidence
from sweeps.inference.rows import by_seed, gains_over_nothing, names, of_role
from sweeps.inference.testing import cross_fitted_gain
from sweeps.report.numbers import signed
from sweeps.report.tables import TRUTH, TRUTH_IN_VIEW, request_title


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Sentences under one title.

    Attributes:
        title: Dataset and forget size in words, or what is taken together.
        sentences: Each whole.
    """

    title: str
    sentences: tuple[str, ...]


def findings(frame: pd.DataFrame, evidence: Evidence) -> list[Finding]:
    """What can be said about every dataset and forget size, and over datasets.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
        evidence: What was tested about it.
    """
    found = []
    for block, rows in blocks(frame):
        nothing = of_role(rows, Role.PRETRAIN)
        if nothing is None:
            continue
        tow = by_seed(rows, "tow")
        idle = f"Doing nothing ({nothing}) has a mean ToW of {100 * tow[nothing].mean():.1f}%."
        tests = evidence.of_family("nothing", block)
        saw = names(rows[rows["hyperparameters_from"] == TRUTH_IN_VIEW])
        sentences = [leads(tests, saw), idle] if tests else [idle]
        if tests:
            gains = gains_over_nothing(rows)[[test.method for test in tests]]
            sentences += _against_nothing(tests, gains)
            sentences += _best(evidence, block)
        sentences += _retrained(evidence, block)
        sentences += _truth_in_view(saw, evidence, block)
        found.append(Finding(title=request_title(*block), sentences=tuple(sentences)))
    across = _over_datasets([test for test in evidence.tests if test.family == "datasets"])
    return [*found, *across]


def leader(tests: Sequence[PairedTest]) -> PairedTest:
    """The row with the largest mean gain over doing nothing, shown or not."""
    return max(tests, key=lambda test: test.difference)


def leads(tests: Sequence[PairedTest], saw: Sequence[str]) -> str:
    """Which row leads, and whether that is beyond the noise: the first thing that is said.

    Args:
        tests: Every row of a dataset and forget size against doing nothing; at least one.
        saw: Rows whose hyperparameters were found with the truth in view.
    """
    top = leader(tests)
    competed = f"{len(tests)} one-shot {'row' if len(tests) == 1 else 'rows'} competed"
    over = f"over {num_seeds(top.num)}"
    if top.difference <= 0:
        who = f"none of {len(tests)} one-shot rows is" if len(tests) > 1 else "the one row is not"
        return f"Doing nothing leads: {who} better on average {over}."
    name = f"{top.method} ({TRUTH})" if top.method in saw else top.method
    said = f"{name} leads: {points(top)} of ToW over doing nothing"
    if top.is_shown:
        return (
            f"{said}, beyond the noise (p {top.p_corrected:.2g} after correction for the rows; "
            f"{competed} {over})."
        )
    why = f"{competed} {over}"
    if len(tests) > 1:
        why += "; the highest of several means is above zero by chance alone"
    return f"{said}, which is not beyond the noise ({why})."


def _against_nothing(tests: Sequence[PairedTest], gains: pd.DataFrame) -> list[str]:
    """What the gain is worth on fresh seeds, and which other rows are shown to help or to harm."""
    top = leader(tests)
    sentences: list[str] = []
    # On the seeds of the row that is spoken of: it must be among those that can be chosen.
    common = gains[gains[top.method].notna()].dropna(axis="columns")
    fresh = cross_fitted_gain(common.to_numpy())
    # Said of losses too: only where a mean is above zero it would be above zero on average.
    if not math.isnan(fresh) and len(tests) > 1:
        sentences.append(
            f"Chosen on the other seeds than it is counted on, the best row gains "
            f"{signed(100 * fresh)} points."
        )
    better = [t.method for t in tests if t.is_shown and t.difference > 0 and t is not top]
    worse = [t.method for t in tests if t.is_shown and t.difference < 0]
    if better:
        also = " as well" if top.is_shown else ""
        sentences.append(f"Shown to be better{also}: {', '.join(better)}.")
    if worse:
        sentences.append(f"Shown to be worse than doing nothing: {', '.join(worse)}.")
    return sentences


def points(test: PairedTest) -> str:
    """A difference with its interval, or without one where a single seed has none."""
    said = f"{100 * test.difference:+.1f} points"
    if math.isnan(test.low):
        return said
    return f"{said} (95 % interval {100 * test.low:+.1f} to {100 * test.high:+.1f})"


def num_seeds(num: int) -> str:
    """Such as "3 seeds"."""
    return "1 seed" if num == 1 else f"{num} seeds"


def _best(evidence: Evidence, block: Block) -> list[str]:
    best, is_shown = best_of(evidence.tests, block)
    if best is None or not is_shown:
        return []
    return [f"{best} is shown to be the best of them."]


def _retrained(evidence: Evidence, block: Block) -> list[str]:
    """Which rows are as good as retrained, by the definition that the table's mark has."""
    level = evidence.levels.get(block)
    if level is None:
        return []
    alike = [test.method for test in evidence.shown("retrained", block)]
    among = f"Models that were retrained have a ToW of {100 * level.tow:.1f}% among themselves"
    within = f"within {100 * evidence.margin:g} points of that"
    if alike:
        return [f"{among}; shown to be {within}: {', '.join(alike)}."]
    return [f"{among}; no one-shot row is shown to be {within}."]


def _truth_in_view(saw: Sequence[str], evidence: Evidence, block: Block) -> list[str]:
    """Which rows that something is said of have hyperparameters that saw the truth."""
    claimed = {
        test.method for family in ("nothing", "retrained") for test in evidence.shown(family, block)
    }
    tests = evidence.of_family("nothing", block)
    claimed |= {leader(tests).method} if tests else set()
    flattered = [name for name in saw if name in claimed]
    if not flattered:
        return []
    return [f"Flattered by hyperparameters that saw the truth ({TRUTH}): {', '.join(flattered)}."]


def _over_datasets(tests: Sequence[PairedTest]) -> list[Finding]:
    if not tests:
        return []
    most = max(test.num for test in tests)
    shown = [test for test in tests if test.is_shown]
    better = [f"{t.method} {points(t)}" for t in shown if t.difference > 0]
    worse = [f"{t.method} {points(t)}" for t in shown if t.difference < 0]
    sentences = [f"{most} datasets, each counted once, are a sample of datasets."]
    if better:
        sentences.append(f"Shown to be better than doing nothing: {'; '.join(better)}.")
    if worse:
        sentences.append(f"Shown to be worse: {'; '.join(worse)}.")
    if not shown:
        sentences.append("Over so few no row is shown to differ from doing nothing in general.")
    return [Finding(title="Over datasets", sentences=tuple(sentences))]
