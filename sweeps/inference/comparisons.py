"""Rows against each other: doing nothing, the best, retraining again, and over datasets.

Every family of tests is corrected as a whole within one dataset and forget size; seeds are what
repeats. Pure functions of frames. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from oneshui.spec import Role
from sweeps.graph.launch import EQUIVALENCE_MARGIN
from sweeps.inference.intervals import t_interval, t_quantile
from sweeps.inference.retrained import YARDSTICKS, nearness
from sweeps.inference.rows import BLOCK, by_seed, gains_over_nothing, is_ranked, names, of_role
from sweeps.inference.testing import (
    ALPHA,
    Difference,
    capped,
    detectable,
    holm,
    picked_from,
)

Family = Literal[
    "nothing", "best", "retrained", "attack", "below_chance", "reference", "training", "datasets"
]
Block: TypeAlias = tuple[str, int]
"""Dataset and forget size."""

ATTACKS = ("mia_auc", "rmia_auc")
CHANCE = "chance"
"""What stands for a row where an attack is held against guessing."""


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two rows compared seed by seed.

    Attributes:
        family: "nothing": a row against doing nothing, two-sided. "best": the row with the highest
            mean against another one, for being better. "retrained": a row against retraining
            again, for being within the margin. "attack": what an attack makes of a row against
            what it makes of retraining again, two-sided. "below_chance": what an attack makes of
            a row against the lower of guessing and what it makes of the retrained models, for being
            below. "reference": every other row against a row of choice, two-sided. "training":
            what a row gains over doing nothing against what it gains after longer training.
            "datasets": as "nothing", over datasets.
        dataset: Name; over datasets empty, or the sweep's where several are joined.
        num_forget: Identities in the request; 0 over datasets.
        measure: What is compared.
        method: Name of the first row.
        other: Name of the second.
        num: Seeds that have both; datasets, over datasets.
        difference: Mean of first minus second, a fraction; NaN without pairs.
        low: Lower end of its 95 % interval (Student's, over seeds or datasets).
        high: Its upper end.
        people_low: Lower end of its 95 % interval over people: resampled within these seeds, so
            it says nothing about other trainings. NaN where it is not known.
        people_high: Its upper end.
        error: Standard error of the difference.
        p: Of this test alone.
        p_corrected: After correction for its family.
    """

    family: Family
    dataset: str
    num_forget: int
    measure: str = "tow"
    method: str
    other: str
    num: int
    difference: float
    low: float
    high: float
    people_low: float = math.nan
    people_high: float = math.nan
    error: float
    p: float
    p_corrected: float = math.nan

    @property
    def is_shown(self) -> bool:
        """Whether the corrected test shows what its family asks."""
        return self.p_corrected <= ALPHA

    @property
    def block(self) -> Block:
        """Its dataset and forget size."""
        return self.dataset, self.num_forget


@dataclass(frozen=True, kw_only=True, eq=False)
class People:
    """Measures of one dataset and forget size with people drawn again.

    Attributes:
        values: By measure, resamples of every seed by methods.
        freedom: People who were forgotten, less one for each seed.
    """

    values: Mapping[str, pd.DataFrame]
    freedom: float

    @classmethod
    def of(cls, drawn: pd.DataFrame, rows: pd.DataFrame) -> People:
        """Side by side.

        Args:
            drawn: From ``sweeps.report.people.resamples``.
            rows: Of the results.
        """
        index = ["seed", "resample"]
        return cls(
            values={
                measure: drawn.pivot(index=index, columns="method", values=measure)
                for measure in ("tow", *ATTACKS)
            },
            freedom=float((rows.groupby("seed")["forget_people"].max() - 1).sum()),
        )

    def interval(
        self, measure: str, method: str, other: str, difference: Difference
    ) -> tuple[float, float]:
        """95 % interval of a mean difference over seeds that have both, people drawn in each.

        NaN where a seed has no resamples, whose people would count as if they could not vary.

        About the difference itself: the mean over resamples is lower, because a gap that is
        about zero only grows when people are drawn again.
        """
        table = self.values.get(measure)
        if table is None or self.freedom < 1 or not {method, other} <= set(table.columns):
            return math.nan, math.nan
        drawn = (table[method] - table[other]).unstack("seed").dropna(axis="columns", how="all")
        if drawn.shape[1] < difference.num:
            return math.nan, math.nan
        half = float(t_quantile(0.975, self.freedom)) * float(drawn.mean(axis=1).std(ddof=1))
        return difference.mean - half, difference.mean + half


NOBODY = People(values={}, freedom=0.0)


def blocks(frame: pd.DataFrame) -> Iterable[tuple[Block, pd.DataFrame]]:
    """The rows of every dataset and forget size."""
    for (dataset, num_forget), rows in frame.groupby(BLOCK, sort=False):
        yield (str(dataset), int(str(num_forget))), rows


