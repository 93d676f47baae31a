"""Figures of scores: forgetting against utility, ToW, the loss attack, forget sizes, ablations.

Frames hold fractions in [0, 1]; axes are in percent. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from oneshui.spec import Access, Role
from sweeps.inference.retrained import level_of
from sweeps.report.figures.style import (
    RETRAIN_COLOUR,
    Drawing,
    Material,
    legend_below,
    looks_of,
    percent,
    roles_of,
    set_title,
)
from sweeps.report.tables import SCORE_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def forgetting_utility(material: Material) -> Iterator[Drawing]:
    """Forget score against test score, by dataset and forget size."""
    for block in material.blocks():
        make = partial(_forgetting_utility, block.rows, block.methods, block.title)
        yield Drawing(name=block.stem, make=make)


def tow(material: Material) -> Iterator[Drawing]:
    """ToW of every row, by dataset and forget size."""
    for block in material.blocks():
        make = partial(_tow, block.rows, block.methods, block.title, material.margin)
        yield Drawing(name=block.stem, make=make)


def loss_mia(material: Material) -> Iterator[Drawing]:
    """The loss attack's AUC, by dataset and forget size."""
    for block in material.blocks():
        make = partial(_loss_mia, block.rows, block.methods, block.title)
        yield Drawing(name=block.stem, make=make)


def tow_by_size(material: Material) -> Iterator[Drawing]:
    """ToW against the forget-set size, for datasets with at least two of them."""
    finished = material.summary[material.summary["n"] > 0]
    for dataset, rows in finished.groupby("dataset", sort=False):
        if rows["num_forget"].nunique() >= 2:
            yield Drawing(
                name=material.stem(str(dataset)), make=partial(_tow_by_size, rows, str(dataset))
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
                make = partial(_ablation, block.rows, known, f"{method}, {block.title}")
                yield Drawing(name=f"{block.stem}-{method}", make=make)


def _forgetting_utility(rows: pd.DataFrame, methods: Mapping[str, Role], title: str) -> Figure:
    from matplotlib.figure import Figure

    # The legend stands beside the plot, one line a method, and is cut where it does not fit.
    height = max(4.4, 0.6 + 0.27 * (len(methods) + 1))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color="#e6e6e6", linewidth=0.8)
    for method, look in looks_of(methods).items():
        x, y = percent(rows, method, "forget_score"), percent(rows, method, "test_score")
        if methods[method].is_retrained:
            axes.scatter(x, y, s=1100, color=RETRAIN_COLOUR, alpha=0.13, linewidths=0)
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
    set_title(figure, f"Forgetting against utility: {title}")
    axes.scatter([], [], s=220, color=RETRAIN_COLOUR, alpha=0.2, label="cloud of retrained models")
    figure.legend(loc="outside right center", labelspacing=0.9)
    return figure


def _tow(rows: pd.DataFrame, methods: Mapping[str, Role], title: str, margin: float) -> Figure:
    shown = {name: role for name, role in methods.items() if role is not Role.RETRAIN}
    figure, axes = _rows_figure(rows, shown or methods, "tow", f"Tug of war (ToW): {title}")
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
    axes.set_xlabel("ToW (%), 100: the scores of the retrained model")
    legend_below(figure, axes)
    return figure


def _loss_mia(rows: pd.DataFrame, methods: Mapping[str, Role], title: str) -> Figure:
    figure, axes = _rows_figure(
        rows, methods, "mia_auc", f"Membership inference from the loss: {title}"
    )
    axes.axvline(50, color="black", linestyle=":", linewidth=1.2, zorder=1, label="chance: AUC 0.5")
    axes.set_xlim(min(axes.get_xlim()[0], 45), 101)
    axes.set_xlabel("AUC of the attack (%), forget against test images")
    legend_below(figure, axes)
    return figure


def _tow_by_size(rows: pd.DataFrame, dataset: str) -> Figure:
    from matplotlib.figure import Figure

    methods = roles_of(rows[rows["role"] != Role.RETRAIN])
    height = max(4.2, 0.6 + 0.27 * (len(methods) + 1))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color="#e6e6e6", linewidth=0.8)
    sizes = sorted(rows["num_forget"].unique())
    places = {size: place for place, size in enumerate(sizes)}
    looks = looks_of(methods)
    for number, method in enumerate(methods):
        own = rows[rows["method"] == method].sort_values("num_forget")
        # A little to the side of each other, so that error bars at one size can be told apart.
        shift = 0.3 * (number / max(len(methods) - 1, 1) - 0.5)
        axes.errorbar(
            [places[size] + shift for size in own["num_forget"]],
            100 * own["tow_mean"],
            yerr=100 * own["tow_std"].fillna(0),
            color=looks[method].colour,
            marker=looks[method].marker,
            markersize=6,
            linewidth=1.2,
            linestyle="--" if methods[method] is Role.PRETRAIN else "-",
            elinewidth=0.8,
            label=method,
        )
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel("identities in the forget request")
    axes.set_ylabel("ToW (%), mean ± standard deviation")
    set_title(figure, f"ToW by forget-set size: {dataset}")
    figure.legend(loc="outside right center")
    return figure


def _ablation(rows: pd.DataFrame, methods: Mapping[str, Role], title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.9 + 0.36 * len(methods)), layout="constrained")
    panels = (("tow", "ToW (%)"), ("forget_gap", "forget minus retrain (points)"))
    looks = looks_of(methods)
    for axes, (measure, label) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
        means = [percent(rows, method, measure).mean() for method in methods]
        spreads = [percent(rows, method, measure).std() for method in methods]
        axes.barh(
            range(len(methods)),
            means,
            xerr=np.nan_to_num(spreads),
            color=[looks[method].colour for method in methods],
            edgecolor="#333333",
            linewidth=0.6,
            height=0.62,
            error_kw={"elinewidth": 0.9, "ecolor": "#333333"},
        )
        for y, method in enumerate(methods):
            axes.scatter(
                percent(rows, method, measure),
                [y] * len(percent(rows, method, measure)),
                s=14,
                color="white",
                edgecolors="black",
                linewidths=0.7,
                zorder=3,
            )
        if measure == "tow":
            known = rows[rows["method"].isin(methods)]["tow"]
            axes.set_xlim(left=max(0, 100 * known.min() - 10))
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel(label)
    axes.set_yticks(range(len(methods)), list(methods))
    axes.set_ylim(len(methods) - 0.5, -0.5)
    set_title(figure, f"Variants of {title}")
    return figure


def _rows_figure(
    rows: pd.DataFrame, methods: Mapping[str, Role], measure: str, title: str
) -> tuple[Figure, Axes]:
    """One line per method: the seeds as points, their mean as a bar and as a number."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.6 + 0.36 * len(methods)), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    looks = looks_of(methods)
    for y, method in enumerate(methods):
        values, look = percent(rows, method, measure), looks[method]
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
    axes.set_yticks(range(len(methods)), list(methods))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    set_title(figure, title)
    return figure, axes
