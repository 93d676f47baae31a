"""What all figures share: their material, colours, markers and type.

Must not import torch, Ray or MLflow; matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from oneshui.spec import Role
from sweeps.graph.launch import EQUIVALENCE_MARGIN
from sweeps.graph.plan import Plan
from sweeps.inference.rows import is_ranked, names
from sweeps.report.scale import shown_range
from sweeps.report.studies.results import StudyResult
from sweeps.report.tables import block_id, request_title
from sweeps.store import Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
SMALL = 7.8
"""Points: the smallest letters, 8 pixels where the page shows an inch at its shortest."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442")
"""Okabe and Ito's palette, for what is not a method."""
PALETTE = (
    *("#cc272e", "#de6907", "#986603", "#9c930d", "#448502", "#0aa87a"),
    *("#138282", "#139ec6", "#026fd7", "#8777ff", "#9c40bf", "#de50ab"),
)
"""Hues around the circle of OKLCH, of two lightnesses in turn. Each has a contrast of 3:1 and more
to white and to the page's dark ground."""
SALT = "47074"
"""With it, the one-shot rows of the demo have a colour each."""
GREYS = ("#737b83", "#8a929a", "#5f676f")
MARKERS = "oDs^vP<>"
RETRAIN_COLOUR = "#4d4d4d"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "figure.titlesize": 10.5,
    "figure.titleweight": "bold",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "text.parse_math": False,
}
_SMALL_FONT = "Oneshui Sans"
_SCRIPTS = ((0x20, 0x250), (0x370, 0x400), (0x2010, 0x2040), (0x2190, 0x2270))
"""Latin, Greek, punctuation, arrows and operators; other letters come from the whole font."""