def comparisons(
    frame: pd.DataFrame,
    people: pd.DataFrame | None = None,
    margin: float = EQUIVALENCE_MARGIN,
    reference: str = "",
    pictures: Mapping[str, str] | None = None,
) -> list[PairedTest]:
    """All that a report compares.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
        people: From ``sweeps.report.people.resamples``.
        margin: Of equivalence with retraining, in ToW.
        reference: The row of choice; empty for none.
        pictures: What stands for the pictures of each dataset; None if no two have the same.
    """
    found: list[PairedTest] = []
    resampled = {} if people is None else dict(blocks(people))
    for block, rows in blocks(frame):
        own = People.of(resampled[block], rows) if block in resampled else NOBODY
        found += against_nothing(block, rows, own)
        found += best_against_others(block, rows, own)
        found += against_retrained(block, rows, margin)
        found += attacked_as_retrained(block, rows, own)
        found += forgotten_too_much(block, rows)
        found += against_reference(block, rows, reference, own)
    return found + over_datasets(found, pictures)


def against_nothing(block: Block, rows: pd.DataFrame, people: People = NOBODY) -> list[PairedTest]:
    """Every ranked row of a dataset and forget size against doing nothing, corrected by Holm."""
    nothing = of_role(rows, Role.PRETRAIN)
    if nothing is None:
        return []
    gains = gains_over_nothing(rows)
    return _corrected(
        _paired("nothing", block, "tow", gains[name], str(name), nothing, people) for name in gains
    )


def best_against_others(
    block: Block, rows: pd.DataFrame, people: People = NOBODY
) -> list[PairedTest]:
    """The row with the highest mean ToW against every other, corrected for having been picked.

    It is shown to be best if it is shown to be better than each of them.
    """
    tow = by_seed(rows, "tow").reindex(columns=names(rows[is_ranked(rows)]))
    tow = tow.dropna(axis="columns", how="all")
    common = tow.dropna()
    if tow.shape[1] < 2 or common.empty:
        return []
    best = str(common.mean().idxmax())
    others = [name for name in tow if name != best]
    found = []
    for name in others:
        values, is_better = tow[best] - tow[name], partial(Difference.p_above, bound=0.0)
        test = _paired("best", block, "tow", values, best, str(name), people, is_better)
        corrected = capped(picked_from(tow.shape[1]) * test.p)
        found.append(dataclasses.replace(test, p_corrected=corrected))
    return found


def against_retrained(
    block: Block, rows: pd.DataFrame, margin: float = EQUIVALENCE_MARGIN
) -> list[PairedTest]:
    """Every ranked row and doing nothing, for being as near to retraining as retraining itself.

    The difference is the row's ToW against the retrained models of a cell minus the ToW that these
    have among themselves; two one-sided tests against the margin, corrected by Holm.
    """
    near = nearness(rows)
    if near.empty:
        return []
    again = names(rows[rows["role"] == Role.RETRAIN_AGAIN])[0]
    level = near.groupby("seed")["level"].first()
    own = by_seed(near, "nearness")
    compared = rows[is_ranked(rows) | (rows["role"] == Role.PRETRAIN)]
    nearer = own.reindex(columns=names(compared)).sub(level, axis=0)
    is_within = partial(Difference.p_within, margin=margin)
    return _corrected(
        _paired("retrained", block, "tow", nearer[name], name, again, asked=is_within)
        for name in names(compared)
    )


def attacked_as_retrained(
    block: Block, rows: pd.DataFrame, people: People = NOBODY
) -> list[PairedTest]:
    """What attacks make of every ranked row against retraining again in the same cell.

    Chance is no yardstick: an attack finds forget images of a model that was retrained without them
    with an AUC away from .5, because these people are others than those of the test set.
    """
    found: list[PairedTest] = []
    again = of_role(rows, Role.RETRAIN_AGAIN)
    if again is None:
        return found
    for measure in ATTACKS:
        values = by_seed(rows, measure)
        compared = names(rows[is_ranked(rows) | (rows["role"] == Role.PRETRAIN)])
        found += _corrected(
            _paired("attack", block, measure, values[name] - values[again], name, again, people)
            for name in compared
        )
    return found


def forgotten_too_much(block: Block, rows: pd.DataFrame) -> list[PairedTest]:
    """Every row that unlearns, for an attack that finds less in it than guessing would.

    Who answers "not a member" with more than even odds tells on those who asked to be forgotten.
    Retrained models may lie below chance as well, so a row has to be below both: in every seed its
    value is held against the lower of .5 and the mean of the retrained models of the cell.
    """
    found: list[PairedTest] = []
    retrained = names(rows[rows["role"].isin(YARDSTICKS)])
    is_below = partial(Difference.p_below, bound=0.0)
    for measure in ATTACKS:
        values = by_seed(rows, measure)
        level = values[retrained].mean(axis=1).fillna(0.5).clip(upper=0.5)
        found += _corrected(
            _paired(
                "below_chance", block, measure, values[name] - level, name, CHANCE, asked=is_below
            )
            for name in names(rows[rows["role"] == Role.METHOD])
            if values[name].notna().any()
        )
    return found


def against_reference(
    block: Block, rows: pd.DataFrame, reference: str, people: People = NOBODY
) -> list[PairedTest]:
    """Every row that has a ToW of its own against a row of choice, corrected by Holm."""
    compared = names(rows[(rows["role"] != Role.RETRAIN) & rows["tow"].notna()])
    if reference not in compared:
        return []
    tow = by_seed(rows, "tow")
    return _corrected(
        _paired("reference", block, "tow", tow[name] - tow[reference], name, reference, people)
        for name in compared
        if name != reference
    )


