"""Figures of people: who was hard to forget, who suffered, and the pictures that were sent in.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.metrics.resampling import FEWEST_PEOPLE
from oneshui.spec import Role
from sweeps.graph.artifacts import PER_IDENTITY, SUPPORT
from sweeps.graph.plan import ResultRow
from sweeps.inference.rows import is_ranked, names
from sweeps.report.figures.style import SMALL, Drawing, Look, Material, set_title
from sweeps.report.scale import shown_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_BESIDE = 4
MOST_POINTS = 1500
"""Points of one panel; of more a fixed sample is shown, while the line is that of all."""
FLAT = 1e-6
"""Points: smaller differences are rounding, and an axis that shows them would mislead."""
MOST_FACES = 64
FACES_BESIDE = 8


def hardness(material: Material) -> Iterator[Drawing]:
    """Gap of every forgotten person against the support picture's distance (paper, Figure 4)."""
    return _trends(
        material,
        "hardness",
        ("gap", "distance of the support picture from the person's others (cosine)", "distance"),
        "Hard to forget?",
    )


def hardness_memorised(material: Material) -> Iterator[Drawing]:
    """The same against how much the models of the audit's pool memorise the person.

    Of fewer people than an interval needs there is no figure: a line through them says nothing.
    """
    points = material.tables.get("hardness_memorised.csv")
    if points is None or points["identity"].nunique() < FEWEST_PEOPLE:
        return iter(())
    return _trends(
        material,
        "hardness_memorised",
        ("gap", "memorisation, on the pool's models (log-odds)", "memorisation"),
        "Memorised, so hard to forget?",
    )


def retain_drop(material: Material) -> Iterator[Drawing]:
    """Drop of everybody who stays against the distance to the forget set (paper, Figure 5)."""
    return _trends(
        material,
        "retain_drop",
        ("drop", "distance to the nearest forgotten person (cosine)", "distance"),
        "Who loses?",
    )


def _trends(
    material: Material, name: str, outcome: tuple[str, str, str], question: str
) -> Iterator[Drawing]:
    points = material.tables.get(f"{name}.csv")
    fits = material.tables.get(f"{name}_fits.csv")
    if points is None or fits is None:
        return
    for block in material.blocks():
        # Measured against itself, a row has nothing to show: no gap here, no drop there.
        without = {"gap": Role.RETRAIN, "drop": Role.PRETRAIN}[outcome[0]]
        methods = {m: role for m, role in block.methods.items() if role is not without}
        # Whatever the axis is, panels call it a distance.
        placed = block.of(points).rename(columns={outcome[2]: "distance"})
        own = dict(list(placed.groupby("method")))
        lines = block.of(fits).set_index("method")
        known = {m: own[m] for m in methods if m in own}
        if known:
            title = f"{question} {block.title}"
            make = partial(_panels, known, material.looks, lines, outcome, title)
            yield Drawing(name=block.stem, make=make)


def _panels(
    points: dict[str, pd.DataFrame],
    looks: Mapping[str, Look],
    fits: pd.DataFrame,
    outcome: tuple[str, str, str],
    title: str,
) -> Figure:
    from matplotlib.figure import Figure

    columns = min(PANELS_BESIDE, len(points))
    rows = math.ceil(len(points) / columns)
    width, height = max(4.2, 2.5 * columns), 1.25 + 2.3 * rows
    spread = max(np.ptp(part["distance"]) for part in points.values())
    unit = 10.0 ** math.floor(math.log10(spread)) if spread > 0 else 1.0
    note = f"Slopes are points per {unit:g} of {outcome[2]}."
    if any(part["seed"].nunique() > 1 for part in points.values()):
        note = f"Each seed's {outcome[0]}s are moved to one intercept for all. {note}"
    by_method: Any = fits.to_dict("index")
    points = {m: _levelled(it, by_method[m]["slope"], outcome[0]) for m, it in points.items()}
    low, high = _shared(points.values(), outcome[0])
    beyond = sum(int((~(100 * it[outcome[0]]).between(low, high)).sum()) for it in points.values())
    if beyond:
        note += f" {beyond} points lie beyond the axes."
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    # All panels are alike, so fixed margins in inches do what a layout engine takes a second for.
    figure.subplots_adjust(
        left=0.62 / width,
        right=1 - 0.1 / width,
        top=1 - 1.05 / height,
        bottom=0.85 / height,
        wspace=0.16,
        hspace=0.62,
    )
    for axes, (method, part) in zip(grid.flat, points.items(), strict=False):
        fit = by_method[method]
        _panel(axes, part, fit, outcome[0], looks[method])
        axes.set_title(method, fontsize=8.5, pad=37)
        axes.annotate(
            "\n".join(_said(fit, 100 * unit)),
            (0.5, 1),
            (0, 3),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="bottom",
            size=SMALL,
        )
        axes.tick_params(labelsize=SMALL)
    grid.flat[0].set_ylim(low, high)
    for axes in list(grid.flat)[len(points) :]:
        axes.set_visible(False)
    size = min(9.5, 1.8 * width)  # of the longest label, which a single panel is too narrow for
    figure.supxlabel(outcome[1], fontsize=size, y=0.36 / height)
    figure.supylabel(f"{outcome[0]} (points)", fontsize=9.5, x=0.08 / width)
    wrapped = textwrap.fill(note, round(15 * width))
    figure.text(0.5, 0.05 / height, wrapped, ha="center", va="bottom", size=SMALL)
    set_title(figure, title)
    return figure


