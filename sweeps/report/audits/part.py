"""What a kind of audit hands to the audits' page.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from sweeps.graph.plan import ResultRow
from sweeps.inference.comparisons import blocks
from sweeps.report.tables import request_title

NOT_DONE = "audited, because a job of the audit is not done or has failed"
"""What follows "not" where rows are named that no table has."""


@dataclass(frozen=True, kw_only=True)
class AuditTable:
    """The lines of one dataset and forget size, as text.

    Attributes:
        title: Dataset and forget size in words.
        titles: Of the columns; the first is that of the rows' names.
        lines: Their cells.
    """

    title: str
    titles: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One kind of audit.

    Attributes:
        anchor: Of its section, in small letters.
        title: Of its section.
        asks: What the audit asks, in one or two sentences.
        tables: One per dataset and forget size.
        note: How to read the columns, and what they cannot show.
        files: Names in the report's folder of what it wrote.
        figures: Kinds of ``sweeps.report.figures.catalogue.KINDS`` that belong to it.
        sentences: What it found, each whole.
    """

    anchor: str
    title: str
    asks: str
    tables: tuple[AuditTable, ...]
    note: str
    files: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()


def tables_of(
    frame: pd.DataFrame,
    titles: tuple[str, ...],
    line: Callable[[str, pd.DataFrame], tuple[str, ...]],
) -> tuple[AuditTable, ...]:
    """A table for every dataset and forget size, with a line for every method.

    Args:
        frame: Columns dataset, num_forget and method beside those that ``line`` reads.
        titles: Of the columns; the first is that of the rows' names.
        line: Makes the cells of a method from its rows.
    """
    return tuple(
        AuditTable(
            title=request_title(*block),
            titles=titles,
            lines=tuple(
                line(str(method), own) for method, own in rows.groupby("method", sort=False)
            ),
        )
        for block, rows in blocks(frame)
    )


def not_audited(rows: Iterable[tuple[ResultRow, bool]]) -> Iterator[str]:
    """Which rows stand in no table, or not with all their seeds, for every dataset and forget size.

    Args:
        rows: Those that the audit is to be of, each with whether it is done.
    """
    found: dict[tuple[str, int], dict[str, list[bool]]] = {}
    for row, is_done in rows:
        methods = found.setdefault((row.cell.dataset, row.cell.num_forget), {})
        methods.setdefault(row.row.name, []).append(is_done)
    for block, methods in found.items():
        named = [some_of(name, seeds.count(False), len(seeds)) for name, seeds in methods.items()]
        if any(named):
            yield f"{request_title(*block)}: not {NOT_DONE}: {', '.join(filter(None, named))}."


def some_of(name: str, missing: int, of: int) -> str:
    """A row that is missing as a whole or in part; empty where nothing is."""
    if not missing:
        return ""
    return name if missing == of else f"{name} (in {missing} of {of} cells)"
