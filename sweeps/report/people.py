"""How far a row's measures move with the people whom it is judged on, from the store.

The score of a row holds its measures over resamples of people (``oneshui.metrics.resampling``).
Resample number b of a set is the same in all rows that are judged on the same people: differences
between rows of a cell are taken resample by resample. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from oneshui.metrics.resampling import RESAMPLED, interval
from sweeps.graph.artifacts import PEOPLE
from sweeps.graph.plan import Plan
from sweeps.report.results import OF_A_ROW, Entries, with_rows


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
    import pyarrow as pa
    from pyarrow import parquet

    found, tables = [], []
    for row in plan.results:
        entry = entries.get(row.score_key)
        if entry is None or PEOPLE not in entry.files:
            continue
        with parquet.ParquetFile(entry.file(PEOPLE)) as file:
            tables.append(file.read(columns=list(RESAMPLED)))
        found.append(row)
    if not found:
        return pd.DataFrame(columns=[*OF_A_ROW, "resample", *RESAMPLED])
    joined: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    lengths = [len(table) for table in tables]
    joined.insert(0, "resample", np.concatenate([np.arange(it) for it in lengths]))
    return with_rows(joined, found, lengths)


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
