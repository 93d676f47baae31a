"""The relative membership attack's ROC curves on logarithmic scales.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweeps.graph.artifacts import ROC
from sweeps.report.analyses import stored_table
from sweeps.report.figures.style import Block, Drawing, Look, Material, looks_of, set_title
from sweeps.store import DamagedEntryError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID_POINTS = 60


def rmia_roc(material: Material) -> Iterator[Drawing]:
    """Curves by dataset and forget size, for rows that were attacked."""
    for block in material.blocks():
        curves, floor = _curves(material, block)
        if curves:
            looks = looks_of({name: block.methods[name] for name in curves})
            yield Drawing(name=block.stem, make=partial(_figure, curves, looks, floor, block.title))


def _curves(material: Material, block: Block) -> tuple[dict[str, list[pd.DataFrame]], float]:
    """Every seed's curve by row, and the smallest false-positive rate of the largest test set."""
    curves: dict[str, list[pd.DataFrame]] = {}
    test_images = [1]
    for row in material.plan.results:
        if (row.cell.dataset, row.cell.num_forget) != (block.dataset, block.num_forget):
            continue
        entry = material.entries.get(row.score_key)
        if entry is None or ROC not in entry.files:
            continue
        try:
            curve = stored_table(entry, ROC)
        except DamagedEntryError:  # the next run recomputes it; a report goes without
            continue
        if len(curve):
            curves.setdefault(row.row.name, []).append(curve)
        split = material.entries.get(row.split_key)
        if split is not None:
            test_images.append(int(split.value["num_images"]["test"]))
    ordered = {method: curves[method] for method in block.methods if method in curves}
    return ordered, 1 / max(test_images)


def _figure(
    curves: dict[str, list[pd.DataFrame]], looks: dict[str, Look], floor: float, title: str
) -> Figure:
    from matplotlib.figure import Figure

    height = max(4.6, 0.6 + 0.27 * (len(curves) + 2))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color="#e6e6e6", linewidth=0.8)
    rates = np.geomspace(floor, 1, GRID_POINTS)
    lowest = 1.0
    for number, (method, look) in enumerate(looks.items()):
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
            linewidth=1.4,
            marker=look.marker,
            markersize=5,
            markevery=(number % 7, 9),
            label=method,
        )
    axes.plot([floor / 2, 1], [floor / 2, 1], color="black", linestyle=":", label="guessing")
    axes.axvline(floor, color="#777777", linestyle="--", label=f"smallest FPR, {100 * floor:.2g}%")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda rate, _place: f"{100 * rate:g}%")
        axis.set_minor_formatter(lambda _rate, _place: "")
    axes.set_xlim(floor / 1.6, 1)
    axes.set_ylim(min(lowest / 1.3, floor), 1.05)
    axes.set_xlabel("false-positive rate (test images)")
    axes.set_ylabel("true-positive rate (forget images)")
    set_title(figure, f"Relative membership attack: {title}")
    figure.legend(loc="outside right center")
    return figure


def _at(curve: pd.DataFrame, rates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    place = np.searchsorted(curve["fpr"].to_numpy(), rates * (1 + 1e-9), side="right") - 1
    known: npt.NDArray[np.float64] = curve["tpr"].to_numpy()[np.maximum(place, 0)]
    return np.where(place >= 0, known, 0.0)
