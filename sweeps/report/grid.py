"""The page's one table: all datasets and forget sizes under the same columns.

Texts and marks are those of ``sweeps.report.tables``; here is what only a page has: axes, places,
colours, anchors and what sorting needs. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from oneshui.spec import Role
from sweeps.report.formats import latex
from sweeps.report.measures import CATALOGUE, PANELS
from sweeps.report.scale import shown_range
from sweeps.report.tables import (
    GAIN,
    MISSING,
    OVERFORGETS,
    SCORE_NAMES,
    Line,
    Table,
    TableCell,
    anchor,
    block_id,
    gain_note,
    request_title,
    tables_of,
)

FIRST = ("tow", GAIN, "retain_score", "forget_score", "test_score", "mia_auc", "rmia_auc")
"""What the page shows first; the rest follows as the other tables have it."""
ON_PHONES = ("tow", "retain_score", "rmia_auc")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of numbers.

    Attributes:
        key: Column of the results, or ``GAIN``.
        title: Over it.
        meaning: What it is, for whoever points at it.
        on_phones: Whether it is shown where there is room for three.
    """

    key: str
    title: str
    meaning: str
    on_phones: bool


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a number and its interval lie on the axis of their column, in percent of its length.

    Attributes:
        at: Of the number.
        start: Of the interval's lower end; that of the number without one.
        length: Of the interval.
        is_cut: Whether the number lies beyond the ends.
    """

    at: float
    start: float
    length: float
    is_cut: bool


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of the table.

    Attributes:
        cell: As the other tables have it.
        place: On the axis; None where nothing is drawn.
    """

    cell: TableCell
    place: Place | None

    @property
    def value(self) -> str:
        """What the table is sorted by; empty without a number."""
        return "" if math.isnan(self.cell.value) else f"{self.cell.value:.5g}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table.

    Attributes:
        line: As the other tables have it.
        id: Its anchor.
        asked: Dataset, forget size and row, as ``mode=why`` takes them.
        colour: Of its method; empty for references and controls.
        count: Finished and planned seeds.
        rank: Place by mean ToW among the rows that compete; empty for others.
        numbers: In the order of the columns.
    """

    line: Line
    id: str
    asked: str
    colour: str
    count: str
    rank: str
    numbers: tuple[Number, ...]

    @property
    def kind(self) -> str:
        """What stays on top is "pin", what competes "ranked", and the rest "ref"."""
        if self.line.role is not Role.METHOD:
            return "pin"
        return "ranked" if self.line.is_ranked else "ref"

    @property
    def overforgets(self) -> bool:
        """Whether an attack finds less than chance in it."""
        return any(number.cell.mark == OVERFORGETS for number in self.numbers)


@dataclass(frozen=True, kw_only=True)
class Group:
    """The rows of one dataset and forget size.

    Attributes:
        title: Both in words, and the score.
        id: Its anchor.
        axes: By column, the ends of the axis that its bars have, as text; empty without one.
        rows: First what is pinned, then by ToW what competes, then the references.
        latex: The same as a table of LaTeX.
    """

    title: str
    id: str
    axes: tuple[str, ...]
    rows: tuple[Row, ...]
    latex: str


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The whole table.

    Attributes:
        columns: Of numbers.
        groups: One per dataset and forget size.
        is_tuned: Whether a column says what chose the hyperparameters.
    """

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    is_tuned: bool


def grid_of(
    summary: pd.DataFrame,
    colours: Mapping[str, str],
    compared_with: str,
    notes: Sequence[str] = (),
) -> Grid:
    """The page's table.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
        colours: Of the rows that have one.
        compared_with: Whom the differences are to, in words.
        notes: Of the captions in LaTeX.
    """
    tables = tables_of(summary)
    columns = tuple(_columns(tables, compared_with))
    by_block = dict(list(summary.groupby(["dataset", "num_forget"], sort=False)))
    return Grid(
        columns=columns,
        groups=tuple(
            _group(table, size, columns, colours, latex(by_block[table.dataset, size], notes))
            for table in tables
            for size in table.sizes
        ),
        is_tuned=any(table.is_tuned for table in tables),
    )


