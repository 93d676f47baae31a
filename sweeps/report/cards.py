"""A card per dataset and forget size: who wins, by how much, at what price, and how sure it is.

What a card claims is what the first sentences of ``sweeps.report.findings`` claim. Must not import
torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from oneshui.spec import Role
from sweeps.inference.comparisons import Block, PairedTest, best_of, blocks
from sweeps.inference.evidence import Evidence
from sweeps.inference.intervals import t_interval
from sweeps.inference.rows import by_seed, of_role
from sweeps.report.findings import Finding, findings, leader, num_seeds, points
from sweeps.report.measures import CATALOGUE
from sweeps.report.tables import TRUTH, TRUTH_IN_VIEW, block_id, request_title

NOBODY_WINS = "Nobody beats doing nothing beyond the noise"
PRICES = ("retain_score", "test_score")
ATTACKS = ("rmia_auc", "mia_auc")
"""The first that was measured speaks for the card."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point of a card's axis.

    Attributes:
        name: What it is.
        at: Place in percent of ToW.
        low: Lower end of an interval, NaN without one.
        high: Its upper end.
        kind: "nothing", "row" or "again", for the style.
    """

    name: str
    at: float
    low: float = math.nan
    high: float = math.nan
    kind: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """One dataset and forget size.

    Attributes:
        title: Both in words.
        block: Its anchor's end.
        winner: The row that is shown to be better than doing nothing; empty without one.
        headline: Who that is, in words.
        facts: Names and texts: gain, price, attack, how sure.
        marks: On an axis from ``begin`` to 100: doing nothing, the row, retraining again.
        words: The finding in full.
    """

    title: str
    block: str
    winner: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    marks: tuple[Mark, ...]
    words: tuple[str, ...]

    @property
    def begin(self) -> int:
        """Where the axis begins: a round number below all marks."""
        lowest = min((mark.at for mark in self.marks), default=0.0)
        return max(0, 10 * math.floor((lowest - 5) / 10))

    def place(self, tow: float) -> float:
        """Of a ToW on the axis, in percent of its length."""
        share = 100 * (tow - self.begin) / (100 - self.begin)
        return round(min(100.0, max(0.0, share)), 1)


def cards(frame: pd.DataFrame, evidence: Evidence) -> tuple[list[Card], list[Finding]]:
    """All cards, and what is found over datasets.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
        evidence: What was tested about it.
    """
    said = {finding.title: finding for finding in findings(frame, evidence)}
    found = []
    for block, rows in blocks(frame):
        finding = said.pop(request_title(*block), None)
        found.append(_card(block, rows, evidence, finding.sentences if finding else ()))
    return found, list(said.values())


def _card(block: Block, rows: pd.DataFrame, evidence: Evidence, words: tuple[str, ...]) -> Card:
    tests = evidence.of_family("nothing", block)
    shown = [test for test in tests if test.is_shown and test.difference > 0]
    # Of rows that are shown to be better the best mean; the best of all may be none of them.
    top = leader(shown or tests) if tests else None
    winner = leader(shown).method if shown else ""
    if top is None:
        headline = "Nothing to compare yet"
        facts = [("state", f"{rows['tow'].notna().sum()} of {len(rows)} results, no row competes")]
    else:
        headline = f"{winner} beats doing nothing" if winner else NOBODY_WINS
        facts = [
            ("gain", f"{'' if winner else f'largest: {top.method}, '}{points(top)} of ToW"),
            ("price", _price(rows, top)),
            ("attack", _attack(rows, top)),
            ("how sure", _sure(rows, evidence, top)),
        ]
    return Card(
        title=request_title(*block),
        block=block_id(*block),
        winner=winner,
        headline=headline,
        facts=tuple((name, text) for name, text in facts if text),
        marks=tuple(_marks(rows, top)) if top else (),
        words=words,
    )


def _price(rows: pd.DataFrame, top: PairedTest) -> str:
    """What the rest of the model pays, beside doing nothing."""
    found = []
    for measure in PRICES:
        values = by_seed(rows, measure)
        change = 100 * (values[top.method] - values[top.other]).mean()
        if not math.isnan(change):
            found.append(f"{CATALOGUE[measure].title} {change + 0.0:+.1f}")
    return f"{', '.join(found)} points against doing nothing" if found else ""


def _attack(rows: pd.DataFrame, top: PairedTest) -> str:
    """What an attacker still finds, beside what is found in retrained models."""
    again = of_role(rows, Role.RETRAIN_AGAIN)
    for measure in ATTACKS:
        means = 100 * by_seed(rows, measure).mean()
        if math.isnan(means[top.method]):
            continue
        beside = [f"doing nothing {means[top.other]:.1f}"]
        if again is not None and not math.isnan(means[again]):
            beside.append(f"retrained {means[again]:.1f}")
        title = CATALOGUE[measure].title
        return f"{title} {means[top.method]:.1f} % ({', '.join(beside)}; guessing 50)"
    return ""


def _sure(rows: pd.DataFrame, evidence: Evidence, top: PairedTest) -> str:
    """What the claim rests on, and what it is silent about."""
    tests = evidence.of_family("nothing", top.block)
    count, first = len(tests), leader(tests)
    of_rows = "1 row" if count == 1 else f"{count} rows"
    if math.isnan(top.p_corrected):
        return f"not at all: {num_seeds(top.num)} of {of_rows} show no difference"
    said = f"p {top.p_corrected:.2g} after correction for {of_rows}, {num_seeds(top.num)}"
    if not (top.is_shown and top.difference > 0):
        return f"not shown: {said}"
    best, is_best = best_of(evidence.tests, top.block)
    also = "; shown to be the best of them" if is_best and best == top.method else ""
    if count > 1 and not also:
        also = "; which row is best of all is not shown"
    if first is not top:
        also = f"; {first.method} has a larger mean gain, which is not shown to be one"
    saw = rows.loc[rows["method"] == top.method, "hyperparameters_from"] == TRUTH_IN_VIEW
    return said + also + (f"; flattered by its hyperparameters ({TRUTH})" if saw.any() else "")


def _marks(rows: pd.DataFrame, top: PairedTest) -> Iterator[Mark]:
    tow = by_seed(rows, "tow")
    again = of_role(rows, Role.RETRAIN_AGAIN)
    yield Mark(name=top.other, at=100 * tow[top.other].mean(), kind="nothing")
    low, high = (100 * end for end in t_interval(tow[top.method].dropna()))
    yield Mark(
        name=top.method, at=100 * tow[top.method].mean(), low=low, high=min(high, 100.0), kind="row"
    )
    if again is not None:
        yield Mark(name=again, at=100 * tow[again].mean(), kind="again")
