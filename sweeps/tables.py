"""Comparative tables: means and spreads over seeds, for the terminal, Markdown and LaTeX.

Frames hold fractions in [0, 1]; whatever is displayed is in percent, seconds excepted. Must not
import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from oneshui.spec import DATA_SEEN, Access

MEASURES = (
    "retain_score",
    "forget_score",
    "test_score",
    "val_score",
    "tow",
    "mia_auc",
    "mia_acc",
    "mia_threshold_auc",
    "rmia_auc",
    "rmia_tpr",
    "tow_normalised",
    "forget_gap",
    "unlearn_seconds",
    "prepare_seconds",
)
KEYS = ["dataset", "num_forget", "method"]
PLAIN_WIDTH = 100

COLUMNS: dict[str, str] = {
    "retain_score": "retain",
    "forget_score": "forget",
    "test_score": "test",
    "tow": "ToW",
    "mia_auc": "MIA AUC",
    "mia_acc": "MIA acc",
    "rmia_auc": "RMIA AUC",
    "unlearn_seconds": "unlearn s",
    "prepare_seconds": "prepare s",
}
"""Measures that the tables show, with their titles."""

_SHORT_TITLES = {"unlearn_seconds": "sec"}
SCORE_NAMES = {"multilabel": "mAP", "multiclass": "accuracy"}
_SHORT_SEEN = {Access.SUPPORT: "S", Access.PREPARED: "S+prep", Access.FULL: "Df,Dr"}

_TERMINAL_LEGEND = (
    "retain, forget, test: the score; all in percent, mean ± standard deviation of n seeds",
    "ToW 100: as retrained; MIA AUC 50: chance; MIA acc: forget images taken for non-members",
    "sees: S support set, S+prep also the method's own preparation, Df,Dr reference rows",
)
LEGEND = (
    "Retain, forget and test: the score. All in percent, seconds excepted; mean ± standard "
    "deviation over the n finished seeds of those planned. ToW 100: the scores of the retrained "
    "model. MIA AUC 50: the loss tells nothing about membership. MIA acc: share of forget images "
    "that the attack takes for non-members. RMIA AUC 50: comparing with retrained models tells "
    "nothing either. Data seen at deletion time: S is the support set, one picture per identity."
)
REFERENCE_NOTE = (
    "Rows under the rule saw the forget set D_f or the retain set D_r: references, never ranked."
)
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of a table, as text.

    Attributes:
        mean: "-" if there is none.
        spread: Standard deviation; empty with fewer than two seeds.
    """

    mean: str
    spread: str

    def __str__(self) -> str:
        return f"{self.mean} ± {self.spread}" if self.spread else self.mean


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a table.

    Attributes:
        method: How the sweep calls the row.
        access: What it saw when it unlearned.
        seeds: Finished and planned seeds, for example "1/2".
        cells: By measure.
    """

    method: str
    access: Access
    seeds: str
    cells: dict[str, Cell]

    @property
    def data_seen(self) -> str:
        """What it saw, in words."""
        return DATA_SEEN[self.access]

    @property
    def is_reference(self) -> bool:
        """Whether the row saw more than a one-shot method may."""
        return self.access is Access.FULL


@dataclass(frozen=True, kw_only=True)
class Block:
    """The table of one dataset and forget size; one-shot rows come first.

    Attributes:
        dataset: Name of the dataset.
        num_forget: Identities in the request.
        task: "multilabel" or "multiclass"; empty while nothing is measured.
        lines: One per method.
    """

    dataset: str
    num_forget: int
    task: str
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """Dataset, forget size and what the score is, in words."""
        name = SCORE_NAMES.get(self.task)
        return request_title(self.dataset, self.num_forget) + (f", score: {name}" if name else "")

    def rule_before(self, number: int) -> bool:
        """Whether the reference rows begin with this line, after others."""
        lines = self.lines
        return number > 0 and lines[number].is_reference and not lines[number - 1].is_reference


def request_title(dataset: str, num_forget: int) -> str:
    """Dataset and forget size in words."""
    return f"{dataset}, {num_forget} forget {'identity' if num_forget == 1 else 'identities'}"


def is_retrained_again(method: str) -> bool:
    """Whether a row is retraining with another seed: its distance to retraining is noise."""
    return method.startswith("retrain") and method != "retrain"


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Means and spreads over the seeds.

    Args:
        frame: From ``sweeps.results.results_frame``.

    Returns:
        One row per dataset, forget size and method: within each dataset and forget size the
        one-shot rows in the order of the plan, then those with full access. Columns dataset,
        num_forget, method, access, data_seen, task, n (finished seeds), seeds (planned) and
        ``<measure>_mean``, ``<measure>_std`` of ``MEASURES``: fractions in [0, 1] and seconds; the
        spread has ddof 1 and is null with fewer than two values.
    """
    groups = frame.groupby(KEYS, sort=False)
    parts = {
        "access": groups["access"].first(),
        "task": groups["task"].first(),
        "n": groups["retain_score"].count(),
        "seeds": groups.size(),
    }
    for measure in MEASURES:
        parts[f"{measure}_mean"] = groups[measure].mean()
        parts[f"{measure}_std"] = groups[measure].std(ddof=1)
    table = pd.DataFrame(parts).reset_index()
    table.insert(4, "data_seen", table["access"].map(lambda access: DATA_SEEN[Access(access)]))
    place = {
        key: i
        for i, key in enumerate(
            dict.fromkeys(zip(table["dataset"], table["num_forget"], strict=True))
        )
    }
    order = pd.DataFrame(
        {
            "block": [
                place[key] for key in zip(table["dataset"], table["num_forget"], strict=True)
            ],
            "reference": table["access"] == Access.FULL,
        }
    ).sort_values(["block", "reference"], kind="stable")
    return table.loc[order.index].reset_index(drop=True)


