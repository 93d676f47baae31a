"""What studies found, and how far their score can be trusted, from the store alone.

Never imports torch, which takes a report 670 MiB, and SciPy's statistics only when a study needs
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sweeps.graph.plan import Plan
from sweeps.graph.studies import StudyJobs
from sweeps.report.study_tables import JOURNAL, StudyResult
from sweeps.sampler import Point, importances, write_journal
from sweeps.stages.tuning import stored_number, stored_study
from sweeps.store import Entry

if TYPE_CHECKING:
    from oneshui.tuning.score import Study as Stored

Entries = Mapping[str, Entry]


def study_results(plan: Plan, entries: Entries) -> list[StudyResult]:
    """All studies of a sweep that have finished points."""
    found = [_result(study, entries) for study in plan.studies]
    return [result for result in found if len(result.points)]


def _result(study: StudyJobs, entries: Entries) -> StudyResult:
    finished = [place for place, key in enumerate(study.trials) if key in entries]
    chosen = {
        objective: int(entries[key].value["point"])
        for objective, key in study.choices.items()
        if key in entries
    }
    carried = {
        point
        for objective, key in study.choices.items()
        if key in entries and objective != "simulated"
        for point in entries[key].value["carried"]
    }
    stored = _stored(study, entries)
    rows = []
    for place in finished:
        value = entries[study.trials[place]].value
        score, tow = _revealed(study, place, entries, stored)
        rows.append(
            {
                "place": place,
                "simulated": float(value["simulated"]),
                "score": score,
                "tow": tow,
                "carried": place in carried,
                **value["point"],
            }
        )
    columns = ["place", "simulated", "score", "tow", "carried", *study.space]
    points = pd.DataFrame(rows, columns=columns).astype({"score": "float64", "tow": "float64"})
    told: list[tuple[Point, float]] = [
        ({name: row[name] for name in study.space}, row["simulated"]) for row in rows
    ]
    return StudyResult(
        study=study,
        points=points,
        chosen=chosen,
        importance=importances(study.space, told, 0),
        simulated_correlation=_correlation(points, "simulated"),
        score_correlation=_correlation(points, "score"),
    )


def _stored(study: StudyJobs, entries: Entries) -> list[Stored]:
    """The study as a choice sees it, on each of its cells; empty while points are missing."""
    if not all(key in entries for key in study.trials):
        return []
    values = [entries[key].value for key in study.trials]
    if not all(key in entries for key in study.simulated):
        return []
    return [
        stored_study(values, place, entries[key].value) for place, key in enumerate(study.simulated)
    ]


def _revealed(
    study: StudyJobs, place: int, entries: Entries, stored: Sequence[Stored]
) -> tuple[float | None, float | None]:
    """Support-only score and true ToW of a point, means over cells."""
    if not study.true_tows or not all(key in entries for key in study.true_tows[place]):
        return None, None
    values = [entries[key].value for key in study.true_tows[place]]
    tow = float(np.mean([value["tow"] for value in values]))
    if not stored:
        return None, tow
    scores = [
        known.score(
            place,
            support_drop=stored_number(value["support_drop"]),
            moved=stored_number(value["movement"]),
        )
        for known, value in zip(stored, values, strict=True)
    ]
    return float(np.mean(scores)), tow


def _correlation(points: pd.DataFrame, name: str) -> float | None:
    both = points[[name, "tow"]].dropna()
    if len(both) < 3 or both[name].nunique() < 2 or both["tow"].nunique() < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(both[name], both["tow"]).statistic)


def write_studies(results: Sequence[StudyResult], output_dir: Path) -> None:
    """Write Optuna's journal into the output folder, readable by optuna-dashboard."""
    studies = {}
    for result in results:
        told = []
        for row in result.points.to_dict("records"):
            point = {name: row[name] for name in result.study.space}
            attributes = {
                name: row[name]
                for name in ("score", "tow", "carried")
                if row[name] is not None and row[name] == row[name]
            }
            told.append((point, float(row["simulated"]), attributes))
        studies[result.study.name] = (result.study.space, told)
    if studies:
        write_journal(output_dir / JOURNAL, studies)
