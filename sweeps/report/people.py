"""How far a row's measures move with the people whom it is judged on, from the store.

The score of a row holds its measures over resamples of people (``oneshui.metrics.resampling``).
Resample number b of a set is the same in all rows that are judged on the same people: differences
between rows of a cell are taken resample by resample. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from oneshui.metrics.resampling import RESAMPLED, interval
from sweeps.graph.artifacts import PEOPLE
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report.results import Entries

KEYS = ["dataset", "num_forget", "seed", "method"]


def resamples(plan: Plan, entries: Entries) -> pd.DataFrame:
    """The measures of all finished rows in every resample of people.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.

    Returns:
        Columns dataset, num_forget, seed, method, resample (from 0) and
        ``oneshui.metrics.resampling.RESAMPLED``, fractions; null is undefined.

    Raises:
        DamagedEntryError: A file is absent or differs.
    """
    return resamples_of(plan.results, entries)


def resamples_of(rows: Iterable[ResultRow], entries: Entries) -> pd.DataFrame:
    """As ``resamples``, of some rows.

    Joined before they are named: columns for each of thousands of tables would take seconds.

    Raises:
        DamagedEntryError: A file is absent or differs.
    """
    import pyarrow as pa
    from pyarrow import parquet

    found, tables = [], []
    for row in rows:
        entry = entries.get(row.score_key)
        if entry is None or PEOPLE not in entry.files:
            continue
        with parquet.ParquetFile(entry.file(PEOPLE)) as file:
            tables.append(file.read(columns=list(RESAMPLED)))
        found.append(row)
    if not found:
        return pd.DataFrame(columns=[*KEYS, "resample", *RESAMPLED])
    joined: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    lengths = [len(table) for table in tables]
    names = {
        "dataset": [row.cell.dataset for row in found],
        "num_forget": [row.cell.num_forget for row in found],
        "seed": [row.cell.seed for row in found],
        "method": [row.row.name for row in found],
    }
    for place, (name, values) in enumerate(names.items()):
        joined.insert(place, name, pd.Series(values).repeat(lengths).to_numpy())
    joined.insert(len(KEYS), "resample", np.concatenate([np.arange(it) for it in lengths]))
    return joined


def people_spread(drawn: pd.DataFrame) -> pd.DataFrame:
    """Standard error of every measure of every row, with people as what is sampled.

    Args:
        drawn: From ``resamples``.

    Returns:
        Columns dataset, num_forget, seed, method and ``<measure>_se``: the standard deviation over
        resamples (n - 1), in fractions; null where the measure is null in a resample, as on a set
        of a single person.
    """
    groups = drawn.groupby(KEYS, sort=False)[list(RESAMPLED)]
    spread, undefined = groups.std(), groups.count().lt(groups.size(), axis=0)
    return spread.mask(undefined).add_suffix("_se").reset_index()


def mean_interval(
    rows: pd.DataFrame, drawn: pd.DataFrame, measure: str
) -> tuple[float, float] | None:
    """95 % interval over people of the mean over seeds of a row's measure.

    The seeds are taken as they are: other splits and trainings are not part of it.

    Args:
        rows: The row's seeds in the results table.
        drawn: The same seeds in the table of ``resamples``.
        measure: One of ``oneshui.metrics.resampling.RESAMPLED``.

    Returns:
        None where a seed has no resamples, and where ``oneshui.metrics.resampling.interval`` has
        none.
    """
    if drawn["seed"].nunique() < len(rows):
        return None
    means = drawn.groupby("resample")[measure].mean()
    people = int(rows[["forget_people", "test_people"]].to_numpy().min())
    return interval(float(rows[measure].mean()), means, people)
