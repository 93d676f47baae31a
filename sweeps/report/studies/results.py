"""What studies found: their points, what was picked, how far the score can be trusted.

From the store alone. Must not import torch, which takes a report 670 MiB, Ray or MLflow; Optuna
and SciPy's statistics only when there is a study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sweeps.graph.job import canonical_json
from sweeps.graph.plan import Plan
from sweeps.graph.spec import TuningObjective
from sweeps.graph.studies import StudyJobs
from sweeps.report.results import Entries
from sweeps.report.sheets import write_csv
from sweeps.report.studies.leaks import leak_cost, leak_cost_markdown

if TYPE_CHECKING:
    from oneshui.tuning.score import TrialScores
    from sweeps.sampler import Point, TrialToShow

OF_ONE_ROW = ["dataset", "num_forget", "row", "objective"]
"""What several studies of one row have in common."""
JOURNAL = "studies.journal"
"""Optuna's file in the output folder."""


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """One study for people.

    Attributes:
        study: Its jobs.
        points: One row per finished point: "place", "simulated" (what Optuna maximises), "score"
            (the support-only score; null without a true ToW), "tow" (the true one,
            likewise), all fractions in [0, 1], "carried" (whether it was run on the real S) and
            the hyperparameters by name.
        chosen: Place of the chosen point by objective.
        importance: Share of the simulated value's variation by hyperparameter.
        simulated_correlation: Spearman's rank correlation of "simulated" with "tow" over all
            points with a true ToW; null with fewer than three.
        score_correlation: The same of "score".
    """

    study: StudyJobs
    points: pd.DataFrame
    chosen: Mapping[TuningObjective, int]
    importance: Mapping[str, float]
    simulated_correlation: float | None
    score_correlation: float | None

    @property
    def best_tow(self) -> float | None:
        """The true ToW of the best point that has one."""
        known = self.points["tow"].dropna()
        return float(known.max()) if len(known) else None

    def point(self, place: int) -> dict[str, float]:
        """The hyperparameters of a point."""
        (found,) = self.points[self.points["place"] == place].to_dict("records")
        return {name: float(found[name]) for name in self.study.space}

    def tow_of(self, place: int) -> float | None:
        """The true ToW of a point, if it was computed."""
        found = self.points.loc[self.points["place"] == place, "tow"].dropna()
        return float(found.iloc[0]) if len(found) else None


def study_results(plan: Plan, entries: Entries) -> list[StudyResult]:
    """All studies of a sweep that have finished points."""
    found = [_result(study, entries) for study in plan.studies]
    return [result for result in found if len(result.points)]


def _result(study: StudyJobs, entries: Entries) -> StudyResult:
    from sweeps.sampler import importances

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
        score, tow = _score_and_truth(study, place, entries, stored)
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


def _stored(study: StudyJobs, entries: Entries) -> list[TrialScores]:
    """The study as a choice sees it, on each of its cells; empty while points are missing."""
    from oneshui.tuning.score import TrialScores

    if not all(key in entries for key in study.trials):
        return []
    values = [entries[key].value for key in study.trials]
    if not all(key in entries for key in study.simulated):
        return []
    return [
        TrialScores.from_json(values, place, entries[key].value)
        for place, key in enumerate(study.simulated)
    ]


