"""What is gained over doing nothing, against how long the model was trained.

Frames hold fractions in [0, 1]; axes are in points. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sweeps.report.figures.style import (
    LABEL_GAP,
    RETRAIN_COLOUR,
    Drawing,
    Look,
    Material,
    label_beside,
    set_title,
)
from sweeps.report.saturation import Rung, ladders, rungs
from sweeps.report.scale import shown_range
from sweeps.report.tables import SCORE_NAMES, anchor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLOOR = "retraining again"


def saturation(material: Material) -> Iterator[Drawing]:
    """Gain against epochs, for datasets that differ in their epochs alone."""
    for ladder in ladders(material.plan.sweep):
        known = rungs(ladder, material.frame)
        if len(known) > 1:
            names = "-".join(anchor(rung.dataset) for rung in known)
            make = partial(_saturation, known, ladder.title, material.looks)
            yield Drawing(name=f"{names}-n{ladder.num_forget}", make=make)


def _saturation(known: Sequence[Rung], title: str, looks: Mapping[str, Look]) -> Figure:
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(test.method for rung in known for test in rung.tests))
    height = max(4.4, 1.2 + LABEL_GAP * len(methods))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.axhline(0, color="black", linestyle="--", linewidth=1, zorder=1)
    ends = {}
    for number, method in enumerate(methods):
        # A little to the side of each other, so that intervals can be told apart.
        shift = 0.24 * (number / max(len(methods) - 1, 1) - 0.5)
        ends[method] = _line(axes, known, method, looks[method], shift)
    shown = dict(looks)
    floors = [(x, 100 * rung.floor) for x, rung in enumerate(known) if np.isfinite(rung.floor)]
    if floors:
        x, y = zip(*floors, strict=True)
        shown[FLOOR] = Look(colour=RETRAIN_COLOUR, marker="p")
        axes.plot(x, y, color=RETRAIN_COLOUR, marker="p", linestyle=":", linewidth=1.2, zorder=2)
        ends[FLOOR] = (x[-1], y[-1])
    gains = [
        100 * value
        for rung in known
        for test in rung.tests
        for value in (test.difference, test.low, test.high)
    ]
    limits = shown_range([*gains, *(y for _, y in floors)], [0.0], least=0.5)
    if limits is not None:
        axes.set_ylim(*limits)
    axes.set_xlim(-0.3, len(known) - 0.7)
    axes.set_xticks(range(len(known)), [_tick(rung) for rung in known])
    score = SCORE_NAMES.get(str(known[0].rows["task"].iloc[0]), "score")
    axes.set_xlabel(f"epochs of training; {score} of the pretrained model on retain and forget set")
    axes.set_ylabel("ToW above doing nothing (points)")
    set_title(figure, f"Gain against memorisation: {title}")
    label_beside(axes, ends, shown, height - 1.2)
    return figure


def _line(
    axes: Axes, known: Sequence[Rung], method: str, look: Look, shift: float
) -> tuple[float, float]:
    """A method's means with their intervals; where the line ends."""
    own = [(x, t) for x, rung in enumerate(known) for t in rung.tests if t.method == method]
    x = [place + shift for place, _ in own]
    y, low, high = (
        100 * np.array([getattr(test, name) for _, test in own])
        for name in ("difference", "low", "high")
    )
    axes.errorbar(
        x,
        y,
        yerr=np.nan_to_num([y - low, high - y]),
        color=look.colour,
        marker=look.marker,
        markersize=6,
        linewidth=1.4,
        elinewidth=0.8,
        capsize=2,
        zorder=4,
    )
    return x[-1], float(y[-1])


def _tick(rung: Rung) -> str:
    return f"{rung.epochs}\nretain {100 * rung.retain:.1f}\nforget {100 * rung.forget:.1f}"
