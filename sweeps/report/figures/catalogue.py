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
from sweeps.report.figures import (
    attack,
    costs,
    identities,
    likelihood,
    recovery,
    saturation,
    scores,
    sequences,
    tuning,
)
from sweeps.report.figures.style import DPI, Drawing, Material, style

PROCESSES = 2
FEWEST_FOR_PROCESSES = 24
"""Starting two processes takes as long as some figures."""


@dataclass(frozen=True, kw_only=True)
class FigureKind:
    """A kind of figure.

    Attributes:
        alt: What is drawn, for who cannot see it; the file's name follows.
        caption: How to read it, for the report's page.
        drawings: What of it can be drawn of the finished jobs.
        has_pictures: Whether photographs are in it, whose colours must stay as they are.
    """

    alt: str
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
        alt="Scatter plot of the score on the forget set against the score on the test set, a "
        "point per row and small ones per seed; the numbers are the columns forget and test"
        " of the table",
        caption="Large points are means, small ones seeds. A good method moves from the "
        "pretrained model to the left, into the grey box that holds all retrained models, without "
        "moving down.",
        drawings=scores.forgetting_utility,
    ),
    "tow": FigureKind(
        alt="Dot plot of the ToW of every row with its seeds, doing nothing as a dashed line "
        "and retraining again as a band; the numbers are the column ToW of the table",
        caption="Points are seeds, strokes and figures are means; an arrow at the edge is a row "
        "that lies far off. What does not get to the right of the dashed line is no better than "
        "doing nothing; what reaches the grey band cannot be told from retraining with another "
        "seed.",
        drawings=scores.tow,
    ),
    "tow_by_size": FigureKind(
        alt="Line plot of the mean ToW of every row against the number of people in the "
        "request; the numbers are those of the overview",
        caption="How a method stands the size of the request; bars are standard deviations over "
        "seeds.",
        drawings=scores.tow_by_size,
    ),
    "saturation": FigureKind(
        alt="Line plot of every one-shot row's gain in ToW over doing nothing against the epochs "
        "that the model was trained for; the numbers are in comparisons.csv, family nothing",
        caption="How saturated may a model be before one picture cannot undo it? The same people, "
        "split and recipe, trained for longer and longer. Bars are 95% intervals of the mean over "
        "seeds (Student's); what reaches over the dashed line of doing nothing with the whole bar "
        "gains, before any correction for the number of rows. The dotted line is what another "
        "retrained model would gain: more is not to be had.",
        drawings=saturation.saturation,
    ),
    "sequence": FigureKind(
        alt="Line plot of the ToW of every row against the number of people forgotten so far, "
        "doing nothing as a dashed black line; the numbers are in sequence.csv",
        caption="Requests one after the other, each to the model that the one before it left; "
        "means over orders and seeds. Every point is held against a model that was retrained "
        "without those who have asked by then. Below the black dashed line a row is worse than "
        "doing nothing; above the grey one it gains more than two retrainings are apart.",
        drawings=sequences.sequence,
    ),
    "reversal": FigureKind(
        alt="Triangles of shares, one per row: what of every group forgotten earlier is known "
        "again later; the numbers are in reversals.csv",
        caption="What comes back of those who were forgotten before, in % of what forgetting them "
        "takes away: 0 stays forgotten, +100 (red) is as well known as ever, below 0 (blue) later "
        "requests go on forgetting them. Means over orders and seeds; empty where there was next "
        "to nothing to forget.",
        drawings=sequences.reversal,
    ),
    "recovery": FigureKind(
        alt="Line plots of the score on pictures of the forgotten against steps of learning again, "
        "a line per row and a panel for what is taught, the pretrained and the retrained model "
        "dashed; the numbers are in relearning.csv",
        caption="Every model is taught again with a few pictures of those it forgot, and asked "
        "about their others; means over seeds. A line that leaves the retrained model's and joins "
        "the pretrained one's within a few steps had not lost what it did not show.",
        drawings=recovery.recovery,
    ),
    "loss_mia": FigureKind(
        alt="Dot plot of the AUC of the loss attack on every row with its seeds, guessing as a "
        "dotted line; the numbers are the column MIA AUC of the table",
        caption="How well an attacker who sees losses tells forget images from test images. "
        "Retraining gives about 50%; clearly less is a trace of the request as well.",
        drawings=scores.loss_mia,
    ),
    "rmia_roc": FigureKind(
        alt="ROC curves of the relative attack on logarithmic axes, a line per row; the areas "
        "are in the legend and in the column RMIA AUC of the table",
        caption="The relative attack where it matters, at few false accusations. One line a row, "
        "the mean over seeds; on the dotted diagonal the attacker guesses. Nothing is shown left "
        "of the dashed line: there fewer than ten test images decide. The legend gives the area "
        "under the curve with its 95% interval over people, not images, for a person's images are "
        "not independent. Compare with the row that retrains again, not with 50: its interval is "
        "what chance does to a model that never saw these people.",
        drawings=attack.rmia_roc,
    ),
    "hardness": FigureKind(
        alt="Scatter plots, one per row, of every forgotten person's gap against the distance "
        "of the support picture, with a line; slopes are in hardness_fits.csv",
        caption="Each point is a forgotten person: is it harder to forget somebody whose support "
        "picture is unlike the person's others (paper, Figure 4)? Gap above 0: still known better "
        f"than by the retrained model. {_LINES}",
        drawings=identities.hardness,
    ),
    "hardness_memorised": FigureKind(
        alt="Scatter plots, one per row, of every forgotten person's gap against how much the "
        "pool's models memorise the person, with a line; slopes are in "
        "hardness_memorised_fits.csv",
        caption="Each point is a forgotten person who is in the audit's pool: is it harder to "
        "forget somebody whom models memorise more? Memorisation is measured on the pool's models, "
        f"which are none of the cells'. {_LINES}",
        drawings=identities.hardness_memorised,
    ),
    "likelihood_roc": FigureKind(
        alt="ROC curves of the likelihood audit on logarithmic axes, a panel per row with a band; "
        "the numbers are in likelihood_roc.csv",
        caption="Unlearned people against people never seen, where few false accusations are made. "
        "On the dotted diagonal the attacker guesses, which is what retraining gives; the dashed "
        "line is doing nothing. Bands are 95% of each point by itself, over people and models "
        "together. Nothing is shown left of ten decisions about people never seen.",
        drawings=likelihood.likelihood_roc,
    ),
    "memorisation": FigureKind(
        alt="Scatter plots, one per row, of what was forgotten of every person of the pool "
        "against what was memorised; the numbers are in likelihood_people.csv",
        caption="Each point is a person of the pool. On the dashed diagonal all that models had "
        "memorised is gone; on the grey line nothing is; above the diagonal more went than was "
        "memorised, which shows as well. Both axes are measured with few models a person, so "
        "points scatter about the lines even where the method is perfect.",
        drawings=likelihood.memorisation,
    ),
    "retain_drop": FigureKind(
        alt="Scatter plots, one per row, of the drop of everybody who stays against the "
        "distance to the forget set, with a line; slopes are in retain_drop_fits.csv",
        caption="Each point is a person who stays: do those lose more who look like the forgotten "
        f"(paper, Figure 5)? {_LINES}",
        drawings=identities.retain_drop,
    ),
    "support_sheet": FigureKind(
        alt="The support pictures of one seed with the identity and the mean gap of each; the "
        "gaps are in per_identity.parquet",
        caption="The pictures that people sent in, of one seed, hardest to forget first. The gap "
        "is the mean over the ranked rows: score minus the retrained model's, in points.",
        drawings=identities.support_sheet,
        has_pictures=True,
    ),
    "ablation": FigureKind(
        alt="Dot plots of the ToW and of the forget gap of the rows of one method, with their "
        "seeds; the numbers are the columns ToW and Δ forget of the table",
        caption="Rows of one method with other hyperparameters. Points are seeds, strokes means; "
        "the gap is best at 0.",
        drawings=scores.ablation,
    ),
    "tuning": FigureKind(
        alt="For every study the simulated value point by point, and the support-only score "
        "against the true ToW; the numbers are in points.csv",
        caption="Above: the simulated value that Optuna maximised, point by point; the line is "
        "the best so far, filled points were run on the real support set. Below: how far the "
        "support-only score can be trusted, every point against its true ToW, which was computed "
        "afterwards and never fed back.",
        drawings=tuning.tuning,
    ),
    "cost": FigureKind(
        alt="Bars of the seconds and of the peak memory of every stage of the sweep",
        caption="What the sweep cost, by stage: the sum over its jobs, and one job's peak memory.",
        drawings=costs.cost,
    ),
    "timeline": FigureKind(
        alt="Bars of what ran on every worker and when, coloured by stage",
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
    # What was there before need not be looked through again after every figure.
    gc.freeze()
    with mpl.rc_context(style()):
        figure = drawing.make()
        for suffix in ("png", "pdf"):
            path = folder / f"{kind}-{drawing.name}.{suffix}"
            figure.savefig(path, dpi=DPI, facecolor="white", metadata=_metadata(suffix))
            paths.append(path)
            # The layout that was found for the PNG serves the PDF: finding it is half the time,
            # and an engine that does nothing would still have everything drawn twice.
            with mpl.rc_context({"figure.constrained_layout.use": False}):
                figure.set_layout_engine(None)
    # Figures are full of cycles, and would pile up until somebody collects them; clearing them
    # first would set all their axes up anew.
    del figure
    gc.collect()
    gc.unfreeze()
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