@functools.lru_cache(maxsize=1)
def style() -> dict[Any, Any]:
    """Settings of matplotlib for all figures.

    Every PDF embeds the letters that it uses, as TrueType because publishers refuse Type 3, and
    taking them out of DejaVu's thousands takes longer than drawing. So each process first makes
    itself a small copy, under a name of its own as the font's licence wants.
    """
    from matplotlib import font_manager

    # matplotlib keeps the path and reads the file again: it stays as long as the process.
    folder = tempfile.mkdtemp(prefix="oneshui-font-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for weight in ("normal", "bold"):
        whole = font_manager.findfont(
            font_manager.FontProperties(family="DejaVu Sans", weight=weight)
        )
        path = Path(folder) / f"{weight}.ttf"
        _save_small(whole, path)
        font_manager.fontManager.addfont(path)
    return {**STYLE, "font.family": [_SMALL_FONT, "DejaVu Sans"]}


def _save_small(whole: str, path: Path) -> None:
    """A copy of a font with few letters, no tables of layout, and another name."""
    from fontTools import subset

    options = subset.Options(layout_features=[], hinting=False, name_IDs=["*"], notdef_outline=True)
    options.drop_tables += ["FFTM"]
    with subset.load_font(whole, options) as font:
        _cut(font, options, path)


def _cut(font: Any, options: Any, path: Path) -> None:
    from fontTools import subset

    chosen = subset.Subsetter(options)
    chosen.populate(unicodes=[code for first, end in _SCRIPTS for code in range(first, end)])
    chosen.subset(font)
    for record in font["name"].names:
        if record.nameID in (1, 3, 4, 6, 16):
            record.string = record.toUnicode().replace("DejaVu Sans", _SMALL_FONT)
            record.string = str(record.string).replace("DejaVuSans", "OneshuiSans")
    font.save(path)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a row is drawn.

    Attributes:
        colour: Of the palette where it competes, else black or grey.
        marker: Of its points, so that no row is told by colour alone.
        size: Area of a point, in square points.
        is_own: Whether the colour belongs to the row's name.
    """

    colour: str
    marker: str
    size: float = 55
    is_own: bool = False


@dataclass(frozen=True, kw_only=True)
class Block:
    """The finished rows of one dataset and forget size.

    Attributes:
        dataset: Name of the dataset.
        num_forget: Identities in the request.
        rows: Of the results table, finished ones only.
        methods: Their roles by name, in the order of the tables.
        title: Dataset and forget size in words.
        stem: The same in a file's name.
    """

    dataset: str
    num_forget: int
    rows: pd.DataFrame
    methods: Mapping[str, Role]
    title: str
    stem: str

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """What a table says of this dataset and forget size."""
        own = table["dataset"].eq(self.dataset) & table["num_forget"].eq(self.num_forget)
        return table[own]


@dataclass(frozen=True, kw_only=True)
class Material:
    """All that a figure may be drawn from.

    Attributes:
        plan: The sweep's graph.
        entries: Finished jobs by key.
        frame: From ``sweeps.report.results.results_frame``.
        summary: From ``sweeps.report.summary.summarise``.
        tables: The paper's analyses by file name, as ``sweeps.report.analyses.write`` wrote them;
            without them their figures are left out.
        studies: What tuning found.
        margin: Of ToW, in which a row counts as good as retrained.
        people: From ``sweeps.report.people.resamples``; without it attacks have no intervals.
        show_faces: Whether pictures of real people may be drawn.
    """

    plan: Plan
    entries: Mapping[str, Entry]
    frame: pd.DataFrame
    summary: pd.DataFrame
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    studies: tuple[StudyResult, ...] = ()
    margin: float = EQUIVALENCE_MARGIN
    people: pd.DataFrame | None = None
    show_faces: bool = False

    def may_show(self, dataset: str) -> bool:
        """Whether a dataset's pictures may be drawn: they are generated, or somebody asked."""
        return self.show_faces or self.plan.sweep.datasets[dataset].generate is not None

    @cached_property
    def looks(self) -> Mapping[str, Look]:
        """How every row of the sweep is drawn."""
        return looks_of(self.summary)

    def blocks(self) -> Iterable[Block]:
        """Datasets and forget sizes that have finished rows."""
        for (dataset, num_forget), part in self.summary.groupby(
            ["dataset", "num_forget"], sort=False
        ):
            rows = self.frame[
                (self.frame["dataset"] == dataset) & (self.frame["num_forget"] == num_forget)
            ]
            rows = rows[rows["tow"].notna()]
            methods = roles_of(part[part["method"].isin(rows["method"])])
            if methods:
                size = int(str(num_forget))
                yield Block(
                    dataset=str(dataset),
                    num_forget=size,
                    rows=rows,
                    methods=methods,
                    title=request_title(str(dataset), size),
                    stem=block_id(str(dataset), size),
                )


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure that can be drawn.

    Attributes:
        name: End of its file's name, after the kind.
        make: Draws it; called within ``STYLE``.
    """

    name: str
    make: Callable[[], Figure]


def roles_of(rows: pd.DataFrame) -> dict[str, Role]:
    """The roles of the results' or the summary's rows by name, in their order."""
    pairs = zip(rows["method"], rows["role"], strict=True)
    return {str(method): Role(role) for method, role in pairs}


def looks_of(rows: pd.DataFrame) -> dict[str, Look]:
    """A colour and a marker for every row of the results or of the summary.

    Rows that compete have the colour of their name, in every sweep; controls and references are
    grey. Where a marker of the same colour is taken, the next one that is free is used.
    """
    ranked = set(names(rows[is_ranked(rows)]))
    controls = {
        Role.PRETRAIN: Look(colour="#000000", marker="X", size=75),
        Role.RETRAIN: Look(colour=RETRAIN_COLOUR, marker="*", size=130),
        Role.RETRAIN_AGAIN: Look(colour=RETRAIN_COLOUR, marker="p", size=130),
    }
    found: dict[str, Look] = {}
    taken: set[tuple[str, str]] = set()
    for name, role in roles_of(rows).items():
        is_own = name in ranked
        first, second, *_ = hashlib.sha256(f"{SALT} {name}".encode()).digest()
        colours = PALETTE if is_own else GREYS
        colour = colours[first % len(colours)]
        places = range(second, second + len(MARKERS))
        shapes = [(colour, MARKERS[place % len(MARKERS)]) for place in places]
        look = next((shape for shape in shapes if shape not in taken), shapes[0])
        own = Look(colour=look[0], marker=look[1], size=55 if is_own else 40, is_own=is_own)
        found[name] = controls.get(role, own)
        taken.add((found[name].colour, found[name].marker))
    return found


def percent(rows: pd.DataFrame, method: str, measure: str) -> pd.Series[float]:
    """A measure of one row over its seeds, in percent."""
    return 100 * rows.loc[rows["method"] == method, measure]


def set_title(figure: Figure, title: str) -> None:
    """The figure's title, over its left edge."""
    figure.suptitle(title, x=0.01, ha="left")


def legend_below(figure: Figure, axes: Axes) -> None:
    """The legend of the axes under the figure, if there is anything to explain."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower right", ncols=len(handles))


def range_of_rows(
    rows: pd.DataFrame, methods: Mapping[str, Role], measure: str, always: Iterable[float] = ()
) -> tuple[float, float] | None:
    """An axis in percent for the seeds of all rows but those far off (``shown_range``)."""
    known = rows[rows["method"].isin(list(methods)) & rows[measure].notna()]
    means = 100 * known.groupby("method", sort=False)[measure].mean()
    needed = [means[name] for name in means.index if methods[name] is not Role.METHOD]
    if measure == "tow" and len(means):
        needed.append(means.max())
    ends = shown_range(means, [*needed, *always])
    if ends is None:
        return None
    near = means.index[means.between(*ends)]
    seeds = 100 * known.loc[known["method"].isin(near), measure]
    return shown_range([], [*seeds, *always], least=0.5)


LABEL_GAP = 0.19
"""Inches from one label to the next."""


def label_beside(
    axes: Axes, places: Mapping[str, tuple[float, float]], looks: Mapping[str, Look], height: float
) -> None:
    """Names to the right of the axes, each with a thin line to where its row is.

    Args:
        axes: With the limits that they will have.
        places: Of the rows, in the axes' own units; those beyond the limits are said to be.
        looks: Of the rows.
        height: Of the axes in inches, about.
    """
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    inside = {
        name: (min(max(x, left), right), min(max(y, low), high)) for name, (x, y) in places.items()
    }
    to_axes = axes.transData + axes.transAxes.inverted()
    at = {name: float(to_axes.transform(place)[1]) for name, place in inside.items()}
    order = sorted(at, key=lambda name: at[name])
    for name, y in zip(
        order, _spread([at[name] for name in order], LABEL_GAP / height), strict=True
    ):
        look = looks[name]
        beyond = "" if places[name] == inside[name] else " (beyond the axes)"
        axes.annotate(
            f"{name}{beyond}",
            xy=inside[name],
            xytext=(1.04, y),
            textcoords="axes fraction",
            annotation_clip=False,
            va="center",
            fontsize=8.5,
            color="#1b1f24" if look.is_own else "#5f676f",
            arrowprops={
                "arrowstyle": "-",
                # From the name's left edge: a line must not cross what it leads to.
                "relpos": (0, 0.5),
                "color": look.colour,
                "linewidth": 0.6,
                "alpha": 0.5,
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def _spread(wanted: list[float], gap: float) -> list[float]:
    """Ascending places as near to the wanted ones as a gap between them allows."""
    places = list(wanted)
    for place in range(1, len(places)):
        places[place] = max(places[place], places[place - 1] + gap)
    ceiling = max(1.0, gap * (len(places) - 1))
    for place in reversed(range(len(places))):
        places[place] = min(places[place], ceiling)
        ceiling = places[place] - gap
    return places