def blocks(summary: pd.DataFrame) -> list[Block]:
    """The summary as text, one block per dataset and forget size.

    Args:
        summary: From ``summarise``.
    """
    return [
        Block(
            dataset=str(part["dataset"].iloc[0]),
            num_forget=int(part["num_forget"].iloc[0]),
            task=str(next(iter(part["task"].dropna()), "")),
            lines=tuple(_line(row) for row in part.to_dict("records")),
        )
        for _, part in summary.groupby(["dataset", "num_forget"], sort=False)
    ]


def _line(row: Mapping[Hashable, Any]) -> Line:
    return Line(
        method=str(row["method"]),
        access=Access(str(row["access"])),
        seeds=f"{row['n']}/{row['seeds']}",
        cells={m: _cell(m, row[f"{m}_mean"], row[f"{m}_std"]) for m in COLUMNS},
    )


def _cell(measure: str, mean: float, spread: float) -> Cell:
    if math.isnan(mean):
        return Cell(mean="-", spread="")
    scale, digits = 100.0, 1
    if measure.endswith("_seconds"):
        scale, digits = 1.0, 2 if mean < 10 else 1 if mean < 100 else 0
    return Cell(
        mean=f"{scale * mean:.{digits}f}",
        spread="" if math.isnan(spread) else f"{scale * spread:.{digits}f}",
    )


def terminal(summary: pd.DataFrame, console: Console) -> None:
    """Print one table per dataset and forget size.

    Where the console is a terminal, the tables use its width; in a log they need 100 columns.

    Args:
        summary: From ``summarise``.
        console: Where to print.
    """
    width = console.width if console.is_terminal else PLAIN_WIDTH
    for block in blocks(summary):
        console.print()
        for text in _terminal_block(block, width):
            console.print(text, soft_wrap=True, highlight=False)
    console.print()
    for line in _TERMINAL_LEGEND:
        console.print(Text(line, style="dim"), soft_wrap=True, highlight=False)


def _terminal_block(block: Block, width: int) -> list[Text]:
    """The table's lines: as airy as the width allows, names on lines of their own if need be."""
    measures = [m for m in COLUMNS if m not in ("prepare_seconds", "rmia_auc")]
    titles = ["method", "sees", "n", *(_SHORT_TITLES.get(m, COLUMNS[m]) for m in measures)]
    for pm, gap, is_stacked in (
        (" ± ", 2, False),
        ("±", 2, False),
        ("±", 1, False),
        ("±", 1, True),
    ):
        columns = [
            [" " if is_stacked else line.method for line in block.lines],
            [_SHORT_SEEN[line.access] for line in block.lines],
            [line.seeds for line in block.lines],
            *(_aligned([line.cells[m] for line in block.lines], pm, m) for m in measures),
        ]
        titles[0] = " " if is_stacked else "method"
        widths = [max(len(t), *map(len, c)) for t, c in zip(titles, columns, strict=True)]
        total = sum(widths) + gap * (len(widths) - 1)
        if total <= width:
            break
    justify = [str.ljust] * 3 + [str.rjust] * len(measures)

    def join(values: list[str]) -> str:
        parts = (j(v, w) for j, v, w in zip(justify, values, widths, strict=True))
        return (" " * gap).join(parts).rstrip()

    texts = [Text(block.title), Text(join(titles), style="bold"), Text("─" * total)]
    for number, line in enumerate(block.lines):
        if block.rule_before(number):
            texts.append(Text("─" * total, style="dim"))
        style = "dim" if line.is_reference else ""
        if is_stacked:
            texts.append(Text(line.method, style=style))
        texts.append(Text(join([column[number] for column in columns]), style=style))
    return texts


