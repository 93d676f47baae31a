"""What studies found, in sentences and in lines of a table.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from sweeps.report.numbers import signed
from sweeps.report.studies.results import OF_ONE_ROW, StudyResult, studies_frame


def study_sentences(results: Sequence[StudyResult]) -> list[str]:
    """What the studies say together, in sentences; ToW in points.

    Without true ToWs there is nothing to be said.
    """
    frame = studies_frame(results)
    found = []
    for objective, rows in frame.groupby("objective", sort=False) if len(frame) else ():
        known = rows.dropna(subset=["picked_tow", "defaults_tow", "best_tow"])
        if known.empty:
            continue
        gain = 100 * known["gain"]
        lost = 100 * (known["best_tow"] - known["picked_tow"])
        found.append(
            f"{objective}: over {len(known)} {'study' if len(known) == 1 else 'studies'} the "
            f"picked point's ToW is {signed(gain.mean())} points from the defaults' and "
            f"{lost.mean():.1f} below that of the best evaluated point; "
            f"{int((gain < 0).sum())} picked worse than the defaults."
        )
        idle = rows["picked"] == rows["nothing"]
        beyond = 100 * (rows["picked_tow"] - rows["nothing_tow"])[~idle].dropna()
        if len(beyond):
            found.append(
                f"{objective}: {int(idle.sum())} of {len(rows)} studies picked doing nothing; the "
                f"others' picks are {signed(beyond.mean())} points from it, "
                f"{int((beyond < 0).sum())} of them worse."
            )
    unique = frame.drop_duplicates("study") if len(frame) else frame
    for name, title in (
        ("simulated_correlation", "simulated value"),
        ("score_correlation", "support-only score"),
    ):
        values = unique[name].dropna() if len(unique) else unique
        if len(values):
            found.append(
                f"Rank correlation of the {title} with the true ToW: mean {values.mean():.2f}, "
                f"lowest {values.min():.2f} ({len(values)} "
                f"{'study' if len(values) == 1 else 'studies'})."
            )
    return [*found, *_apart(frame)]


def _apart(frame: pd.DataFrame) -> Iterator[str]:
    """How far the picks of several studies of a row lie apart, one sentence each."""
    if frame.empty or not (frame["studies"] > 1).any():
        return
    for (dataset, size, row, objective), rows in frame.groupby(OF_ONE_ROW, sort=False):
        if len(rows) < 2:
            continue
        picks = pd.DataFrame([json.loads(text) for text in rows["hyperparameters"]])
        values = ", ".join(
            f"{name} {column.min():.4g} to {column.max():.4g}" for name, column in picks.items()
        )
        text = f"{row} {dataset} n{size}, {objective}: {len(rows)} studies picked {values}"
        known = rows.dropna(subset=["gain"])
        if len(known) > 1:
            gain, tow = 100 * known["gain"], 100 * known["picked_tow"]
            low, high = signed(gain.min()), signed(gain.max())
            text += (
                f"; true ToW {tow.min():.1f} to {tow.max():.1f}, {low} to {high} points "
                f"from the defaults' in the same study (standard deviation {gain.std():.1f})"
            )
        yield f"{text}."


@dataclass(frozen=True, kw_only=True)
class StudyLine:
    """One study and objective as texts for a table; ToW in percent, "-" is missing.

    Attributes:
        study: Its name.
        objective: What the choice could see.
        points: Finished points.
        picked: Number of the chosen point, the defaults being 0, and its hyperparameters, or that
            it does nothing.
        picked_tow: True ToW of the chosen point.
        defaults_tow: That of the defaults.
        best_tow: That of the best evaluated point.
        simulated_correlation: Of the simulated value with the true ToW, by rank.
        score_correlation: The same of the support-only score.
        importance: Share of each hyperparameter in the simulated value's variation.
    """

    study: str
    objective: str
    points: str
    picked: str
    picked_tow: str
    defaults_tow: str
    best_tow: str
    simulated_correlation: str
    score_correlation: str
    importance: str


def study_lines(results: Sequence[StudyResult]) -> list[StudyLine]:
    """The studies for people, one line per study and objective."""
    found = []
    for result in results:
        shares = sorted(result.importance.items(), key=lambda item: -item[1])
        for objective, place in result.chosen.items():
            point = result.point(place).items()
            # A relative hyperparameter of 0 says that the row's own value stands.
            values = ", ".join(f"{name} {value:.4g}" for name, value in point if place or value)
            if place == result.study.nothing:
                values = "does nothing"
            found.append(
                StudyLine(
                    study=result.study.name,
                    objective=objective,
                    points=str(len(result.points)),
                    picked=f"{place or 'defaults'}: {values or 'as they are'}",
                    picked_tow=_number(result.tow_of(place), 100, 1),
                    defaults_tow=_number(result.tow_of(0), 100, 1),
                    best_tow=_number(result.best_tow, 100, 1),
                    simulated_correlation=_number(result.simulated_correlation, 1, 2),
                    score_correlation=_number(result.score_correlation, 1, 2),
                    importance=", ".join(f"{n} {100 * s:.0f}%" for n, s in shares) or "-",
                )
            )
    return found


def _number(value: float | None, scale: float, digits: int) -> str:
    return "-" if value is None or pd.isna(value) else f"{scale * value:.{digits}f}"