def _columns(tables: Iterable[Table], compared_with: str) -> Iterator[Column]:
    panels = max((table.panels for table in tables), key=len, default=PANELS[:2])
    shown = [key for panel in panels for key in panel]
    for key in [*FIRST, *(key for key in shown if key not in FIRST)]:
        if key == GAIN:
            title, meaning = f"vs {compared_with}", gain_note(compared_with)
        else:
            title, meaning = CATALOGUE[key].title, CATALOGUE[key].meaning
        yield Column(key=key, title=title, meaning=meaning, on_phones=key in ON_PHONES)


def _group(
    table: Table, size: int, columns: Sequence[Column], colours: Mapping[str, str], tex: str
) -> Group:
    lines = sorted(table.lines, key=lambda line: _order(line, size))
    cells = {column.key: [line.cells[size, column.key] for line in lines] for column in columns}
    # The best row is what people look for, however far ahead it is.
    pinned = [line.role is not Role.METHOD or line.ranks.get(size) == 1 for line in lines]
    axes = {key: _axis(key, of_column, pinned) for key, of_column in cells.items()}
    block = block_id(table.dataset, size)
    score = SCORE_NAMES.get(table.task)
    asked = f", {table.requests} requests per seed" if table.requests > 1 else ""
    return Group(
        title=request_title(table.dataset, size) + asked + (f", score: {score}" if score else ""),
        id=block,
        axes=tuple(_ends(axes[column.key]) for column in columns),
        rows=tuple(
            Row(
                line=line,
                id=f"{block}-{anchor(line.method)}",
                asked=f"{table.dataset} {size} {line.method}",
                colour=colours.get(line.method, ""),
                count=line.counts[size],
                rank=str(line.ranks.get(size, "")),
                numbers=tuple(
                    Number(cell=cells[c.key][at], place=_place(cells[c.key][at], axes[c.key]))
                    for c in columns
                ),
            )
            for at, line in enumerate(lines)
        ),
        latex=tex,
    )


def _order(line: Line, size: int) -> tuple[int, float]:
    if line.role is not Role.METHOD:
        return list(Role).index(line.role), 0.0
    tow = line.cells[size, "tow"].value
    return (len(Role) + (not line.is_ranked), math.inf if math.isnan(tow) else -tow)


def _axis(
    key: str, cells: Sequence[TableCell], pinned: Sequence[bool]
) -> tuple[float, float] | None:
    """Of fractions and their differences; seconds span orders of magnitude, and are not drawn."""
    unit = "difference" if key == GAIN else CATALOGUE[key].unit
    if unit not in ("fraction", "difference", "signed"):
        return None
    always = [cell.value for cell, is_pinned in zip(cells, pinned, strict=True) if is_pinned]
    least = 0.01 if unit == "signed" else 0.5
    return shown_range([cell.value for cell in cells], always, least)


def _ends(axis: tuple[float, float] | None) -> str:
    if axis is None:
        return ""
    digits = 0 if axis[1] - axis[0] >= 3 else 1
    low, high = (f"{round(end, digits) + 0.0:.{digits}f}" for end in axis)
    return f"{low} to {high}"


def _place(cell: TableCell, axis: tuple[float, float] | None) -> Place | None:
    if axis is None or cell.mean == MISSING:
        return None
    span = axis[1] - axis[0]

    def at(value: float) -> float:
        return round(min(100.0, max(0.0, 100 * (value - axis[0]) / span)), 1)

    low, high = (cell.value, cell.value) if math.isnan(cell.low) else (cell.low, cell.high)
    return Place(
        at=at(cell.value),
        start=at(low),
        length=round(at(high) - at(low), 1),
        is_cut=not axis[0] <= cell.value <= axis[1],
    )