def _aligned(cells: list[Cell], pm: str, measure: str) -> list[str]:
    """Cells of one column, their ± under each other.

    To save room, seconds have no spread, and spreads of ten points and more no decimals.
    """
    if measure.endswith("_seconds"):
        return [cell.mean for cell in cells]
    spreads = [f"{float(c.spread):.0f}" if len(c.spread) > 3 else c.spread for c in cells]
    room = max(map(len, spreads))
    tails = [f"{pm}{spread:>{room}}" if spread else "" for spread in spreads]
    longest = max(map(len, tails))
    return [cell.mean + tail.ljust(longest) for cell, tail in zip(cells, tails, strict=True)]


def _texts(line: Line) -> list[str]:
    return [line.method, line.data_seen, line.seeds, *(str(line.cells[m]) for m in COLUMNS)]


def markdown(summary: pd.DataFrame) -> str:
    """The tables in Markdown.

    Args:
        summary: From ``summarise``.
    """
    parts = []
    for block in blocks(summary):
        lines = [
            f"### {block.title}",
            "",
            "| " + " | ".join(["method", "data seen", "n", *COLUMNS.values()]) + " |",
            "|" + " --- |" * 2 + " ---: |" * (1 + len(COLUMNS)),
        ]
        for line in block.lines:
            method, *others = _texts(line)
            name = f"`{method}`" + (" (reference)" if line.is_reference else "")
            lines.append("| " + " | ".join([name, *others]) + " |")
        parts.append("\n".join(lines))
    note = "Reference rows saw the forget set `D_f` or the retain set `D_r` and are never ranked."
    return "\n\n".join([*parts, LEGEND, note]) + "\n"


def latex(summary: pd.DataFrame) -> str:
    r"""The tables in LaTeX; needs ``\usepackage{booktabs}`` and nothing else.

    Args:
        summary: From ``summarise``.
    """
    heads = [
        "method",
        "data seen",
        "$n$",
        *COLUMNS.values(),
    ]
    parts = []
    for block in blocks(summary):
        body = []
        for number, line in enumerate(block.lines):
            if block.rule_before(number):
                body.append(r"\midrule")
            body.append(" & ".join(_latex_texts(line)) + r" \\")
        parts.append(
            "\n".join(
                [
                    r"\begin{table*}",
                    r"\centering\scriptsize\setlength{\tabcolsep}{2.5pt}",
                    rf"\caption{{{_escape(block.title + '. ' + LEGEND + ' ' + REFERENCE_NOTE)}}}",
                    rf"\begin{{tabular}}{{llr{'r' * len(COLUMNS)}}}",
                    r"\toprule",
                    " & ".join(heads) + r" \\",
                    r"\midrule",
                    *body,
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table*}",
                ]
            )
        )
    return "\n\n".join([r"% needs \usepackage{booktabs}", *parts]) + "\n"


def _latex_texts(line: Line) -> list[str]:
    """Cells of one row; spreads are set small, since ten columns must fit on a page."""
    texts = [line.method, line.data_seen.replace("own preparation", "prep."), line.seeds]
    numbers = []
    for measure, cell in line.cells.items():
        shown = cell.spread and not measure.endswith("_seconds")
        numbers.append(cell.mean + (rf"{{\tiny$\pm${cell.spread}}}" if shown else ""))
    return [*map(_escape, texts), *numbers]


def _escape(text: str) -> str:
    """LaTeX source that prints the text; the sets D_f and D_r become mathematics."""
    pieces = re.split(r"\b(D_[fr])\b", text)
    return "".join(
        f"${piece}$" if place % 2 else "".join(_LATEX.get(c, c) for c in piece)
        for place, piece in enumerate(pieces)
    )