def _score_and_truth(
    study: StudyJobs, place: int, entries: Entries, stored: Sequence[TrialScores]
) -> tuple[float | None, float | None]:
    """Support-only score and true ToW of a point, means over cells."""
    from oneshui.tuning.score import from_stored

    if not study.true_tows or not all(key in entries for key in study.true_tows[place]):
        return None, None
    values = [entries[key].value for key in study.true_tows[place]]
    tow = float(np.mean([value["tow"] for value in values]))
    if not stored:
        return None, tow
    scores = [
        known.score(
            place,
            support_drop=from_stored(value["support_drop"]),
            moved=from_stored(value["movement"]),
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


def studies_frame(results: Sequence[StudyResult]) -> pd.DataFrame:
    """One row per study and objective: what was picked, and what it was worth.

    Columns: "study", "dataset", "num_forget", "row", "seeds" (of the cells that it ran on),
    "objective", "points", "picked" (place of the point), "nothing" (place of the one that does
    nothing, null without), "hyperparameters" (of the picked point, JSON), "picked_tow",
    "defaults_tow", "nothing_tow", "best_tow", "simulated_correlation", "score_correlation";
    ToW and correlations as fractions, null without true ToWs; "gain" is what the pick has beyond
    the defaults. Of all studies of the same row, dataset, forget size and objective together
    "studies" (how many), "picked_tow_std" and "gain_std" (standard deviations over these studies,
    ddof 1, null with fewer than two).
    """
    rows: list[dict[str, Any]] = []
    for result in results:
        idle = result.study.nothing
        for objective, place in result.chosen.items():
            rows.append(
                {
                    "study": result.study.name,
                    "dataset": result.study.dataset,
                    "num_forget": result.study.num_forget,
                    "row": result.study.row,
                    "seeds": ", ".join(str(cell.seed) for cell in result.study.cells),
                    "objective": objective,
                    "points": len(result.points),
                    "picked": place,
                    "nothing": result.study.nothing,
                    "hyperparameters": canonical_json(result.point(place)),
                    "picked_tow": result.tow_of(place),
                    "defaults_tow": result.tow_of(0),
                    "nothing_tow": idle if idle is None else result.tow_of(idle),
                    "best_tow": result.best_tow,
                    "simulated_correlation": result.simulated_correlation,
                    "score_correlation": result.score_correlation,
                }
            )
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    tows = ("picked_tow", "defaults_tow", "nothing_tow", "best_tow")
    frame = frame.astype({**dict.fromkeys(tows, "float64"), "nothing": "Int64"})
    frame = frame.assign(gain=frame["picked_tow"] - frame["defaults_tow"])
    groups = frame.groupby(OF_ONE_ROW)
    return frame.assign(
        studies=groups["study"].transform("size"),
        picked_tow_std=groups["picked_tow"].transform("std"),
        gain_std=groups["gain"].transform("std"),
    )


def points_frame(results: Sequence[StudyResult]) -> pd.DataFrame:
    """All points of all studies, one row each; columns as ``StudyResult.points``, study and row."""
    parts = [
        result.points.assign(study=result.study.name, row=result.study.row) for result in results
    ]
    # A column that is empty in one study would be of no known type there.
    return pd.DataFrame([row for part in parts for row in part.to_dict("records")])


def write_studies(results: Sequence[StudyResult], entries: Entries, output_dir: Path) -> None:
    """Write Optuna's journal into the output folder, readable by optuna-dashboard.

    One study per objective, whose values are what it chose by: its best trial is the one that was
    picked. Trials that were not on the short list have no such value and are shown as pruned. A
    study that has not chosen yet shows the values that its trials are drawn by.
    """
    from sweeps.sampler import OBJECTIVE, StudyToShow, write_journal

    studies = {}
    for result in results:
        name, space = result.study.name, result.study.space
        simulated = {int(p): float(v) for p, v in result.points[["place", "simulated"]].to_numpy()}
        if not result.chosen:
            trials = _shown(result, entries, simulated)
            studies[name] = StudyToShow(space=space, metric="simulated ToW", trials=trials)
        for objective in result.chosen:
            choice = entries[result.study.choices[objective]].value
            scores = dict(zip(choice["carried"], choice["scores"], strict=True))
            trials = _shown(result, entries, scores)
            metric = _METRICS[objective]
            studies[f"{name}{OBJECTIVE}{objective}"] = StudyToShow(
                space=space, metric=metric, trials=trials
            )
    if studies:
        write_journal(output_dir / JOURNAL, studies)


_METRICS: Mapping[TuningObjective, str] = {
    "support_only": "support-only score",
    "support_and_val": "score by support and validation images",
    "simulated": "simulated ToW",
    "oracle": "true ToW",
}


def _shown(result: StudyResult, entries: Entries, values: Mapping[int, float]) -> list[TrialToShow]:
    from sweeps.sampler import TrialToShow

    trials = []
    for row in result.points.to_dict("records"):
        cost = entries[result.study.trials[row["place"]]].cost
        attributes = {
            name: row[name]
            for name in ("place", "simulated", "score", "tow", "carried")
            if row[name] is not None and row[name] == row[name]
        }
        trials.append(
            TrialToShow(
                point={name: row[name] for name in result.study.space},
                value=values.get(row["place"]),
                started=float(cost["started"]),
                seconds=float(cost["seconds"]),
                attributes=attributes,
            )
        )
    return trials


def write_study_tables(
    results: Sequence[StudyResult], frame: pd.DataFrame, folder: Path
) -> pd.DataFrame:
    """Write the studies into a report's folder: studies.csv, points.csv, leak_cost.md and .csv.

    Args:
        results: From ``study_results``; without any, nothing is written.
        frame: From ``results_frame``.
        folder: Of the report.

    Returns:
        What ``leak_cost`` found; empty unless there are several objectives.
    """
    if not results:
        return pd.DataFrame()
    write_csv(studies_frame(results), folder / "studies.csv")
    write_csv(points_frame(results), folder / "points.csv")
    table = leak_cost(frame)
    if not table.empty:
        write_csv(table, folder / "leak_cost.csv")
        (folder / "leak_cost.md").write_text(leak_cost_markdown(table), encoding="utf-8")
    return table
