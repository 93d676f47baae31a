"""What studies found, and how far their score can be trusted, from the store alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from oneshui.choosing import Study as Stored
from sweeps.plan import Plan
from sweeps.spec import Objective
from sweeps.store import Entry
from sweeps.studies import Study
from sweeps.tuning import Point, importances, write_journal
from sweeps.tuning_stages import stored_study

JOURNAL = "studies.journal"
Entries = Mapping[str, Entry]


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """One study for people.

    Attributes:
        study: Its jobs.
        points: One row per finished point: "place", "simulated" (what Optuna maximises), "score"
            (the support-only score; null where the point was not revealed), "tow" (the true one,
            likewise), all fractions in [0, 1], "carried" (whether it was run on the real S) and
            the hyperparameters by name.
        chosen: Place of the chosen point by objective.
        importance: Share of the simulated value's variation by hyperparameter.
        simulated_correlation: Spearman's rank correlation of "simulated" with "tow" over all
            revealed points; null with fewer than three.
        score_correlation: The same of "score".
    """

    study: Study
    points: pd.DataFrame
    chosen: Mapping[Objective, int]
    importance: Mapping[str, float]
    simulated_correlation: float | None
    score_correlation: float | None

    @property
    def best_tow(self) -> float | None:
        """The true ToW of the best revealed point."""
        revealed = self.points["tow"].dropna()
        return float(revealed.max()) if len(revealed) else None

    def tow_of(self, place: int) -> float | None:
        """The true ToW of a point, if it was revealed."""
        found = self.points.loc[self.points["place"] == place, "tow"].dropna()
        return float(found.iloc[0]) if len(found) else None


def study_results(plan: Plan, entries: Entries) -> list[StudyResult]:
    """All studies of a sweep that have finished points."""
    found = [_result(study, plan, entries) for study in plan.studies]
    return [result for result in found if len(result.points)]


def _result(study: Study, plan: Plan, entries: Entries) -> StudyResult:
    finished = [place for place, key in enumerate(study.points) if key in entries]
    chosen = {
        objective: int(entries[key].value["point"])
        for objective, key in study.choices.items()
        if key in entries
    }
    carried = {
        point
        for key in study.choices.values()
        if key in entries
        for point in entries[key].value["carried"]
    }
    stored = _stored(study, plan, entries)
    rows = []
    for place in finished:
        value = entries[study.points[place]].value
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


def _stored(study: Study, plan: Plan, entries: Entries) -> list[Stored]:
    """The study as a choice sees it, on each of its cells; empty while points are missing."""
    if not all(key in entries for key in study.points):
        return []
    values = [entries[key].value for key in study.points]
    rehearsals = [
        key
        for role, key in sorted(plan.jobs[study.points[0]].inputs.items())
        if role.startswith("rehearsal_")
    ]
    if not all(key in entries for key in rehearsals):
        return []
    return [stored_study(values, place, entries[key].value) for place, key in enumerate(rehearsals)]


def _revealed(
    study: Study, place: int, entries: Entries, stored: Sequence[Stored]
) -> tuple[float | None, float | None]:
    """Support-only score and true ToW of a point, means over cells."""
    if not study.reveals or not all(key in entries for key in study.reveals[place]):
        return None, None
    values = [entries[key].value for key in study.reveals[place]]
    tow = float(np.mean([value["tow"] for value in values]))
    if not stored:
        return None, tow
    scores = [
        known.score(
            place,
            support_drop=_number(value["support_drop"]),
            moved=_number(value["movement"]),
        )
        for known, value in zip(stored, values, strict=True)
    ]
    return float(np.mean(scores)), tow


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _correlation(points: pd.DataFrame, name: str) -> float | None:
    both = points[[name, "tow"]].dropna()
    if len(both) < 3 or both[name].nunique() < 2 or both["tow"].nunique() < 2:
        return None
    return float(spearmanr(both[name], both["tow"]).statistic)


def studies_frame(results: Sequence[StudyResult]) -> pd.DataFrame:
    """One row per study and objective: what was picked, and what it was worth.

    Columns: "study", "dataset", "num_forget", "row", "objective", "points", "picked" (place of the
    point), "picked_tow", "defaults_tow", "best_tow", "simulated_correlation",
    "score_correlation"; ToW and correlations as fractions, null where nothing was revealed.
    """
    rows: list[dict[str, Any]] = []
    for result in results:
        for objective, place in result.chosen.items():
            rows.append(
                {
                    "study": result.study.name,
                    "dataset": result.study.dataset,
                    "num_forget": result.study.num_forget,
                    "row": result.study.row,
                    "objective": objective,
                    "points": len(result.points),
                    "picked": place,
                    "picked_tow": result.tow_of(place),
                    "defaults_tow": result.tow_of(0),
                    "best_tow": result.best_tow,
                    "simulated_correlation": result.simulated_correlation,
                    "score_correlation": result.score_correlation,
                }
            )
    return pd.DataFrame(rows)


def points_frame(results: Sequence[StudyResult]) -> pd.DataFrame:
    """All points of all studies, one row each; hyperparameters as JSON-like columns by name."""
    parts = [
        result.points.assign(study=result.study.name, row=result.study.row) for result in results
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def leak_cost(frame: pd.DataFrame) -> pd.DataFrame:
    """What each knowledge buys: ToW of the rows that were tuned under several objectives.

    Args:
        frame: From ``results_frame``; rows are called "<row>@<objective>".

    Returns:
        One row per objective: "objective", "n" (pairs of row and cell), mean and standard
        deviation of the ToW, and of the paired difference to support_only, in [0, 1]; "better"
        is the share of pairs in which it is above support_only. Empty without several objectives.
    """
    named = frame[frame["method"].str.contains("@", regex=False)].dropna(subset=["tow"]).copy()
    if named.empty:
        return pd.DataFrame()
    parts = named["method"].str.split("@", n=1, expand=True)
    named["row"], named["objective"] = parts[0], parts[1]
    index = ["dataset", "num_forget", "seed", "row"]
    wide = named.pivot_table(index=index, columns="objective", values="tow")
    if "support_only" not in wide or wide.shape[1] < 2:
        return pd.DataFrame()
    rows = []
    for objective in wide.columns:
        pairs = wide[[objective, "support_only"]].dropna() if objective != "support_only" else None
        difference = (
            pairs[objective] - pairs["support_only"] if pairs is not None else pd.Series([0.0])
        )
        values = wide[objective].dropna()
        rows.append(
            {
                "objective": objective,
                "n": len(values),
                "tow_mean": float(values.mean()),
                "tow_std": float(values.std(ddof=1)) if len(values) > 1 else None,
                "gain_mean": float(difference.mean()),
                "gain_std": float(difference.std(ddof=1)) if len(difference) > 1 else None,
                "better": float((difference > 0).mean()) if pairs is not None else None,
            }
        )
    return pd.DataFrame(rows).sort_values("tow_mean", ascending=False, ignore_index=True)


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