def after_longer_training(
    block: Block, rows: pd.DataFrame, longer: pd.DataFrame, other: str
) -> list[PairedTest]:
    """What every ranked row gains over doing nothing, against its gain in a model trained longer.

    Seeds are paired: both models are of the same people in the same split. Two-sided, corrected by
    Holm.

    Args:
        block: Dataset and forget size of the rows.
        rows: Of the results.
        longer: Of the results of the dataset whose model was trained longer.
        other: Its name, which stands for the second row.
    """
    first, last = (gains_over_nothing(part) for part in (rows, longer))
    return _corrected(
        _paired("training", block, "tow", first[name] - last[name], name, other)
        for name in first.columns.intersection(last.columns, sort=False)
    )


def over_datasets(
    tests: Sequence[PairedTest], pictures: Mapping[str, str] | None = None
) -> list[PairedTest]:
    """Every ranked row against doing nothing over datasets, which are not exchangeable cells.

    The forget sizes of a dataset count as one, and so do datasets of the same pictures; what is
    tested is the mean over datasets of which these are a sample: Student's test of their means, a
    random-effects model in which datasets weigh alike.

    Args:
        tests: Of the family "nothing".
        pictures: What stands for the pictures of each dataset; None if no two have the same.

    Returns:
        Nothing with a single dataset.
    """
    own = [test for test in tests if test.family == "nothing" and test.num]
    same = pictures or {}
    if len({same.get(test.dataset, test.dataset) for test in own}) < 2:
        return []
    gains: dict[tuple[str, str], dict[str, list[float]]] = {}
    for test in own:
        of_row = gains.setdefault((test.method, test.other), {})
        of_row.setdefault(same.get(test.dataset, test.dataset), []).append(test.difference)
    return _corrected(
        _paired(
            "datasets",
            ("", 0),
            "tow",
            pd.Series([float(np.mean(sizes)) for sizes in of_row.values()]),
            *pair,
        )
        for pair, of_row in gains.items()
    )


def _paired(
    family: Family,
    block: Block,
    measure: str,
    differences: pd.Series[float],
    method: str,
    other: str,
    people: People = NOBODY,
    asked: Callable[[Difference], float] = Difference.p,
) -> PairedTest:
    """Two rows over seeds; ``asked`` gives the p of what the family asks of their difference."""
    values = differences.dropna().to_numpy()
    difference = Difference.of(values)
    # Seeds that are all equal did not repeat anything, and have no interval.
    low, high = (math.nan, math.nan) if math.isnan(difference.error) else t_interval(values)
    of_people = people.interval(measure, method, other, difference)
    return PairedTest(
        family=family,
        dataset=block[0],
        num_forget=block[1],
        measure=measure,
        method=method,
        other=other,
        num=difference.num,
        difference=difference.mean,
        low=low,
        high=high,
        people_low=of_people[0],
        people_high=of_people[1],
        error=difference.error,
        p=asked(difference),
    )


def _corrected(tests: Iterable[PairedTest]) -> list[PairedTest]:
    found = list(tests)
    p_values = holm([test.p for test in found])
    return [
        dataclasses.replace(test, p_corrected=p) for test, p in zip(found, p_values, strict=True)
    ]


def best_of(tests: Sequence[PairedTest], block: Block) -> tuple[str | None, bool]:
    """The row with the highest mean ToW of a block, and whether it is shown to be the best."""
    own = [test for test in tests if test.family == "best" and test.block == block]
    return (own[0].method, all(test.is_shown for test in own)) if own else (None, False)


def support_statement(tests: Sequence[PairedTest]) -> str:
    """What the number of seeds can support, in one or two sentences; empty without tests."""
    own = [test for test in tests if test.family == "nothing" and test.num]
    if not own:
        return ""
    by_block: Mapping[Block, list[PairedTest]] = {
        test.block: [one for one in own if one.block == test.block] for test in own
    }
    fewest = min(test.num for test in own)
    if max(test.num for test in own) < 2:
        return "One seed says nothing about differences between rows: add seeds."
    found = {
        block: detectable([test.error for test in some], max(t.num for t in some), len(some))
        for block, some in by_block.items()
    }
    known = sorted(value for value in found.values() if not math.isnan(value))
    seeds = "1 seed" if fewest == 1 else f"{fewest} seeds"
    rows = max(map(len, by_block.values()))
    compete = f"{rows} rows that compete" if rows > 1 else "one row that competes"
    said = (
        f"Tests are Student's on differences within a seed ({seeds} at least), in each dataset and "
        f"forget size, corrected for the {compete} there."
    )
    if not known:
        return said
    points = " to ".join(dict.fromkeys(f"{100 * value:.1f}" for value in (known[0], known[-1])))
    return (
        f"{said} At the spread seen here, a difference to doing nothing of {points} points of ToW "
        "is found in 4 of 5 such sweeps; smaller ones need more seeds."
    )
