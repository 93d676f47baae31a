"""Figures of scores: forgetting against utility, ToW, the loss attack, forget sizes, ablations.

Frames hold fractions in [0, 1]; axes are in percent. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from oneshui.spec import Access, Role
from sweeps.inference.retrained import YARDSTICKS, level_of
from sweeps.report.figures.style import (
    LABEL_GAP,
    RETRAIN_COLOUR,
    Block,
    Drawing,
    Look,
    Material,
    label_beside,
    legend_below,
    percent,
    range_of_rows,
    roles_of,
    set_title,
)
from sweeps.report.tables import SCORE_NAMES, anchor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def forgetting_utility(material: Material) -> Iterator[Drawing]:
    """Forget score against test score, by dataset and forget size."""
    for block in material.blocks():
        make = partial(_forgetting_utility, block, material.looks)
        yield Drawing(name=block.stem, make=make)


def tow(material: Material) -> Iterator[Drawing]:
    """ToW of every row, by dataset and forget size."""
    for block in material.blocks():
        make = partial(_tow, block, material.looks, material.margin)
        yield Drawing(name=block.stem, make=make)


def loss_mia(material: Material) -> Iterator[Drawing]:
    """The loss attack's AUC, by dataset and forget size."""
    for block in material.blocks():
        make = partial(_loss_mia, block, material.looks)
        yield Drawing(name=block.stem, make=make)


def tow_by_size(material: Material) -> Iterator[Drawing]:
    """ToW against the forget-set size, for datasets with at least two of them."""
    finished = material.summary[material.summary["n"] > 0]
    for dataset, rows in finished.groupby("dataset", sort=False):
        if rows["num_forget"].nunique() >= 2:
            yield Drawing(
                name=anchor(str(dataset)),
                make=partial(_tow_by_size, rows, str(dataset), material.looks),
            )


def ablation(material: Material) -> Iterator[Drawing]:
    """Variants of one method beside each other, wherever a sweep has several rows of it."""
    variants: dict[str, list[str]] = {}
    for row in material.plan.results:
        names = variants.setdefault(row.row.method, [])
        if row.row.role is Role.METHOD and row.row.name not in names:
            names.append(row.row.name)
    for block in material.blocks():
        for method, names in variants.items():
            known = {name: Role.METHOD for name in names if name in block.methods}
            if len(known) >= 2:
                title = f"{method}, {block.title}"
                make = partial(_ablation, block.rows, known, material.looks, title)
                yield Drawing(name=f"{block.stem}-{method}", make=make)


def _forgetting_utility(block: Block, looks: Mapping[str, Look]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    rows, methods = block.rows, block.methods
    height = max(4.4, 0.9 + LABEL_GAP * len(methods))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color="#e6e6e6", linewidth=0.8)
    for measure, limit in (("forget_score", axes.set_xlim), ("test_score", axes.set_ylim)):
        ends = range_of_rows(rows, methods, measure)
        if ends is not None:
            limit(*ends)
    retrained = rows[rows["role"].isin(YARDSTICKS)]
    x, y = (100 * retrained[name].dropna() for name in ("forget_score", "test_score"))
    if len(x) > 1:
        corner, size = (x.min(), y.min()), (np.ptp(x), np.ptp(y))
        axes.add_patch(Rectangle(corner, *size, color=RETRAIN_COLOUR, alpha=0.13, linewidth=0))
    places = {}
    for method in methods:
        look = looks[method]
        x, y = percent(rows, method, "forget_score"), percent(rows, method, "test_score")
        order = 4 if look.is_own else 3
        shape: Any = {"color": look.colour, "marker": look.marker}
        axes.scatter(x, y, s=0.25 * look.size, alpha=0.55, linewidths=0, zorder=order - 1, **shape)
        centre = (float(x.mean()), float(y.mean()))
        area = 1.3 * look.size
        axes.scatter(*centre, s=area, edgecolors="white", linewidths=0.8, zorder=order, **shape)
        places[method] = centre
    score = SCORE_NAMES.get(str(rows["task"].iloc[0]), "score")
    axes.set_xlabel(f"{score} on the forget set (%)")
    axes.set_ylabel(f"{score} on the test set (%)")
    set_title(figure, f"Forgetting against utility: {block.title}")
    label_beside(axes, places, looks, height - 0.9)
    return figure


def _tow(block: Block, looks: Mapping[str, Look], margin: float) -> Figure:
    rows, methods = block.rows, block.methods
    shown = {name: role for name, role in methods.items() if role is not Role.RETRAIN} or methods
    figure, axes = _rows_figure(rows, shown, looks, "tow", f"Tug of war (ToW): {block.title}")
    nothing = rows.loc[rows["role"] == Role.PRETRAIN, "tow"]
    if len(nothing):
        axes.axvline(100 * nothing.mean(), color="black", linestyle="--", linewidth=1, zorder=1)
        axes.plot([], [], color="black", linestyle="--", linewidth=1, label="doing nothing")
    level = level_of(rows)
    if level is not None:
        axes.axvspan(
            100 * (level.tow - margin),
            min(100.0, 100 * (level.tow + margin)),
            color=RETRAIN_COLOUR,
            alpha=0.15,
            linewidth=0,
            label=f"as near as retraining again (within {100 * margin:g})",
        )
    axes.set_xlim(right=100.5)
    axes.set_xlabel(f"ToW (%), 100: the scores of the retrained model; {_begins(axes)}")
    legend_below(figure, axes)
    return figure


