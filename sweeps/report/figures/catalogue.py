"""All figures of a sweep, as PNG and PDF. A new kind is one line in ``KINDS``.

Must not import torch, Ray or MLflow; matplotlib is imported when something is drawn, and without
its global state.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneshui.spawning import spawned
from sweeps.report.figures import attack, costs, identities, scores, tuning
from sweeps.report.figures.style import DPI, Drawing, Material, style

PROCESSES = 2
FEWEST_FOR_PROCESSES = 24
"""Starting two processes takes as long as some figures."""


@dataclass(frozen=True, kw_only=True)
class FigureKind:
    """A kind of figure.

    Attributes:
        caption: How to read it, for the report's page.
        drawings: What of it can be drawn of the finished jobs.
        has_pictures: Whether photographs are in it, whose colours must stay as they are.
    """

    caption: str
    drawings: Callable[[Material], Iterator[Drawing]]
    has_pictures: bool = False


_LINES = (
    "Line: least squares over all seeds, one slope and an intercept for each seed. In brackets: "
    "95% intervals from resampling people, each with the points of all seeds. Minus noise: the "
    "slope minus retrain_again's on the same people; where its interval holds 0, retraining alone "
    "shows as much. Of twenty intervals one misses by chance."
)

KINDS: dict[str, FigureKind] = {
    "forgetting_utility": FigureKind(
        caption="One point per seed. A good method moves from the pretrained model to the left, "
        "into the cloud of retrained models, without moving down.",
        drawings=scores.forgetting_utility,
    ),
    "tow": FigureKind(
        caption="Points are seeds, bars and figures are means. What does not get to the right of "
        "the dashed line is no better than doing nothing; what reaches the grey band cannot be "
        "told from retraining with another seed.",
        drawings=scores.tow,
    ),
    "tow_by_size": FigureKind(
        caption="How a method stands the size of the request; bars are standard deviations over "
        "seeds.",
        drawings=scores.tow_by_size,
    ),
    "loss_mia": FigureKind(
        caption="How well an attacker who sees losses tells forget images from test images. "
        "Retraining gives about 50%; clearly less is a trace of the request as well.",
        drawings=scores.loss_mia,
    ),
    "rmia_roc": FigureKind(
        caption="The relative attack where it matters, at few false accusations. One line a row, "
        "the mean over seeds; on the dotted diagonal the attacker guesses. Nothing is shown left "
        "of the dashed line: there fewer than ten test images decide. The legend gives the area "
        "under the curve with its 95% interval over people, not images, for a person's images are "
        "not independent. Compare with the row that retrains again, not with 50: its interval is "
        "what chance does to a model that never saw these people.",
        drawings=attack.rmia_roc,
    ),
    "hardness": FigureKind(
        caption="Each point is a forgotten person: is it harder to forget somebody whose support "
        "picture is unlike the person's others (paper, Figure 4)? Gap above 0: still known better "
        f"than by the retrained model. {_LINES}",
        drawings=identities.hardness,
    ),
    "retain_drop": FigureKind(
        caption="Each point is a person who stays: do those lose more who look like the forgotten "
        f"(paper, Figure 5)? {_LINES}",
        drawings=identities.retain_drop,
    ),
    "support_sheet": FigureKind(
        caption="The pictures that people sent in, of one seed, hardest to forget first. The gap "
        "is the mean over the ranked rows: score minus the retrained model's, in points.",
        drawings=identities.support_sheet,
        has_pictures=True,
    ),
    "ablation": FigureKind(
        caption="Rows of one method with other hyperparameters. White points are seeds; the gap "
        "is best at 0.",
        drawings=scores.ablation,
    ),
    "tuning": FigureKind(
        caption="Above: the simulated value that Optuna maximised, point by point; the line is "
        "the best so far, filled points were run on the real support set. Below: how far the "
        "support-only score can be trusted, every point against its true ToW, which was computed "
        "afterwards and never fed back.",
        drawings=tuning.tuning,
    ),
    "cost": FigureKind(
        caption="What the sweep cost, by stage: the sum over its jobs, and one job's peak memory.",
        drawings=costs.cost,
    ),
    "timeline": FigureKind(
        caption="What ran where and when: one line per worker, one bar per job.",
        drawings=costs.timeline,
    ),
}
"""By the first part of the files' names, in the order of the page."""


def draw(
    material: Material, folder: Path, progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """Draw what can be drawn of the finished rows.

    Args:
        material: Plan, results and tables.
        folder: Where to write; it is made if need be.
        progress: Called with the number of finished figures and of all.

    Returns:
        The files, a PNG followed by its PDF: ``<kind>-<what>``, in the order of ``KINDS``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [(name, drawing) for name, kind in KINDS.items() for drawing in kind.drawings(material)]
    tell = progress or (lambda _done, _total: None)
    if len(todo) < FEWEST_FOR_PROCESSES or (os.cpu_count() or 1) == 1:
        paths: list[Path] = []
        for place, (kind, drawing) in enumerate(todo):
            paths += _render(kind, drawing, folder)
            tell(place + 1, len(todo))
        return paths
    return _draw_beside(todo, folder, tell)


def _draw_beside(
    todo: list[tuple[str, Drawing]], folder: Path, tell: Callable[[int, int], None]
) -> list[Path]:
    """Draw in two processes, so that a second thread of this one can publish meanwhile."""
    with spawned(PROCESSES, "draw figures", _leave_interrupts_alone) as pool:
        drawn = [pool.submit(_render, kind, drawing, folder) for kind, drawing in todo]
        for place, _ in enumerate(as_completed(drawn)):
            tell(place + 1, len(todo))
        return [path for one in drawn for path in one.result()]


def _leave_interrupts_alone() -> None:
    """Ctrl-C reaches the whole group; the process that waits for us says what happens then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _render(kind: str, drawing: Drawing, folder: Path) -> list[Path]:
    import matplotlib as mpl

    _copy_pictures_of_pdfs()
    paths = []
    with mpl.rc_context(style()):
        figure = drawing.make()
        for suffix in ("png", "pdf"):
            path = folder / f"{kind}-{drawing.name}.{suffix}"
            figure.savefig(path, dpi=DPI, facecolor="white", metadata=_metadata(suffix))
            paths.append(path)
            # The layout that was found for the PNG serves the PDF: finding it is half the time.
            figure.set_layout_engine("none")
    # Figures are full of cycles, and would pile up until somebody collects them; clearing them
    # first would set all their axes up anew.
    del figure
    gc.collect()
    return paths


@functools.lru_cache(maxsize=1)
def _copy_pictures_of_pdfs() -> None:
    """Make matplotlib's PDFs keep copies of what they rasterised.

    What they keep by themselves are windows onto a canvas of the whole figure each, one a panel:
    160 MiB for a figure of twenty panels.
    """
    from matplotlib.backends import backend_pdf

    kind: Any = backend_pdf.PdfFile
    keep = kind.imageObject

    def keep_copy(file: Any, picture: Any) -> Any:
        return keep(file, picture.copy())

    kind.imageObject = keep_copy


def _metadata(suffix: str) -> dict[str, Any]:
    """Without date and version, equal results give equal files."""
    return {"CreationDate": None} if suffix == "pdf" else {"Software": None}
