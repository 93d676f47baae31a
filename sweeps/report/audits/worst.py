"""People chosen by memorisation in a report: what a row loses on them against people at random.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sweeps.graph.plan import Plan
from sweeps.report.audits.part import Part, tables_of
from sweeps.report.numbers import signed
from sweeps.report.results import Entries
from sweeps.report.tables import MISSING

TITLES = (
    *("row", "ToW, random", "ToW, chosen", "drop", "± seeds", "Δ forget, random"),
    *("Δ forget, chosen", "MIA, random", "MIA, chosen", "seeds"),
)
WHO = {
    "memorised": "whom the models of the audit's pool memorise most",
    "forgettable": "whom the models of the audit's pool memorise least",
}
NOTE = (
    "Mean over seeds, in percent or points. Beside every cell stands one with the same seed, the "
    "same people in training, validation and test set and as many who are forgotten, but those of "
    "the pool of whom its models, trained with other seeds, know {what}; it has models of its own. "
    "Drop: ToW on people at random minus ToW on those who were chosen, ± its standard deviation "
    "over seeds; above 0 random people make the row look better than it is. Read it beside that of "
    "doing nothing: who is memorised more has more to lose. Only people of the pool who are in a "
    "seed's training set can be chosen; a small pool holds few who are hard."
)
_WHAT = {"memorised": "most beyond what strangers show", "forgettable": "least"}


def part(plan: Plan, entries: Entries, frame: pd.DataFrame, folder: Path) -> Part | None:
    """What choosing people by memorisation does to the rows.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.
        frame: From ``sweeps.report.results.results_frame``.
        folder: The report's.

    Returns:
        None where the sweep draws everybody at random, or no chosen cell is finished.
    """
    del entries, folder
    choose = plan.sweep.choose
    if choose == "random" or frame["chosen_drop"].isna().all():
        return None
    return Part(
        anchor="worst",
        title="People who are hard to forget"
        if choose == "memorised"
        else "People who are easy to forget",
        asks=f"What becomes of ToW where those people ask {WHO[choose]}?",
        tables=tables_of(frame[frame["chosen_drop"].notna()], TITLES, _line),
        note=NOTE.format(what=_WHAT[choose]),
    )


def _line(method: str, rows: pd.DataFrame) -> tuple[str, ...]:
    mean = rows[
        [
            *("tow", "chosen_tow", "chosen_drop", "forget_gap", "chosen_forget_gap"),
            *("mia_auc", "chosen_mia_auc"),
        ]
    ].mean()
    spread = rows["chosen_drop"].std()
    return (
        method,
        _percent(mean["tow"]),
        _percent(mean["chosen_tow"]),
        signed(100 * mean["chosen_drop"]),
        MISSING if pd.isna(spread) else f"{100 * spread:.1f}",
        _points(mean["forget_gap"]),
        _points(mean["chosen_forget_gap"]),
        _percent(mean["mia_auc"]),
        _percent(mean["chosen_mia_auc"]),
        str(len(rows)),
    )


def _percent(value: float) -> str:
    """A fraction in percent, or what stands for a missing one."""
    return MISSING if pd.isna(value) else f"{100 * value:.1f}"


def _points(value: float) -> str:
    return MISSING if pd.isna(value) else signed(100 * value)
