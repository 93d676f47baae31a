"""What a person is shown first of a sweep that runs: one seed's rows that need no study. Pure."""

from __future__ import annotations

from oneshui.spec import Access, Role
from sweeps.graph.plan import Plan, ResultRow


def first_look(plan: Plan) -> tuple[ResultRow, ...]:
    """The rows of the first cell that are measured with hyperparameters as they are given.

    All rows of that cell where no one-shot method is among them. Nothing where the sweep has no
    rows beside these: then the first look is the last.
    """
    of_first = [row for row in plan.results if row.cell == plan.results[0].cell]
    given = [row for row in of_first if row.choose_key is None]
    shown = given if any(_competes(row) for row in given) else of_first
    return () if len(shown) == len(plan.results) else tuple(shown)


def _competes(row: ResultRow) -> bool:
    return row.row.role is Role.METHOD and row.row.access is not Access.FULL