def _shared(parts: Collection[pd.DataFrame], outcome: str) -> tuple[float, float]:
    """One axis in points for all panels, which a row that is far from all others does not set."""
    lowest = shown_range((100 * part[outcome].min() for part in parts), [0.0], FLAT)
    highest = shown_range((100 * part[outcome].max() for part in parts), [0.0], FLAT)
    if lowest is None or highest is None or highest[1] - lowest[0] < 10 * FLAT:
        return -1.0, 1.0
    return lowest[0], highest[1]


def _levelled(points: pd.DataFrame, slope: float, outcome: str) -> pd.DataFrame:
    """The points as the line sees them: each seed moved up or down to the mean intercept."""
    sloped = 0.0 if pd.isna(slope) else slope * points["distance"]
    left = points[outcome] - sloped
    level = left.groupby(points["seed"]).transform("mean") - left.mean()
    return points.assign(**{outcome: points[outcome] - level})


def _said(fit: dict[str, Any], scale: float) -> list[str]:
    """What a panel's line is worth: its slopes with their intervals, and who they are from."""
    people = "1 person" if fit["num_people"] == 1 else f"{fit['num_people']:.0f} people"
    if pd.isna(fit["slope"]):
        return [f"{people}, no two distances in a seed"]
    slope = f"slope {scale * fit['slope']:+.1f}"
    if pd.isna(fit["slope_low"]):
        return [slope, f"{people}: no interval"]

    def ends(name: str) -> str:
        return f"[{scale * fit[f'{name}_low']:+.1f}, {scale * fit[f'{name}_high']:+.1f}]"

    lines = [f"{slope} {ends('slope')}"]
    name, nothing = "slope", "show no trend"
    if pd.notna(fit["slope_minus_again_low"]):
        name, nothing = "slope_minus_again", "show no trend beyond noise"
        lines.append(f"minus noise {scale * fit[name]:+.1f} {ends(name)}")
    holds_zero = fit[f"{name}_low"] <= 0 <= fit[f"{name}_high"]
    return [*lines, f"{people} {nothing}" if holds_zero else people]


def _panel(axes: Axes, part: pd.DataFrame, fit: dict[str, Any], outcome: str, look: Look) -> None:
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.locator_params(nbins=4)
    axes.axhline(0, color="#777777", linewidth=0.8)
    shown = part.sample(MOST_POINTS, random_state=0) if len(part) > MOST_POINTS else part
    axes.scatter(
        shown["distance"],
        100 * shown[outcome],
        s=9,
        color=look.colour,
        marker=look.marker,
        alpha=0.6,
        linewidths=0,
        rasterized=len(shown) > 300,
    )
    if pd.notna(fit["slope"]):
        ends = np.array([part["distance"].min(), part["distance"].max()])
        axes.plot(
            ends, 100 * (fit["slope"] * ends + fit["intercept"]), color="black", linewidth=1.3
        )


def support_sheet(material: Material) -> Iterator[Drawing]:
    """The support pictures of the first finished seed, hardest to forget first."""
    identities = material.tables.get(PER_IDENTITY)
    if identities is None:
        return
    for block in filter(lambda block: material.may_show(block.dataset), material.blocks()):
        own = block.of(identities)
        own = own[own["method"].isin(names(block.rows[is_ranked(block.rows)]))]
        first = _first(material, block.dataset, block.num_forget, set(own["seed"]))
        if first is None:
            continue
        split = material.entries.get(first.split_key)
        if split is None or SUPPORT not in split.files.keys() - split.left_out:
            continue
        gaps = own[own["seed"] == first.cell.seed].groupby("identity")["gap"].mean()
        pictures = _pictures(split.file(SUPPORT))
        people_of = zip(gaps.index.tolist(), gaps.tolist(), strict=True)
        faces = [(who, gap, pictures[who]) for who, gap in people_of if who in pictures]
        faces.sort(key=lambda face: -face[1])
        if faces:
            title = f"Support images: {block.title}, seed {first.cell.seed}"
            yield Drawing(name=block.stem, make=partial(_sheet, faces, title))


def _first(material: Material, dataset: str, num_forget: int, seeds: set[int]) -> ResultRow | None:
    for row in material.plan.results:
        cell = row.cell
        if (cell.dataset, cell.num_forget) == (dataset, num_forget) and cell.seed in seeds:
            return row
    return None


def _pictures(path: Any) -> dict[int, npt.NDArray[np.uint8]]:
    """Pictures [height, width, 3] by identity."""
    from safetensors.numpy import load_file

    stored = load_file(path)
    images = stored["images"].transpose(0, 2, 3, 1)
    return dict(zip(stored["identities"].tolist(), images, strict=True))


def _sheet(faces: list[tuple[Any, float, npt.NDArray[np.uint8]]], title: str) -> Figure:
    from matplotlib.figure import Figure

    left_out = len(faces) - MOST_FACES
    if left_out > 0:
        # Both ends matter: those hardest to forget, and those who went easily.
        faces = faces[: MOST_FACES // 2] + faces[-MOST_FACES // 2 :]
        title += f" ({left_out} in the middle left out)"
    rows = math.ceil(len(faces) / FACES_BESIDE)
    figure = Figure(figsize=(7.2, 0.5 + 1.12 * rows), layout="constrained")
    grid = figure.subplots(rows, FACES_BESIDE, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, (identity, gap, picture) in zip(grid.flat, faces, strict=False):
        axes.imshow(picture, interpolation="nearest" if len(picture) < 64 else None)
        axes.set_title(f"{identity}: {100 * gap:+.1f}", fontsize=SMALL, pad=2)
    set_title(figure, title)
    return figure
