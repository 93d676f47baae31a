"""The paper's analyses over a whole sweep, from stored tables and features.

Who was forgotten how well, whether a support picture unlike the person's others makes forgetting
harder (Figure 4 of arXiv 2407.12069), and whether those who look like the forgotten lose more
(Figure 5). Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from oneshui.errors import InputError
from oneshui.metrics.identities import centroids, retain_drop, support_hardness, trend
from sweeps.graph.artifacts import FEATURES, PER_IDENTITY, RETAIN
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report.results import Entries
from sweeps.report.sheets import write_csv
from sweeps.store import Entry

_Part = tuple[ResultRow, pd.DataFrame]
KEYS = ["dataset", "num_forget", "method"]
SPACE = {"features": "pretrained model, input of its classifier", "distance_measure": "cosine"}


def write(plan: Plan, entries: Entries, folder: Path) -> dict[str, pd.DataFrame]:
    """Write what the finished rows allow, as tables without rows if there is none.

    ``per_identity.parquet`` (every forgotten person under every row), ``hardness.csv`` and
    ``retain_drop.csv`` (points, by seed), ``hardness_fits.csv`` and ``retain_drop_fits.csv`` (one
    line per dataset, forget size and method, over all seeds).

    Returns:
        The same tables by file name.
    """
    parts: dict[str, list[_Part]] = {PER_IDENTITY: [], "gap": [], "drop": []}
    features: dict[str, _Features | None] = {}
    for row in plan.results:
        entry = entries.get(row.score_key)
        if entry is None or not {PER_IDENTITY, RETAIN} <= entry.files.keys():
            continue
        forgotten, retained = (stored_table(entry, name) for name in (PER_IDENTITY, RETAIN))
        parts[PER_IDENTITY].append((row, forgotten))
        key = plan.jobs[row.score_key].inputs["pretrained"]
        if key not in features:
            features[key] = _Features.of(entries.get(key))
        space = features[key]
        if space is None:
            continue
        try:
            parts["gap"].append((row, space.hardness(forgotten)))
            parts["drop"].append((row, space.drop(retained, row.cell.num_forget)))
        except InputError:  # features that have no distance leave the row out of the figures
            continue
    identities = _joined(parts[PER_IDENTITY], ["identity", "images", "score", "gap"])
    identities.to_parquet(folder / PER_IDENTITY, index=False)
    tables = {PER_IDENTITY: identities}
    outcomes: tuple[tuple[Literal["gap", "drop"], str], ...] = (
        ("gap", "hardness"),
        ("drop", "retain_drop"),
    )
    for outcome, name in outcomes:
        points = _joined(parts[outcome], ["identity", "distance", outcome]).assign(**SPACE)
        tables[f"{name}.csv"] = points
        tables[f"{name}_fits.csv"] = fits(points, outcome)
        for file in (f"{name}.csv", f"{name}_fits.csv"):
            write_csv(tables[file], folder / file)
    return tables


def stored_table(entry: Entry, name: str) -> pd.DataFrame:
    """A small Parquet file of an entry; of thousands, pandas' own way takes thrice as long.

    Raises:
        DamagedEntryError: The file is absent or differs.
    """
    from pyarrow import parquet

    with parquet.ParquetFile(entry.file(name)) as file:
        found: pd.DataFrame = file.read().to_pandas()
    return found


def fits(points: pd.DataFrame, outcome: Literal["gap", "drop"]) -> pd.DataFrame:
    """A straight line and correlations for every dataset, forget size and method.

    Args:
        points: Columns dataset, num_forget, method, identity, distance and the outcome.
        outcome: Name of the column.

    Returns:
        Columns of the keys, num_points, slope, intercept, pearson, spearman and the feature space.
    """
    rows: list[dict[str, Any]] = []
    for keys, part in points.groupby(KEYS, sort=False):
        line = trend(part["distance"], part[outcome], outcome, part["identity"].to_numpy())
        values = {
            name: getattr(line, name)
            for name in ("num_points", "slope", "intercept", "pearson", "spearman")
        }
        rows.append({**dict(zip(KEYS, keys, strict=True)), **values, **SPACE})
    columns = [*KEYS, "num_points", "slope", "intercept", "pearson", "spearman", *SPACE]
    return pd.DataFrame(rows, columns=columns)


class _Features:
    """Where the people of one cell are in the pretrained model's feature space."""

    def __init__(self, path: Path) -> None:
        from safetensors.numpy import load_file

        stored = load_file(path)
        names, centres = centroids(stored["train.features"], stored["train.identities"])
        self._centre = dict(zip(names.tolist(), centres, strict=True))
        self._support = dict(
            zip(stored["support.identities"].tolist(), stored["support.features"], strict=True)
        )

    @classmethod
    def of(cls, entry: Entry | None) -> _Features | None:
        """The features of an evaluation, if it is there and has kept them."""
        return None if entry is None or FEATURES not in entry.files else cls(entry.file(FEATURES))

    def hardness(self, forgotten: pd.DataFrame) -> pd.DataFrame:
        identities = forgotten["identity"].tolist()
        return support_hardness(
            np.stack([self._support[identity] for identity in identities]),
            np.stack([self._centre[identity] for identity in identities]),
            forgotten["gap"].to_numpy(),
            identities=identities,
        ).points

    def drop(self, retained: pd.DataFrame, num_forget: int) -> pd.DataFrame:
        """Of several requests, whose drops are means, the distance is the mean of theirs as well.

        Args:
            retained: Identities and drops.
            num_forget: Identities of each request; requests are parts of the drawing's order.
        """
        identities, everybody = retained["identity"].tolist(), list(self._support)
        points = [
            retain_drop(
                np.stack([self._centre[identity] for identity in identities]),
                np.stack([self._centre[identity] for identity in everybody[start:][:num_forget]]),
                retained["drop"].to_numpy(),
                identities=identities,
            ).points
            for start in range(0, len(everybody), num_forget)
        ]
        distances = np.mean([part["distance"] for part in points], axis=0)
        return points[0].assign(distance=distances)


def _joined(parts: list[_Part], columns: list[str]) -> pd.DataFrame:
    """All tables under each other, with the row that each belongs to.

    Named after they are joined: four columns for each of thousands of tables would take seconds.
    """
    names = ["dataset", "num_forget", "seed", "method"]
    if not parts:
        return pd.DataFrame(columns=[*names, *columns])
    joined = pd.concat([table for _, table in parts], ignore_index=True)
    lengths = [len(table) for _, table in parts]
    rows = [row for row, _ in parts]
    values: dict[str, list[Any]] = {
        "dataset": [row.cell.dataset for row in rows],
        "num_forget": [row.cell.num_forget for row in rows],
        "seed": [row.cell.seed for row in rows],
        "method": [row.row.name for row in rows],
    }
    for place, name in enumerate(names):
        joined.insert(place, name, pd.Series(values[name]).repeat(lengths).to_numpy())
    return joined
