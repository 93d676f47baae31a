"""Requests one after the other: ToW as they come in, and what comes back of those forgotten before.

Frames hold fractions in [0, 1]; axes are in percent. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sweeps.report.figures.style import (
    LABEL_GAP,
    Block,
    Drawing,
    Look,
    Material,
    label_beside,
    set_title,
)
from sweeps.report.numbers import signed
from sweeps.report.scale import shown_range
from sweeps.report.sequences import REVERSALS, SEQUENCE
from sweeps.report.tables import anchor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOTHING, BEYOND_NOISE = "doing nothing", "beyond the noise"
_CONTROLS = {
    NOTHING: Look(colour="#000000", marker="X"),
    BEYOND_NOISE: Look(colour="#737b83", marker="_"),
}
MOST_BESIDE = 4
PANEL = (2.1, 2.0)
"""Inches of one triangle."""


def sequence(material: Material) -> Iterator[Drawing]:
    """ToW by people forgotten, a figure for every schedule of several requests."""
    for block, schedule, part in _schedules(material, SEQUENCE):
        yield Drawing(
            name=f"{block.stem}-{anchor(schedule)}",
            make=partial(_tow, part, f"{block.title}, {schedule}", material.looks),
        )


def reversal(material: Material) -> Iterator[Drawing]:
    """The triangles of all rows, a figure for every schedule that has a time to look back from."""
    for block, schedule, part in _schedules(material, REVERSALS):
        if part["reversal"].notna().any():
            yield Drawing(
                name=f"{block.stem}-{anchor(schedule)}",
                make=partial(_triangles, part, f"{block.title}, {schedule}"),
            )


def _schedules(material: Material, name: str) -> Iterator[tuple[Block, str, pd.DataFrame]]:
    """What a table says of every dataset, forget size and schedule; supports that are kept not."""
    if name not in material.tables:
        return
    table = material.tables[name]
    table = table[(table["requests"] > 1) & ~table["keeps_support"]]
    for block in material.blocks():
        for schedule, part in block.of(table).groupby("schedule", sort=False):
            yield block, str(schedule), part


def _tow(part: pd.DataFrame, title: str, looks: Mapping[str, Look]) -> Figure:
    from matplotlib.figure import Figure

    methods = list(part["method"].unique())
    height = max(4.4, 1.2 + LABEL_GAP * (len(methods) + len(_CONTROLS)))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    # One line for what all rows have alike: each is held against the same models.
    alike = part.drop_duplicates(["seed", "order", "forgotten"])
    floor = alike.assign(beyond=alike["tow_nothing"] + alike["noise_floor"])
    lines = {
        NOTHING: _means(alike, "tow_nothing"),
        BEYOND_NOISE: _means(floor, "beyond"),
        **{method: _means(part[part["method"] == method], "tow") for method in methods},
    }
    lines = {name: line for name, line in lines.items() if line.notna().any()}
    shown = {**looks, **_CONTROLS}
    ends = {}
    for name, line in lines.items():
        _line(axes, line, shown[name], is_control=name in _CONTROLS)
        ends[name] = (float(line.index[-1]), float(line.iloc[-1]))
    limits = shown_range(
        [value for name in methods for value in lines.get(name, [])], lines[NOTHING], least=0.5
    )
    if limits is not None:
        axes.set_ylim(*limits)
    axes.set_xticks(sorted(part["forgotten"].unique()))
    axes.set_xlabel("people forgotten so far")
    axes.set_ylabel("ToW against a model retrained without them (%)")
    set_title(figure, f"One request after the other: {title}")
    label_beside(axes, ends, shown, height - 1.2)
    return figure


def _means(part: pd.DataFrame, name: str) -> pd.Series[float]:
    """In percent, over orders and seeds, by the number of people forgotten."""
    return 100 * part.groupby("forgotten")[name].mean()


def _line(axes: Axes, line: pd.Series[float], look: Look, *, is_control: bool) -> None:
    axes.plot(
        line.index,
        line.to_numpy(),
        color=look.colour,
        marker=look.marker,
        markersize=6,
        linestyle="--" if is_control else "-",
        linewidth=1.0 if is_control else 1.4,
        zorder=2 if is_control else 4,
    )


def _triangles(part: pd.DataFrame, title: str) -> Figure:
    from matplotlib.figure import Figure

    methods = list(part["method"].unique())
    beside = min(len(methods), MOST_BESIDE)
    lines = -(-len(methods) // beside)
    # A single triangle still gets the room that the title needs.
    size = (max(PANEL[0] * beside, 5.0), PANEL[1] * lines + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, beside, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(methods) :]:
        axes.set_visible(False)
    for axes, method in zip(grid.flat, methods, strict=False):
        own = part[part["method"] == method]
        table = 100 * own.pivot_table("reversal", "forgotten", "group", "mean", dropna=False)
        _triangle(axes, table)
        axes.set_title(method, fontsize=8.5)
    figure.supxlabel("people forgotten when the group just had been", fontsize=9)
    figure.supylabel("people forgotten later on", fontsize=9)
    set_title(figure, f"What comes back (% of what was forgotten): {title}")
    return figure


def _triangle(axes: Axes, table: pd.DataFrame) -> None:
    values = table.to_numpy(dtype=float)
    axes.imshow(values, cmap="RdBu_r", vmin=-100, vmax=100, aspect="auto")
    axes.set_xticks(range(len(table.columns)), [str(one) for one in table.columns])
    axes.set_yticks(range(len(table.index)), [str(one) for one in table.index])
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if abs(value) > 60 else "black"
            axes.text(x, y, signed(value, 0), ha="center", va="center", fontsize=8, color=colour)
