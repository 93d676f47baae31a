"""Methods by datasets and forget sizes: the ToW of each, its place there, and the mean place.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from sweeps.report.grid import Grid, Row
from sweeps.report.tables import MISSING, TableCell

FEWEST_BLOCKS = 2
"""With one dataset and forget size the overview would be the table again."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A row in one dataset and forget size.

    Attributes:
        cell: Its ToW.
        rank: Its place among the rows that compete; empty for others.
        address: Where the row stands in the table; empty if it is not part of this one.
    """

    cell: TableCell
    rank: str
    address: str


@dataclass(frozen=True, kw_only=True)
class OverviewLine:
    """A method over all of them.

    Attributes:
        method: Name of the row.
        colour: As in the table.
        kind: As ``Row.kind``.
        standings: In the order of the groups.
        mean_rank: Over those in which it competes, where it does so in all; else empty.
    """

    method: str
    colour: str
    kind: str
    standings: tuple[Standing, ...]
    mean_rank: str


def overview(grid: Grid) -> list[OverviewLine]:
    """The rows of a table over its groups: controls, then by mean rank; empty for a single group.

    Args:
        grid: From ``sweeps.report.grid.grid_of``.
    """
    if len(grid.groups) < FEWEST_BLOCKS:
        return []
    tow = [column.key for column in grid.columns].index("tow")
    by_group = [{row.line.method: row for row in group.rows} for group in grid.groups]
    names = dict.fromkeys(name for rows in by_group for name in rows)
    found = [_line([rows.get(name) for rows in by_group], name, tow) for name in names]
    shown = [line for line in found if any(one.cell.mean != MISSING for one in line.standings)]
    return sorted(shown, key=lambda line: (_KINDS.index(line.kind), float(line.mean_rank or "inf")))


_KINDS = ("pin", "ranked", "ref")


def _line(rows: Sequence[Row | None], name: str, tow: int) -> OverviewLine:
    one = next(row for row in rows if row is not None)
    standings = tuple(
        Standing(cell=row.numbers[tow].cell, rank=row.rank, address=row.id)
        if row
        else Standing(cell=TableCell(mean=MISSING, spread=""), rank="", address="")
        for row in rows
    )
    ranks = [float(standing.rank) if standing.rank else math.nan for standing in standings]
    mean = fmean(ranks)
    return OverviewLine(
        method=name,
        colour=one.colour,
        kind=one.kind,
        standings=standings,
        mean_rank="" if math.isnan(mean) else f"{mean:.1f}",
    )
