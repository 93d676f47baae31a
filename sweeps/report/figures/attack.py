"""The relative membership attack's ROC curves on logarithmic scales, and what people say of it.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.attacks.roc import FEWEST_FALSE_POSITIVES
from sweeps.graph.artifacts import ROC
from sweeps.report.analyses import stored_table
from sweeps.report.figures.style import (
    Block,
    Drawing,
    Look,
    Material,
    set_title,
)
from sweeps.report.people import mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID_POINTS = 60


@dataclass(frozen=True, kw_only=True)
class _Attacked:
    """What is drawn of a block.

    Attributes:
        curves: Every seed's curve, by row.
        labels: In the legend: AUC and its interval over people, by row.
        floor: Ten images of the largest test set, as a false-positive rate.
        judged: In words: forget and test images and whose they are.
    """

    curves: Mapping[str, list[pd.DataFrame]]
    labels: Mapping[str, str]
    floor: float
    judged: tuple[str, str]


def rmia_roc(material: Material) -> Iterator[Drawing]:
    """Curves by dataset and forget size, for rows that were attacked."""
    for block in material.blocks():
        attacked = _attacked(material, block)
        if attacked.curves:
            make = partial(_figure, attacked, material.looks, block.title)
            yield Drawing(name=block.stem, make=make)


def _attacked(material: Material, block: Block) -> _Attacked:
    curves: dict[str, list[pd.DataFrame]] = {}
    for row in material.plan.results:
        if (row.cell.dataset, row.cell.num_forget) != (block.dataset, block.num_forget):
            continue
        entry = material.entries.get(row.score_key)
        if entry is None or ROC not in entry.files:
            continue
        curve = stored_table(entry, ROC)
        if len(curve):
            curves.setdefault(row.row.name, []).append(curve)
    drawn = None if material.people is None else block.of(material.people)
    rows = block.rows[block.rows["method"].isin(curves) & block.rows["rmia_auc"].notna()]
    return _Attacked(
        curves={method: curves[method] for method in block.methods if method in curves},
        labels={method: _label(method, rows[rows["method"] == method], drawn) for method in curves},
        floor=min(1.0, FEWEST_FALSE_POSITIVES / rows["test_images"].max()) if len(rows) else 1.0,
        judged=(_judged(rows, "forget"), _judged(rows, "test")),
    )


def _label(method: str, rows: pd.DataFrame, drawn: pd.DataFrame | None) -> str:
    ends = None
    if drawn is not None:
        ends = mean_interval(rows, drawn[drawn["method"] == method], "rmia_auc")
    interval = "" if ends is None else f" [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]"
    return f"{method}: {100 * rows['rmia_auc'].mean():.0f}{interval}"


def _judged(rows: pd.DataFrame, name: str) -> str:
    """Such as "136 to 140 forget images of 20 people"."""
    images, people = (_range(rows[f"{name}_{what}"]) for what in ("images", "people"))
    return f"{images} {name} images of {people} people"


def _range(numbers: pd.Series[float]) -> str:
    low, high = f"{numbers.min():.0f}", f"{numbers.max():.0f}"
    return low if low == high else f"{low} to {high}"


def _figure(attacked: _Attacked, looks: Mapping[str, Look], title: str) -> Figure:
    from matplotlib.figure import Figure

    curves, floor = attacked.curves, attacked.floor
    height = max(4.6, 0.6 + 0.27 * (len(curves) + 2))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color="#e6e6e6", linewidth=0.8)
    rates = np.geomspace(floor, 1, GRID_POINTS)
    lowest = 1.0
    for number, method in enumerate(curves):
        look = looks[method]
        # A curve is a step function: at a rate holds what the next smaller observed rate gave.
        seeds = [_at(curve, rates) for curve in curves[method]]
        mean = np.mean(seeds, axis=0)
        shown = mean > 0
        lowest = min([lowest, *mean[shown]])
        axes.step(
            rates[shown],
            mean[shown],
            where="post",
            color=look.colour,
            linewidth=1.6 if look.is_own else 1.0,
            zorder=4 if look.is_own else 3,
            marker=look.marker,
            markersize=5,
            markevery=(number % 7, 9),
            label=attacked.labels[method],
        )
    axes.plot([floor / 2, 1], [floor / 2, 1], color="black", linestyle=":", label="guessing")
    axes.axvline(
        floor, color="#777777", linestyle="--", label=f"ten test images, {100 * floor:.2g}%"
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda rate, _place: f"{100 * rate:g}%")
        axis.set_minor_formatter(lambda _rate, _place: "")
    axes.set_xlim(floor / 1.6, 1)
    axes.set_ylim(min(lowest / 1.3, floor), 1.05)
    forget, test = attacked.judged
    axes.set_xlabel(f"false-positive rate (a seed: {test})")
    axes.set_ylabel(f"true-positive rate ({forget})")
    set_title(figure, f"Relative membership attack: {title}")
    legend = figure.legend(loc="outside right center", title="AUC in % [95 % over people]")
    for text, method in zip(legend.get_texts(), curves, strict=False):
        text.set_color("#1b1f24" if looks[method].is_own else "#5f676f")
    return figure


def _at(curve: pd.DataFrame, rates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    place = np.searchsorted(curve["fpr"].to_numpy(), rates * (1 + 1e-9), side="right") - 1
    known: npt.NDArray[np.float64] = curve["tpr"].to_numpy()[np.maximum(place, 0)]
    return np.where(place >= 0, known, 0.0)