def _loss_mia(block: Block, looks: Mapping[str, Look]) -> Figure:
    title = f"Membership inference from the loss: {block.title}"
    figure, axes = _rows_figure(block.rows, block.methods, looks, "mia_auc", title, (45, 55))
    axes.axvline(50, color="black", linestyle=":", linewidth=1.2, zorder=1, label="guessing: 50")
    axes.set_xlim(right=min(100.5, axes.get_xlim()[1]))
    axes.set_xlabel(f"AUC of the attack (%), forget against test images; {_begins(axes)}")
    legend_below(figure, axes)
    return figure


def _begins(axes: Axes) -> str:
    """Where the axis begins, which people take for 0."""
    return f"the axis begins at {axes.get_xlim()[0]:.0f}"


def _tow_by_size(rows: pd.DataFrame, dataset: str, looks: Mapping[str, Look]) -> Figure:
    from matplotlib.figure import Figure

    methods = roles_of(rows[rows["role"] != Role.RETRAIN])
    height = max(4.2, 0.9 + LABEL_GAP * len(methods))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color="#e6e6e6", linewidth=0.8)
    sizes = sorted(rows["num_forget"].unique())
    places = {size: place for place, size in enumerate(sizes)}
    ends = {}
    for number, method in enumerate(methods):
        own = rows[rows["method"] == method].sort_values("num_forget")
        # A little to the side of each other, so that error bars at one size can be told apart.
        shift = 0.3 * (number / max(len(methods) - 1, 1) - 0.5)
        x = [places[size] + shift for size in own["num_forget"]]
        axes.errorbar(
            x,
            100 * own["tow_mean"],
            yerr=100 * own["tow_std"].fillna(0),
            color=looks[method].colour,
            marker=looks[method].marker,
            markersize=6,
            linewidth=1.4 if looks[method].is_own else 0.9,
            linestyle="--" if methods[method] is Role.PRETRAIN else "-",
            elinewidth=0.8,
            zorder=4 if looks[method].is_own else 3,
        )
        ends[method] = (x[-1], 100 * float(own["tow_mean"].iloc[-1]))
    shown = rows.rename(columns={"tow_mean": "tow"})
    limits = range_of_rows(shown, methods, "tow")
    if limits is not None:
        axes.set_ylim(*limits)
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel("identities in the forget request")
    axes.set_ylabel("ToW (%), mean ± standard deviation")
    set_title(figure, f"ToW by forget-set size: {dataset}")
    label_beside(axes, ends, looks, height - 0.9)
    return figure


def _ablation(
    rows: pd.DataFrame, methods: Mapping[str, Role], looks: Mapping[str, Look], title: str
) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.9 + 0.36 * len(methods)), layout="constrained")
    panels = (("tow", "ToW (%)"), ("forget_gap", "forget minus retrain (points)"))
    for axes, (measure, label) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        _seeds_and_means(axes, rows, methods, looks, measure)
        if measure == "tow":
            label = f"{label}; {_begins(axes)}"
        else:
            axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel(label)
    set_title(figure, f"Variants of {title}")
    return figure


def _rows_figure(
    rows: pd.DataFrame,
    methods: Mapping[str, Role],
    looks: Mapping[str, Look],
    measure: str,
    title: str,
    always: Sequence[float] = (),
) -> tuple[Figure, Axes]:
    """One line per method: the seeds as points, their mean as a bar and as a number."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.6 + 0.3 * len(methods)), layout="constrained")
    axes = figure.add_subplot()
    _seeds_and_means(axes, rows, methods, looks, measure, always)
    access = rows.drop_duplicates("method").set_index("method")["access"]
    first = next((y for y, m in enumerate(methods) if access[m] == Access.FULL), 0)
    if first:
        axes.axhline(first - 0.5, color="#999999", linewidth=0.8)
    set_title(figure, title)
    return figure, axes


def _seeds_and_means(
    axes: Axes,
    rows: pd.DataFrame,
    methods: Mapping[str, Role],
    looks: Mapping[str, Look],
    measure: str,
    always: Sequence[float] = (),
) -> None:
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    ends = range_of_rows(rows, methods, measure, always)
    if ends is not None:
        axes.set_xlim(*ends)
    for y, method in enumerate(methods):
        values, look = percent(rows, method, measure).dropna(), looks[method]
        if values.empty:
            continue
        axes.scatter(
            values,
            [y] * len(values),
            s=look.size * 0.7,
            color=look.colour,
            marker=look.marker,
            edgecolors="white",
            linewidths=0.7,
            zorder=3,
        )
        mean = values.mean()
        axes.plot([mean] * 2, [y - 0.3, y + 0.3], color=look.colour, linewidth=2, zorder=2)
        low, high = axes.get_xlim()
        if not low <= mean <= high:
            # The row does not set the scale; an arrow at its end says which way it is.
            axes.scatter(
                min(max(mean, low), high),
                y,
                marker="<" if mean < low else ">",
                color=look.colour,
                clip_on=False,
                zorder=4,
            )
        axes.annotate(
            f"{mean:.1f}",
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8.5,
            fontweight="bold" if look.is_own else "normal",
            color="#333333",
        )
    axes.set_yticks(range(len(methods)), list(methods))
    for label in axes.get_yticklabels():
        look = looks[label.get_text()]
        label.set_color("#1b1f24" if look.is_own else "#5f676f")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(methods) - 0.5, -0.5)
