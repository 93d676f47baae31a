"""The likelihood audit's ROC curves with their bands, and what was memorised against what went.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from oneshui.spec import Role
from sweeps.report.audits.likelihood import Audits, audits, curves_frame, people_frame
from sweeps.report.figures.style import SMALL, Drawing, Look, Material, roles_of, set_title
from sweeps.report.scale import shown_range
from sweeps.report.tables import anchor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_BESIDE = 4
PANEL = (2.3, 2.2)
"""Inches of one row's axes."""
NOTHING_COLOUR = "#000000"


def likelihood_roc(material: Material) -> Iterator[Drawing]:
    """The privacy attack's curve on every row with its band, a figure for every dataset."""
    for dataset, table in _by_dataset(material, curves_frame):
        own = table[table["attack"] == "privacy"]
        curves = {
            str(method): part.groupby("fpr", as_index=False)[["tpr", "low", "high"]].mean()
            for method, part in own.groupby("method", sort=False)
        }
        curves = {method: curve for method, curve in curves.items() if len(curve)}
        if curves:
            make = partial(_curves, curves, _nothing(material), material.looks, dataset)
            yield Drawing(name=anchor(dataset), make=make)


def memorisation(material: Material) -> Iterator[Drawing]:
    """How much less of each person is known after unlearning, against how much was memorised."""
    for dataset, table in _by_dataset(material, people_frame):
        known = table.dropna(subset=["memorisation", "forgetting"])
        points = {
            str(method): part.groupby("identity", as_index=False)[
                ["memorisation", "forgetting"]
            ].mean()
            for method, part in known.groupby("method", sort=False)
        }
        if points:
            yield Drawing(
                name=anchor(dataset), make=partial(_points, points, material.looks, dataset)
            )


def _by_dataset(
    material: Material, table_of: Callable[[Audits], pd.DataFrame]
) -> Iterator[tuple[str, pd.DataFrame]]:
    found = audits(material.plan, material.entries)
    for dataset, part in table_of(found).groupby("dataset", sort=False) if found else ():
        yield str(dataset), part


def _nothing(material: Material) -> str:
    """Name of the row that does nothing; empty without one."""
    roles = roles_of(material.summary)
    return next((name for name, role in roles.items() if role is Role.PRETRAIN), "")


def _grid(num: int) -> tuple[Figure, list[Axes]]:
    """Panels beside each other, those that are not needed left out."""
    from matplotlib.figure import Figure

    # Of three and four, what leaves fewer places empty.
    beside = num if num <= PANELS_BESIDE else min(PANELS_BESIDE, 3, key=lambda it: -num % it)
    lines = math.ceil(num / beside)
    size = (max(PANEL[0] * beside, 5.0), PANEL[1] * lines + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, beside, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    for axes in panels[num:]:
        axes.set_visible(False)
    for axes in panels[max(0, num - beside) : num]:
        # Nobody is below, or nobody who is shown.
        axes.tick_params(labelbottom=True)
    return figure, panels[:num]


def _curves(
    curves: Mapping[str, pd.DataFrame], nothing: str, looks: Mapping[str, Look], dataset: str
) -> Figure:
    figure, panels = _grid(len(curves))
    floor = min(float(curve["fpr"].min()) for curve in curves.values())
    lowest = min(float(curve.loc[curve["tpr"] > 0, "tpr"].min()) for curve in curves.values())
    bottom = min(floor, lowest) / 1.5
    for axes, (method, curve) in zip(panels, curves.items(), strict=True):
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.plot([bottom, 1], [bottom, 1], color="#777777", linestyle=":", linewidth=1.0)
        if nothing in curves and method != nothing:
            shown = curves[nothing]
            axes.step(
                shown["fpr"],
                shown["tpr"].clip(lower=bottom),
                where="post",
                color=NOTHING_COLOUR,
                linestyle="--",
                linewidth=0.9,
            )
        colour = looks[method].colour
        low, high = (curve[end].clip(lower=bottom) for end in ("low", "high"))
        axes.fill_between(
            curve["fpr"], low, high, step="post", color=colour, alpha=0.18, linewidth=0
        )
        axes.step(
            curve["fpr"], curve["tpr"].clip(lower=bottom), where="post", color=colour, linewidth=1.5
        )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(floor / 1.3, 1)
        axes.set_ylim(bottom, 1.1)
        axes.set_title(method, fontsize=8.5)
        axes.tick_params(labelsize=SMALL)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda rate, _place: f"{100 * rate:g}%")
            axis.set_minor_formatter(lambda _rate, _place: "")
    _few_ticks(panels, floor, bottom)
    figure.supxlabel("false-positive rate (people never seen)", fontsize=9)
    figure.supylabel("true-positive rate (people unlearned)", fontsize=9)
    set_title(figure, f"Unlearned, or never seen? {dataset}")
    return figure


def _few_ticks(panels: list[Axes], floor: float, bottom: float) -> None:
    """Marks at 1 and 3 of every power of ten: few negatives span no two powers."""
    from matplotlib.ticker import FixedLocator

    steps = [step * 10.0**power for power in range(-6, 1) for step in (1, 3)]
    for axes in panels:
        across = [step for step in steps if floor / 1.3 <= step <= 1]
        up = [step for step in steps if bottom <= step <= 1]
        axes.xaxis.set_major_locator(FixedLocator(across))
        axes.yaxis.set_major_locator(FixedLocator(up))


def _points(points: Mapping[str, pd.DataFrame], looks: Mapping[str, Look], dataset: str) -> Figure:
    figure, panels = _grid(len(points))
    everyone = pd.concat(points.values())
    # A row that was broken forgets far more than anybody memorised, and is not what sets the axis.
    across = shown_range(everyone["memorisation"], [0.0])
    up = shown_range(
        np.concatenate([everyone["memorisation"], everyone["forgetting"]]), [0.0, *(across or ())]
    )
    for axes, (method, part) in zip(panels, points.items(), strict=True):
        look = looks[method]
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.axhline(0, color="#777777", linewidth=0.8)
        if across is not None:
            axes.plot(across, across, color="black", linestyle="--", linewidth=0.9)
            axes.set_xlim(*across)
        if up is not None:
            axes.set_ylim(*up)
        axes.scatter(
            part["memorisation"],
            part["forgetting"],
            s=14,
            color=look.colour,
            marker=look.marker,
            alpha=0.75,
            linewidths=0,
        )
        beyond = 0 if up is None else int((~part["forgetting"].between(*up)).sum())
        # On a line of its own: a long name leaves no room beside it.
        note = f"\n({beyond} beyond)" if beyond else ""
        axes.set_title(f"{method}{note}", fontsize=8.5)
        axes.tick_params(labelsize=SMALL)
    figure.supxlabel("memorised: trained on the person, minus not (log-odds)", fontsize=9)
    figure.supylabel("forgotten: before, minus after (log-odds)", fontsize=9)
    set_title(figure, f"Is what was memorised gone? {dataset}")
    return figure
