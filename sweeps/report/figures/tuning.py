"""Figures of studies: how they went, and how far their score can be trusted.

Must not import torch, Ray, MLflow or Optuna; matplotlib is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sweeps.report.figures.style import COLOURS, Drawing, Material, set_title
from sweeps.report.studies.results import StudyResult
from sweeps.report.tables import block_id, request_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BESIDE = 4
"""Studies beside each other; further ones begin another pair of lines."""
PANEL = (2.9, 2.5)
"""Inches of one panel."""

Floats = npt.NDArray[np.float64]

_DEFAULTS, _POINT, _PICKED = "#4d4d4d", COLOURS[0], COLOURS[1]


def tuning(material: Material) -> Iterator[Drawing]:
    """Histories and scores of all studies, by dataset and forget size."""
    blocks: dict[tuple[str, int], list[StudyResult]] = {}
    for result in material.studies:
        key = (result.study.dataset, result.study.num_forget)
        blocks.setdefault(key, []).append(result)
    for (dataset, num_forget), results in blocks.items():
        make = partial(_tuning, results, request_title(dataset, num_forget))
        yield Drawing(name=block_id(dataset, num_forget), make=make)


def _tuning(results: Sequence[StudyResult], title: str) -> Figure:
    from matplotlib.figure import Figure

    beside = min(len(results), MOST_BESIDE)
    lines = -(-len(results) // beside)
    # A single study still gets the room that the legend needs.
    width = max(PANEL[0] * beside, 7.2)
    figure = Figure(figsize=(width, 2 * PANEL[1] * lines + 0.7), layout="constrained")
    grid = figure.subplots(2 * lines, beside, squeeze=False, sharex="row", sharey="row")
    for place in range(lines * beside):
        line, column = 2 * (place // beside), place % beside
        above, below = grid[line][column], grid[line + 1][column]
        if place < len(results):
            _history(above, results[place], is_first=column == 0)
            _scatter(below, results[place], is_first=column == 0)
        else:
            above.set_visible(False)
            below.set_visible(False)
    set_title(figure, f"Tuning, {title}")
    named: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named, loc="outside lower right", ncols=len(named))
    return figure


def _picked(result: StudyResult) -> int | None:
    """The point that the table's row runs with; of several objectives the support-only one."""
    return result.chosen.get("support_only", next(iter(result.chosen.values()), None))


def _history(axes: Axes, result: StudyResult, *, is_first: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    points = result.points
    values = 100 * points["simulated"].to_numpy()
    places = points["place"].to_numpy()
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.step(
        places,
        np.maximum.accumulate(values),
        where="post",
        color="#888888",
        linewidth=1,
        label="best so far",
    )
    _points(axes, result, places, values)
    axes.set_title(f"{result.study.row}, {result.study.seeds}", fontsize=9)
    axes.set_xlabel("point")
    # Numbers of points are whole.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if is_first:
        axes.set_ylabel("simulated ToW (%)")


def _scatter(axes: Axes, result: StudyResult, *, is_first: bool) -> None:
    points = result.points
    scores = 100 * points["score"].to_numpy(dtype=float)
    tows = 100 * points["tow"].to_numpy(dtype=float)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_xlabel("support-only score (%)")
    if is_first:
        axes.set_ylabel("true ToW (%)")
    if not (np.isfinite(scores) & np.isfinite(tows)).any():
        axes.text(0.5, 0.5, "no true ToW", ha="center", va="center", transform=axes.transAxes)
        axes.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
        return
    _points(axes, result, scores, tows)
    found = result.score_correlation
    text = "too few points" if found is None else f"rank correlation {found:.2f}"
    axes.set_title(text, fontsize=9)


def _points(axes: Axes, result: StudyResult, x: Floats, y: Floats) -> None:
    """All points; carried ones filled, defaults and pick marked by shape as well as colour."""
    places, carried = result.points["place"].to_numpy(), result.points["carried"].to_numpy(bool)
    picked = _picked(result)
    idle = places == result.study.nothing
    plain = (places != 0) & ~idle
    for chosen, face, label in (
        (plain & ~carried, "white", "point"),
        (plain & carried, _POINT, "run on the real S"),
    ):
        if chosen.any():
            axes.scatter(
                x[chosen], y[chosen], s=24, facecolors=face, edgecolors=_POINT, label=label
            )
    first = places == 0
    axes.scatter(x[first], y[first], s=42, marker="s", color=_DEFAULTS, label="defaults", zorder=3)
    if idle.any():
        axes.scatter(
            x[idle], y[idle], s=42, marker="x", color=_DEFAULTS, label="does nothing", zorder=3
        )
    if picked is not None:
        best = places == picked
        axes.scatter(
            x[best],
            y[best],
            s=130,
            marker="o",
            facecolors="none",
            edgecolors=_PICKED,
            linewidths=1.8,
            label="picked",
            zorder=4,
        )
