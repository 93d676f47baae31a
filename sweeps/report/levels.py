"""Where seeds are nested: how much of the spread is of trainings, of unlearnings, of evaluations.

Every seed is a training, which is unlearned several times, and each of those evaluated several
times. With t trainings, u unlearnings of each and e evaluations of each of those, all as many,
analysis of variance gives each level's own: with m the means over what lies below,

    var_e = mean of the variances over evaluations
    var_u = mean of the variances of m over unlearnings  - var_e / e
    var_t = variance of m over trainings                 - mean variance of m over unlearnings / u

(ddof 1; a negative one counts as 0). Source: any text on nested random effects, e.g. Searle,
Casella and McCulloch, "Variance components" (1992). Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweeps.graph.plan import Plan
from sweeps.graph.spec import NestedSpec, SweepSpec
from sweeps.report.measures import CATALOGUE, PANELS
from sweeps.store import Entry

LEVELS = ("training", "unlearning", "evaluation")
COLUMNS = [
    *("dataset", "num_forget", "method", "measure"),
    *("trainings", "unlearnings", "evaluations", "mean"),
    *(f"{level}_std" for level in LEVELS),
]


def components(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Standard deviations of trainings, unlearnings and evaluations.

    Args:
        values: [trainings, unlearnings, evaluations].

    Returns:
        NaN for a level that occurs once.
    """
    _, unlearnings, evaluations = values.shape
    of_evaluations = _variance(values, 2)
    of_unlearnings = _variance(values.mean(2), 1)
    of_trainings = _variance(values.mean((1, 2)), 0)
    found = (
        of_trainings - _known(of_unlearnings) / unlearnings,
        of_unlearnings - _known(of_evaluations) / evaluations,
        of_evaluations,
    )
    if unlearnings == 1:
        # Whatever evaluations draw is all that lies below.
        found = (of_trainings - _known(of_evaluations) / evaluations, *found[1:])
    trainings, unlearned, evaluated = (
        math.nan if math.isnan(variance) else math.sqrt(max(0.0, variance)) for variance in found
    )
    return trainings, unlearned, evaluated


def _variance(values: npt.NDArray[np.float64], axis: int) -> float:
    if values.shape[axis] < 2:
        return math.nan
    return float(values.var(axis=axis, ddof=1).mean())


def _known(variance: float) -> float:
    return 0.0 if math.isnan(variance) else variance


def spreads(plan: Plan, entries: Mapping[str, Entry]) -> pd.DataFrame:
    """The spread of every measure by level.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.

    Returns:
        Columns ``COLUMNS``: fractions, with a line per measure that the tables show of every row
        with finished replicates, over the trainings that have all of theirs; empty where seeds
        are not nested.
    """
    nested = plan.sweep.nested
    if nested is None:
        return pd.DataFrame(columns=COLUMNS)
    shown = dict.fromkeys(key for panel in PANELS for key in panel)
    trainings: dict[tuple[str, int, str], list[list[Mapping[str, object]]]] = {}
    for row in plan.results:
        scores = [
            entries[one.score_key].value for one in row.replicates if one.score_key in entries
        ]
        same = trainings.setdefault((row.cell.dataset, row.cell.num_forget, row.row.name), [])
        if len(scores) == len(row.replicates):
            same.append(scores)
    lines = []
    for key, own in trainings.items():
        for measure in shown if own else ():
            values = _table(own, measure, nested)
            if values is not None:
                lines.append((*key, measure, *values.shape, values.mean(), *components(values)))
    return pd.DataFrame(lines, columns=COLUMNS)


def _table(
    trainings: Sequence[Sequence[Mapping[str, object]]], measure: str, nested: NestedSpec
) -> npt.NDArray[np.float64] | None:
    """[trainings, unlearnings, evaluations]; None where a value is missing."""
    found = [[score.get(measure) for score in scores] for scores in trainings]
    if any(value is None for values in found for value in values):
        return None
    return np.array(found, dtype=np.float64).reshape(-1, nested.unlearning, nested.evaluation)


def nested_notes(sweep: SweepSpec) -> tuple[str, ...]:
    """What the spreads of the tables are of, where seeds are nested."""
    nested = sweep.nested
    if nested is None:
        return ()
    return (
        "Seeds are nested (sweep.vary=nested): every seed is a training with a split of its own, "
        f"unlearned {_times(nested.unlearning)} and evaluated {_times(nested.evaluation)} each. "
        "What stands after ± here, and every interval and test, is of trainings alone, each the "
        "mean of its unlearnings and evaluations; n counts trainings. How far unlearnings and "
        "evaluations of one training lie apart: spreads.csv.",
    )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def spread_lines(found: pd.DataFrame) -> list[tuple[str, ...]]:
    """The spreads in points, as texts: request, row, measure, mean and the three levels.

    Args:
        found: From ``spreads``.
    """
    lines = []
    for row in found.to_dict("records"):
        measure = CATALOGUE[row["measure"]]
        if measure.unit != "fraction":
            continue
        numbers = (row["mean"], *(row[f"{level}_std"] for level in LEVELS))
        lines.append(
            (
                f"{row['dataset']} n{row['num_forget']}",
                str(row["method"]),
                measure.title or row["measure"],
                *("-" if math.isnan(value) else f"{100 * value:.2f}" for value in numbers),
            )
        )
    return lines
