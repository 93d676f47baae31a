"""Curves of models that learn again: how fast what was to be forgotten comes back.

Frames hold fractions in [0, 1]; axes are in percent. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from oneshui.spec import Role
from sweeps.report.audits.hiding import LESSONS, STEPS, curves_frame
from sweeps.report.figures.style import (
    LABEL_GAP,
    RETRAIN_COLOUR,
    Block,
    Drawing,
    Look,
    Material,
    label_beside,
    set_title,
)
from sweeps.report.scale import shown_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PRETRAINED, RETRAINED = "pretrained model", "retrained model"
_LOOKS = {
    PRETRAINED: Look(colour="#000000", marker="X"),
    RETRAINED: Look(colour=RETRAIN_COLOUR, marker="*"),
}
_TAUGHT: Mapping[str, str] = {
    "1": "1 forget picture of each",
    "5": "up to 5 forget pictures of each",
    "support": "the support picture of each",
}
PANEL = 2.5
"""Inches of one panel's width."""


def recovery(material: Material) -> Iterator[Drawing]:
    """Scores of every row while it learns again, a panel for every lesson."""
    if not any(row.probes is not None for row in material.plan.results):
        return
    table = curves_frame(material.plan, material.entries)
    for block in material.blocks():
        part_ = block.of(table)
        if part_["score"].notna().any():
            yield Drawing(name=block.stem, make=partial(_curves, part_, block, material.looks))


def _curves(part_: pd.DataFrame, block: Block, looks: Mapping[str, Look]) -> Figure:
    from matplotlib.figure import Figure

    methods = [name for name, role in block.methods.items() if role is Role.METHOD]
    methods += [name for name, role in block.methods.items() if role is Role.RETRAIN_AGAIN]
    height = max(4.0, 1.2 + LABEL_GAP * (len(methods) + len(_LOOKS)))
    figure = Figure(figsize=(PANEL * len(LESSONS) + 2.2, height), layout="constrained")
    panels = figure.subplots(1, len(LESSONS), sharey=True, squeeze=False)[0]
    shown = {**looks, **_LOOKS}
    of_rows, of_controls = list[float](), list[float]()
    for axes, lesson in zip(panels, LESSONS, strict=True):
        lines = _lines(part_[part_["lesson"] == lesson], methods)
        ends = {name: _drawn(axes, line, shown[name], name) for name, line in lines.items()}
        for name, line in lines.items():
            (of_controls if name in _LOOKS else of_rows).extend(line)
        axes.set_title(f"taught {_TAUGHT[lesson]}", fontsize=8.5)
        axes.set_xticks(range(len(STEPS)), [str(steps) for steps in STEPS])
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    limits = shown_range(of_rows, of_controls, least=0.5)
    if limits is not None:
        panels[0].set_ylim(*limits)
    panels[0].set_ylabel("score on their other pictures (%)")
    figure.supxlabel("steps of learning again", fontsize=9)
    set_title(figure, f"What comes back: {block.title}")
    label_beside(panels[-1], ends, shown, height - 1.2)
    return figure


def _lines(part_: pd.DataFrame, methods: list[str]) -> dict[str, list[float]]:
    """In percent, means over seeds, by the number of steps."""
    alike = part_.drop_duplicates(["seed", "steps"])
    lines = {
        PRETRAINED: _means(alike, "pretrained"),
        RETRAINED: _means(alike, "retrained"),
        **{method: _means(part_[part_["method"] == method], "score") for method in methods},
    }
    return {name: line for name, line in lines.items() if np.isfinite(line).any()}


def _means(part_: pd.DataFrame, name: str) -> list[float]:
    means = 100 * part_.groupby("steps")[name].mean()
    return [float(value) for value in means.reindex(list(STEPS))]


def _drawn(axes: Axes, line: list[float], look: Look, name: str) -> tuple[float, float]:
    """Draw one line; where it ends."""
    is_control = name in _LOOKS
    axes.plot(
        range(len(STEPS)),
        line,
        color=look.colour,
        marker=look.marker,
        markersize=5,
        linestyle="--" if is_control else "-",
        linewidth=1.0 if is_control else 1.3,
        zorder=2 if is_control else 4,
    )
    last = max(place for place, value in enumerate(line) if np.isfinite(value))
    return float(last), line[last]
