"""The comparative tables for the terminal, in Markdown and in LaTeX.

The page's HTML is made from the same ``sweeps.report.tables.Table`` by its template.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.text import Text

from oneshui.printable import printable
from oneshui.spec import Access
from sweeps.report.measures import CATALOGUE
from sweeps.report.rendering import render
from sweeps.report.sequences import SurvivalTable
from sweeps.report.tables import (
    GAIN,
    LEGEND,
    RANK_NOTE,
    REFERENCE_NOTE,
    TUNED_TITLE,
    TUNING_NOTE,
    Table,
    TableCell,
    block_id,
    gain_note,
    mixture_note,
    overforgets_note,
    tables_of,
    titles,
    truth_note,
)

PLAIN_WIDTH = 100
FEWEST_BESIDE_NAMES = 3
SURVIVAL_COLUMNS = 8
"""Of a table of requests one after the other, what a terminal shows; the report has the rest."""
LATEX_COLUMNS = 8
"""Numbers beside each other on a page of LaTeX."""

_SHORT_SEEN = {Access.SUPPORT: "S", Access.PREPARED: "S+prep", Access.FULL: "Df,Dr"}
_MARKS = {0: "", 1: "*", 2: "°"}
_TERMINAL_LEGEND = (
    "retain, forget, test: the score; all in percent, mean ± standard deviation of n seeds",
    "ToW 100: as retrained; ToWn: mean gain over doing nothing in % of what retraining gains",
    "Δ: minus the retrained score; -: missing, or true by definition; MIA, RMIA 50: chance",
    "MIAacc: forget images taken for non-members",
    "sees: S support set, S+prep also the method's own preparation, Df,Dr reference rows",
    "* shown to be best, ° best of the rest; ↑ ↓ ToW shown to be above or below doing nothing",
    "≈ as near to retraining as retraining itself (tests within seeds, corrected; else not shown)",
    "forget, MIA, RMIA: closest to retrained models is best; all definitions: report/summary.md",
)
_TERMINAL_TUNING = (
    "tuned by: sim simulated requests before deletion, S those and the support set, S+Dv also",
    "validation pictures, ORACLE the retrained model itself (neither is ranked); no: as given",
)
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "≈": r"$\approx$",
    "▽": r"$\bigtriangledown$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def terminal(summary: pd.DataFrame, console: Console) -> None:
    """Print the tables, as many measures beside each other as the width allows.

    Where the console is a terminal, the tables use its width; in a log they need 100 columns.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
        console: Where to print.
    """
    found = tables_of(summary)
    _print_tables(found, console, console.width if console.is_terminal else PLAIN_WIDTH)
    tuning = _TERMINAL_TUNING if any(table.is_tuned for table in found) else ()
    marks = (mixture_note(summary), truth_note(summary), overforgets_note(summary))
    for line in filter(None, (*_TERMINAL_LEGEND, *tuning, *marks)):
        # A terminal breaks words, a log keeps its lines.
        folds = console.is_terminal
        console.print(Text(line, style="dim"), soft_wrap=not folds, highlight=False)


def survival_terminal(found: Sequence[SurvivalTable], console: Console) -> None:
    """Print the first columns of tables of requests that came one after the other.

    Args:
        found: From ``sweeps.report.sequences.survival_tables``.
        console: Where to print.
    """
    for table in found:
        columns = list(zip(*([table.titles, *table.lines]), strict=True))[:SURVIVAL_COLUMNS]
        widths = [max(map(len, column)) for column in columns]
        console.print(Text(table.title))
        for cells in zip(*columns, strict=True):
            line = "  ".join(c.ljust(width) for c, width in zip(cells, widths, strict=True))
            console.print(Text(line.rstrip()), soft_wrap=True, highlight=False)
        console.print()


def tables_text(summary: pd.DataFrame, width: int = 0) -> list[str]:
    """The lines of the tables without their legend.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
        width: In columns; 0 for that of a log.
    """
    stream = io.StringIO()
    console = Console(file=stream, width=width or PLAIN_WIDTH)
    _print_tables(tables_of(summary), console, width or PLAIN_WIDTH)
    return stream.getvalue().splitlines()


def _print_tables(found: Sequence[Table], console: Console, width: int) -> None:
    for table in found:
        console.print()
        for text in _terminal_table(table, width):
            console.print(text, soft_wrap=True, highlight=False)
    console.print()


def _terminal_table(table: Table, width: int) -> list[Text]:
    texts = [Text(table.title)]
    measures = [measure for panel in table.panels for measure in panel]
    for panel in _panels(table, measures, width):
        texts += panel.texts()
    return texts


def _panels(table: Table, measures: Sequence[str], width: int) -> list[_Panel]:
    """All measures in as few panels as there is room for, as even as can be.

    So none is left with a single column, beside others of four.
    """
    found: list[_Panel] = []
    while measures:
        # As many panels as the rest needs, the larger ones first.
        needed = _greedily(table, measures, width)
        most = -(-len(measures) // len(needed))
        first = _widest(table, measures[:most], width)
        found.append(first)
        measures = measures[len(first.measures) :]
    return found


def _greedily(table: Table, measures: Sequence[str], width: int) -> list[_Panel]:
    found: list[_Panel] = []
    while measures:
        found.append(_widest(table, measures, width))
        measures = measures[len(found[-1].measures) :]
    return found


def _widest(table: Table, measures: Sequence[str], width: int) -> _Panel:
    """As many measures as fit; names move to lines of their own where few would fit otherwise."""
    least = min(FEWEST_BESIDE_NAMES, len(measures))
    for stacked, fewest in ((False, least), (True, 1)):
        for count in range(len(measures), fewest - 1, -1):
            panel = _Panel(table, measures[:count], is_stacked=stacked)
            if panel.total <= width:
                return panel
    return panel


class _Panel:
    """Some measures of a table in columns, names on lines of their own if need be."""

    def __init__(self, table: Table, measures: Sequence[str], *, is_stacked: bool) -> None:
        self.measures = measures
        self._table = table
        self._stacked = is_stacked
        lines = table.lines
        self._titles = ["" if is_stacked else "method", "sees"]
        self._columns = [
            [" " if is_stacked else line.title for line in lines],
            [_SHORT_SEEN[line.access] for line in lines],
        ]
        if table.is_tuned:
            self._titles.append(TUNED_TITLE)
            self._columns.append([line.tuning for line in lines])
        self._names = len(self._titles)
        self._heads: list[tuple[str, int]] = []
        for size in table.sizes:
            self._heads.append((_identities(size), len(self._titles)))
            self._titles += ["n", *(CATALOGUE[m].short or CATALOGUE[m].title for m in measures)]
            self._columns.append([line.counts[size] for line in lines])
            self._columns += [_aligned([x.cells[size, m] for x in lines], m) for m in measures]
        self._widths = [
            max(len(title), *map(len, column))
            for title, column in zip(self._titles, self._columns, strict=True)
        ]
        self.total = sum(self._widths) + len(self._widths) - 1

    def _join(self, values: Sequence[str]) -> str:
        parts = [
            value.ljust(width) if place < self._names else value.rjust(width)
            for place, (value, width) in enumerate(zip(values, self._widths, strict=True))
        ]
        return " ".join(parts).rstrip()

    def texts(self) -> list[Text]:
        found = [Text("")]
        if len(self._heads) > 1:
            head = ""
            for name, first in self._heads:
                head = head.ljust(sum(self._widths[:first]) + first) + name
            found.append(Text(head, style="bold"))
        found += [Text(self._join(self._titles), style="bold"), Text("─" * self.total)]
        for number, line in enumerate(self._table.lines):
            if self._table.rule_before(number):
                found.append(Text("─" * self.total, style="dim"))
            style = "dim" if line.is_reference else ""
            if self._stacked:
                found.append(Text(line.title, style=style))
            found.append(Text(self._join([c[number] for c in self._columns]), style=style))
        return found


def _identities(size: int) -> str:
    return "1 identity" if size == 1 else f"{size} identities"


def _aligned(cells: Sequence[TableCell], measure: str) -> list[str]:
    """Cells of one column, their ± under each other.

    To save room, seconds have no spread, and spreads of ten points and more no decimals.
    """
    spreads = [f"{float(c.spread):.0f}" if len(c.spread) > 3 else c.spread for c in cells]
    if CATALOGUE[measure].unit == "seconds":
        spreads = [""] * len(cells)
    room = max(map(len, spreads))
    marks = max(len(cell.mark) for cell in cells)
    tails = [
        (f"±{spread:>{room}}" if spread else "").ljust(room + 1 if room else 0)
        + cell.mark.ljust(marks)
        for cell, spread in zip(cells, spreads, strict=True)
    ]
    return [_MARKS[c.rank] + c.mean + tail for c, tail in zip(cells, tails, strict=True)]


def markdown(
    summary: pd.DataFrame, notes: Sequence[str] = (), survival: Sequence[SurvivalTable] = ()
) -> str:
    """The tables in Markdown; best bold, second best italic.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
        notes: Further sentences under them, from ``sweeps.report.tables.notes``.
        survival: What follows them, of requests that came one after the other.
    """
    return render(
        "summary.md.j2",
        tables=tables_of(summary),
        columns=titles(),
        legend=LEGEND,
        tuning_note=TUNING_NOTE,
        rank_note=RANK_NOTE,
        notes=notes,
        survival=survival,
    )


def latex(
    summary: pd.DataFrame, notes: Sequence[str] = (), survival: Sequence[SurvivalTable] = ()
) -> str:
    r"""The tables in LaTeX; needs ``\usepackage{booktabs}`` and nothing else.

    Every one has a label, ``tab:`` with dataset, forget sizes and number, and a short caption for
    the list of tables.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
        notes: Further sentences of the captions, from ``sweeps.report.tables.notes``.
        survival: What follows them, of requests that came one after the other.
    """
    names = titles()
    parts: list[tuple[Table, str, Sequence[str], list[str]]] = []
    for table in tables_of(summary):
        # Equal panels as wide as a page allows, rather than a full one and a narrow rest.
        shown = [measure for panel in table.panels for measure in panel]
        if table.compared_with:
            shown.insert(shown.index("tow") + 1, GAIN)
        count = -(-len(shown) * len(table.sizes) // LATEX_COLUMNS)
        length = -(-len(shown) // count)
        for start in range(0, len(shown), length):
            panel = shown[start : start + length]
            further = [gain_note(table.compared_with)] if GAIN in panel else []
            label = "-".join([block_id(table.dataset, table.sizes[0]), *map(str, table.sizes[1:])])
            said = [*further, *notes] if start == 0 else further
            parts.append((table, f"{label}-{start // length + 1}", panel, said))
    return render(
        "summary.tex.j2",
        parts=parts,
        survival=survival,
        title_of=lambda table, measure: names.get(measure, f"vs {table.compared_with}"),
        legend=LEGEND,
        tuning_note=TUNING_NOTE,
        rank_note=RANK_NOTE,
        reference_note=REFERENCE_NOTE,
        identities=_identities,
        number=_latex_number,
        tex=_escape,
    )


def _latex_number(cell: TableCell, measure: str) -> str:
    """One cell; spreads are set small, since many columns must fit on a page."""
    text = re.sub(r"^([+-])(?=\d)", r"$\1$", cell.mean)
    text = ("{}", r"\textbf{{{}}}", r"\underline{{{}}}")[cell.rank].format(text)
    if cell.spread and CATALOGUE[measure].unit != "seconds":
        text += rf"{{\tiny$\pm${cell.spread}}}"
    if measure == GAIN:
        return text + (f"$^{{{cell.mark}}}$" if cell.mark else "")
    return text + "".join(_LATEX[mark] for mark in cell.mark)


def _escape(text: str) -> str:
    """LaTeX source that prints the text; the sets D_f and D_r become mathematics."""
    pieces = re.split(r"\b(D_[fr])\b", printable(text))
    return "".join(
        f"${piece}$" if place % 2 else "".join(_LATEX.get(c, c) for c in piece)
        for place, piece in enumerate(pieces)
    )
