"""Figures of a sweep: forgetting against utility, ToW and loss MIA, as PNG and PDF.

Frames hold fractions in [0, 1]; axes are in percent. Must not import torch, Ray or MLflow;
matplotlib is imported when something is drawn, and without its global state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from oneshui.spec import Access
from sweeps.tables import SCORE_NAMES, is_retrained_again, request_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442")
"""Okabe and Ito's palette, distinguishable with every common form of colour blindness."""
_MARKERS = "oDs^vP<>"
_RETRAIN_COLOUR = "#4d4d4d"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "figure.titlesize": 10.5,
    "figure.titleweight": "bold",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "text.parse_math": False,
}


@dataclass(frozen=True, kw_only=True)
class _Look:
    colour: str
    marker: str
    size: float = 55


def draw(frame: pd.DataFrame, summary: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw what can be drawn of the finished rows.

    Args:
        frame: From ``sweeps.results.results_frame``.
        summary: From ``sweeps.tables.summarise``.
        folder: Where to write; it is made if need be.

    Returns:
        The files, a PNG followed by its PDF, grouped by dataset and forget size:
        ``<kind>-<dataset>-n<forget size>`` of the kinds ``forgetting_utility``, ``tow`` and
        ``loss_mia``. Nothing for a dataset and forget size without finished rows.
    """
    import matplotlib as mpl

    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, Callable[[pd.DataFrame, list[str], str], Figure]] = {
        "forgetting_utility": _forgetting_utility,
        "tow": _tow,
        "loss_mia": _loss_mia,
    }
    paths: list[Path] = []
    for (dataset, num_forget), part in summary.groupby(["dataset", "num_forget"], sort=False):
        rows = frame[(frame["dataset"] == dataset) & (frame["num_forget"] == num_forget)]
        rows = rows[rows["tow"].notna()]
        methods = [m for m in part["method"] if m in set(rows["method"])]
        if not methods:
            continue
        title = request_title(str(dataset), int(str(num_forget)))
        stem = re.sub(r"[^A-Za-z0-9_.]", "_", str(dataset))
        for kind, make in kinds.items():
            with mpl.rc_context(_STYLE):
                figure = make(rows, methods, title)
                for suffix in ("png", "pdf"):
                    path = folder / f"{kind}-{stem}-n{num_forget}.{suffix}"
                    figure.savefig(path, dpi=DPI, facecolor="white", metadata=_metadata(suffix))
                    paths.append(path)
    return paths


def _metadata(suffix: str) -> dict[str, Any]:
    """Without date and version, equal results give equal files."""
    return {"CreationDate": None} if suffix == "pdf" else {"Software": None}


def _looks(methods: Iterable[str]) -> dict[str, _Look]:
    looks = {}
    for method in methods:
        if method == "pretrain":
            looks[method] = _Look(colour="black", marker="X", size=75)
        elif method.startswith("retrain"):
            marker = "*" if method == "retrain" else "p"
            looks[method] = _Look(colour=_RETRAIN_COLOUR, marker=marker, size=130)
        else:
            place = sum(not m.startswith(("pretrain", "retrain")) for m in looks)
            looks[method] = _Look(
                colour=_COLOURS[place % len(_COLOURS)], marker=_MARKERS[place % len(_MARKERS)]
            )
    return looks


def _percent(rows: pd.DataFrame, method: str, measure: str) -> pd.Series[float]:
    return 100 * rows.loc[rows["method"] == method, measure]


def _forgetting_utility(rows: pd.DataFrame, methods: list[str], title: str) -> Figure:
    from matplotlib.figure import Figure

    # The legend stands beside the plot, one line a method, and is cut where it does not fit.
    height = max(4.4, 0.6 + 0.27 * (len(methods) + 1))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color="#e6e6e6", linewidth=0.8)
    for method, look in _looks(methods).items():
        x, y = _percent(rows, method, "forget_score"), _percent(rows, method, "test_score")
        if method.startswith("retrain"):
            axes.scatter(x, y, s=1100, color=_RETRAIN_COLOUR, alpha=0.13, linewidths=0)
        axes.scatter(
            x,
            y,
            s=look.size,
            color=look.colour,
            marker=look.marker,
            edgecolors="white" if look.colour != "#F0E442" else "black",
            linewidths=0.7,
            label=method,
            zorder=3,
        )
    axes.margins(0.08)
    score = SCORE_NAMES.get(str(rows["task"].iloc[0]), "score")
    axes.set_xlabel(f"{score} on the forget set (%)")
    axes.set_ylabel(f"{score} on the test set (%)")
    _title(figure, f"Forgetting against utility: {title}")
    axes.scatter([], [], s=220, color=_RETRAIN_COLOUR, alpha=0.2, label="cloud of retrained models")
    figure.legend(loc="outside right center", labelspacing=0.9)
    return figure


def _tow(rows: pd.DataFrame, methods: list[str], title: str) -> Figure:
    shown = [method for method in methods if method != "retrain"]
    figure, axes = _rows_figure(rows, shown or methods, "tow", f"Tug of war (ToW): {title}")
    if "pretrain" in methods:
        level = _percent(rows, "pretrain", "tow").mean()
        axes.axvline(level, color="black", linestyle="--", linewidth=1, zorder=1)
        axes.plot([], [], color="black", linestyle="--", linewidth=1, label="doing nothing")
    floors = [
        _percent(rows, method, "tow").mean() for method in methods if is_retrained_again(method)
    ]
    if floors:
        axes.axvspan(
            min(floors),
            100,
            color=_RETRAIN_COLOUR,
            alpha=0.15,
            linewidth=0,
            label="noise floor: retrained again",
        )
    axes.set_xlim(right=100.5)
    axes.set_xlabel("ToW (%), 100: the scores of the retrained model")
    _legend(figure, axes)
    return figure


def _loss_mia(rows: pd.DataFrame, methods: list[str], title: str) -> Figure:
    figure, axes = _rows_figure(
        rows, methods, "mia_auc", f"Membership inference from the loss: {title}"
    )
    axes.axvline(50, color="black", linestyle=":", linewidth=1.2, zorder=1, label="chance: AUC 0.5")
    axes.set_xlim(min(axes.get_xlim()[0], 45), 101)
    axes.set_xlabel("AUC of the attack (%), forget against test images")
    _legend(figure, axes)
    return figure


def _title(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left")


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower right", ncols=len(handles))


def _rows_figure(
    rows: pd.DataFrame, methods: list[str], measure: str, title: str
) -> tuple[Figure, Axes]:
    """One line per method: the seeds as points, their mean as a bar and as a number."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.6 + 0.36 * len(methods)), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    looks = _looks(methods)
    for y, method in enumerate(methods):
        values, look = _percent(rows, method, measure), looks[method]
        axes.scatter(
            values,
            [y] * len(values),
            s=look.size * 0.8,
            color=look.colour,
            marker=look.marker,
            edgecolors="white",
            linewidths=0.7,
            zorder=3,
        )
        axes.plot([values.mean()] * 2, [y - 0.3, y + 0.3], color=look.colour, linewidth=2, zorder=2)
        axes.annotate(
            f"{values.mean():.1f}",
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            color="#333333",
        )
    access = rows.drop_duplicates("method").set_index("method")["access"]
    first = next((y for y, m in enumerate(methods) if access[m] == Access.FULL), 0)
    if first:
        axes.axhline(first - 0.5, color="#999999", linewidth=0.8)
    axes.set_yticks(range(len(methods)), methods)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    _title(figure, title)
    return figure, axes
