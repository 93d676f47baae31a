"""The comparative tables for the terminal, in Markdown and in LaTeX.

The page's HTML is made from the same ``sweeps.report.tables.Table`` by its template.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.text import Text

from oneshui.spec import Access
from sweeps.report.tables import (
    COLUMNS,
    LEGEND,
    PANELS,
    RANK_NOTE,
    REFERENCE_NOTE,
    TUNED_TITLE,
    TUNING_NOTE,
    Cell,
    Line,
    Table,
    tables_of,
)

PLAIN_WIDTH = 100
FEWEST_BESIDE_NAMES = 3
LATEX_COLUMNS = 8
"""Numbers beside each other on a page of LaTeX."""

_SHORT_TITLES = {
    "mia_auc": "MIA",
    "mia_acc": "MIAacc",
    "rmia_auc": "RMIA",
    "tow_normalised": "ToWn",
    "retain_gap": "Δret",
    "forget_gap": "Δfor",
    "test_gap": "Δtest",
    "unlearn_seconds": "sec",
    "prepare_seconds": "prep s",
}
_SHORT_SEEN = {Access.SUPPORT: "S", Access.PREPARED: "S+prep", Access.FULL: "Df,Dr"}
_MARKS = {0: "", 1: "*", 2: "°"}
_TERMINAL_LEGEND = (
    "retain, forget, test: the score; all in percent, mean ± standard deviation of n seeds",
    "ToW 100: as retrained, ToWn 0: doing nothing; Δ: minus the retrained score; -: missing",
    "MIA, RMIA 50: chance; MIAacc: forget images taken for non-members",
    "sees: S support set, S+prep also the method's own preparation, Df,Dr reference rows",
    "* best, ° second best of the ranked rows, ties within one standard error unmarked; ≈ as good "
    "as",
    "retrained again; forget, MIA: closest to retrain is best; all definitions: report/summary.md",
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
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def terminal(summary: pd.DataFrame, console: Console) -> None:
    """Print the tables, as many measures beside each other as the width allows.

    Where the console is a terminal, the tables use its width; in a log they need 100 columns.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
        console: Where to print.
    """
    width = console.width if console.is_terminal else PLAIN_WIDTH
    found = tables_of(summary)
    for table in found:
        console.print()
        for text in _terminal_table(table, width):
            console.print(text, soft_wrap=True, highlight=False)
    console.print()
    tuning = _TERMINAL_TUNING if any(table.is_tuned for table in found) else ()
    for line in (*_TERMINAL_LEGEND, *tuning):
        console.print(Text(line, style="dim"), soft_wrap=True, highlight=False)


def _terminal_table(table: Table, width: int) -> list[Text]:
    texts = [Text(table.title)]
    measures = list(COLUMNS)
    while measures:
        panel = _widest(table, measures, width)
        texts += panel.texts()
        measures = measures[len(panel.measures) :]
    return texts


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
            [" " if is_stacked else line.method for line in lines],
            [_SHORT_SEEN[line.access] for line in lines],
        ]
        if table.is_tuned:
            self._titles.append(TUNED_TITLE)
            self._columns.append([line.tuning for line in lines])
        self._names = len(self._titles)
        self._heads: list[tuple[str, int]] = []
        for size in table.sizes:
            self._heads.append((_identities(size), len(self._titles)))
            self._titles += ["n", *(_SHORT_TITLES.get(m, COLUMNS[m]) for m in measures)]
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
                found.append(Text(line.method, style=style))
            found.append(Text(self._join([c[number] for c in self._columns]), style=style))
        return found


def _identities(size: int) -> str:
    return "1 identity" if size == 1 else f"{size} identities"


def _aligned(cells: Sequence[Cell], measure: str) -> list[str]:
    """Cells of one column, their ± under each other.

    To save room, seconds have no spread, and spreads of ten points and more no decimals.
    """
    spreads = [f"{float(c.spread):.0f}" if len(c.spread) > 3 else c.spread for c in cells]
    if measure.endswith("_seconds"):
        spreads = [""] * len(cells)
    room = max(map(len, spreads))
    noise = any(cell.is_noise for cell in cells)
    tails = [
        (f"±{spread:>{room}}" if spread else "").ljust(room + 1 if room else 0)
        + (("≈" if cell.is_noise else " ") if noise else "")
        for cell, spread in zip(cells, spreads, strict=True)
    ]
    return [_MARKS[c.rank] + c.mean + tail for c, tail in zip(cells, tails, strict=True)]


def markdown(summary: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """The tables in Markdown; best bold, second best italic.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
        notes: Further sentences under them, from ``sweeps.report.tables.notes``.
    """
    parts = []
    found = tables_of(summary)
    for table in found:
        parts.append(f"### {table.title}")
        names = ["method", "data seen", *([TUNED_TITLE] if table.is_tuned else [])]
        for panel in PANELS:
            groups = [("n", ""), *((COLUMNS[m], m) for m in panel)]
            suffix = len(table.sizes) > 1
            heads = [
                f"{title} ({size})" if suffix else title
                for size in table.sizes
                for title, _ in groups
            ]
            lines = [
                "| " + " | ".join([*names, *heads]) + " |",
                "|" + " --- |" * len(names) + " ---: |" * len(heads),
            ]
            for line in table.lines:
                name = f"`{line.method}`" + (" (reference)" if line.is_reference else "")
                cells = []
                for size in table.sizes:
                    cells += [line.counts[size], *(_markdown(line.cells[size, m]) for m in panel)]
                seen = [line.data_seen, *([line.tuning] if table.is_tuned else [])]
                lines.append("| " + " | ".join([name, *seen, *cells]) + " |")
            parts.append("\n".join(lines))
    marks = RANK_NOTE.replace("Best and second best", "Best (bold) and second best (italic)", 1)
    note = "Reference rows saw the forget set `D_f` or the retain set `D_r` and are never ranked."
    tuning = [TUNING_NOTE] if any(table.is_tuned for table in found) else []
    return "\n\n".join([*parts, LEGEND, *tuning, marks, note, *notes]) + "\n"


def _markdown(cell: Cell) -> str:
    mark = {0: "", 1: "**", 2: "_"}[cell.rank]
    return f"{mark}{cell}{mark}" + (" ≈" if cell.is_noise else "")


def latex(summary: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    r"""The tables in LaTeX; needs ``\usepackage{booktabs}`` and nothing else.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
        notes: Further sentences of the captions, from ``sweeps.report.tables.notes``.
    """
    parts = []
    for table in tables_of(summary):
        # Equal panels as wide as a page allows, rather than a full one and a narrow rest.
        count = -(-len(COLUMNS) * len(table.sizes) // LATEX_COLUMNS)
        length = -(-len(COLUMNS) // count)
        measures = list(COLUMNS)
        for start in range(0, len(measures), length):
            panel = measures[start : start + length]
            parts.append(_latex_table(table, panel, notes if start == 0 else ()))
    return "\n\n".join([r"% needs \usepackage{booktabs}", *parts]) + "\n"


def _latex_table(table: Table, panel: Sequence[str], notes: Sequence[str]) -> str:
    marks = RANK_NOTE.replace("Best and second best", "Best (bold), second best (underlined)", 1)
    tuning = [TUNING_NOTE] if table.is_tuned else []
    caption = " ".join([f"{table.title}.", LEGEND, *tuning, marks, REFERENCE_NOTE, *notes])
    names = ["method", "data seen", *([TUNED_TITLE] if table.is_tuned else [])]
    spans, rules, column = [], [], len(names) + 1
    for size in table.sizes:
        last = column + len(panel)
        spans.append(rf"\multicolumn{{{len(panel) + 1}}}{{c}}{{{_identities(size)}}}")
        rules.append(rf"\cmidrule(lr){{{column}-{last}}}")
        column = last + 1
    titles = ["$n$", *(_escape(COLUMNS[m]) for m in panel)] * len(table.sizes)
    body = []
    for number, line in enumerate(table.lines):
        if table.rule_before(number):
            body.append(r"\midrule")
        body.append(" & ".join(_latex_texts(table, line, panel)) + r" \\")
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering\scriptsize\setlength{\tabcolsep}{2.5pt}",
            rf"\caption{{{_escape(caption)}}}",
            rf"\begin{{tabular}}{{{'l' * len(names)}{'r' * len(titles)}}}",
            r"\toprule",
            " & ".join([*[""] * len(names), *spans]) + r" \\ " + " ".join(rules),
            " & ".join([*names, *titles]) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
        ]
    )


def _latex_texts(table: Table, line: Line, panel: Sequence[str]) -> list[str]:
    """Cells of one row; spreads are set small, since many columns must fit on a page."""
    texts = [_escape(line.method), _escape(line.data_seen.replace("own preparation", "prep."))]
    texts += [_escape(line.tuning)] if table.is_tuned else []
    for size in table.sizes:
        texts.append(line.counts[size])
        for measure in panel:
            cell = line.cells[size, measure]
            text = re.sub(r"^([+-])(?=\d)", r"$\1$", cell.mean)
            text = {0: text, 1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}[cell.rank]
            if cell.spread and not measure.endswith("_seconds"):
                text += rf"{{\tiny$\pm${cell.spread}}}"
            texts.append(text + (r"$\approx$" if cell.is_noise else ""))
    return texts


def _escape(text: str) -> str:
    """LaTeX source that prints the text; the sets D_f and D_r become mathematics."""
    pieces = re.split(r"\b(D_[fr])\b", text)
    return "".join(
        f"${piece}$" if place % 2 else "".join(_LATEX.get(c, c) for c in piece)
        for place, piece in enumerate(pieces)
    )
