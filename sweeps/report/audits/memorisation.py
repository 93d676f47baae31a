"""Memorisation of people as what makes forgetting hard: Figure 4 with another axis.

Memorisation is measured on the models of the audit's pool, which are other models than those of
the cells. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from oneshui.spec import Role
from sweeps.graph.artifacts import MEMORISATION, PER_IDENTITY
from sweeps.graph.plan import Plan
from sweeps.report.analyses import fits, stored_table
from sweeps.report.results import OF_A_ROW, Entries, with_rows
from sweeps.report.sheets import write_csv

POINTS, FITS = "hardness_memorised.csv", "hardness_memorised_fits.csv"
AXIS = "memorisation"


def write(
    plan: Plan, entries: Entries, identities: pd.DataFrame, folder: Path
) -> dict[str, pd.DataFrame]:
    """Write the gap of every forgotten person whose memorisation is known, and the lines.

    A pool is a small part of a dataset, so hardly anybody whom a seed draws is in it. Where cells
    are there whose people memorisation chose, all of whom are, the people are theirs.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.
        identities: ``per_identity.parquet`` of ``sweeps.report.analyses.write``.
        folder: The report's.

    Returns:
        ``hardness_memorised.csv`` (columns dataset, num_forget, seed, method, identity,
        memorisation in log-odds and gap, a fraction) and ``hardness_memorised_fits.csv``
        (``sweeps.report.analyses.fits``), by file name; nothing where no forgotten person is in a
        pool.
    """
    known = []
    for dataset, pool in plan.pools.items():
        entry = entries.get(pool.memorisation_key)
        if entry is not None:
            table = stored_table(entry, MEMORISATION)[["identity", AXIS]]
            known.append(table.assign(dataset=dataset))
    if not known or identities.empty:
        return {}
    identities = _of_chosen(plan, entries, identities)
    points = identities.merge(pd.concat(known), on=["dataset", "identity"]).dropna(subset=[AXIS])
    if points.empty:
        return {}
    points = points[[*OF_A_ROW, "identity", AXIS, "gap"]]
    again = {row.row.name for row in plan.results if row.row.role is Role.RETRAIN_AGAIN}
    tables = {POINTS: points, FITS: fits(points, "gap", again, axis=AXIS)}
    for name, table in tables.items():
        write_csv(table, folder / name)
    return tables


def _of_chosen(plan: Plan, entries: Entries, drawn: pd.DataFrame) -> pd.DataFrame:
    """The forgotten people of the chosen cells, or those who were drawn where there are none."""
    rows, tables = [], []
    for row in plan.results:
        entry = None if row.chosen is None else entries.get(row.chosen.score_key)
        if entry is not None and PER_IDENTITY in entry.files:
            rows.append(row)
            tables.append(stored_table(entry, PER_IDENTITY))
    if not tables:
        return drawn
    lengths = [len(table) for table in tables]
    return with_rows(pd.concat(tables, ignore_index=True), rows, lengths)
