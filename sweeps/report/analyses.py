"""The paper's analyses over a whole sweep, from stored tables and features.

Who was forgotten how well, whether a support picture unlike the person's others makes forgetting
harder (Figure 4 of arXiv 2407.12069), and whether those who look like the forgotten lose more
(Figure 5). Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from oneshui.errors import InputError
from oneshui.metrics.identities import centroids, forget_distances, support_distances
from oneshui.metrics.trends import Trend, trend
from oneshui.spec import Role
from sweeps.graph.artifacts import FEATURES, PER_IDENTITY, RETAIN
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report.results import OF_A_ROW, Entries, with_rows
from sweeps.report.sheets import write_csv
from sweeps.store import Entry

_Part = tuple[ResultRow, pd.DataFrame]
KEYS = ["dataset", "num_forget", "method"]
PERSON = ["seed", "identity"]
OF_A_LINE = ("num_people", "num_points", "num_seeds", "slope", "slope_low", "slope_high")
MINUS_AGAIN = ("slope_minus_again", "slope_minus_again_low", "slope_minus_again_high")
OF_A_TREND = ("intercept", "pearson", "pearson_low", "pearson_high", "spearman")
SPACE = {"features": "pretrained model, input of its classifier", "distance_measure": "cosine"}


def write(plan: Plan, entries: Entries, folder: Path) -> dict[str, pd.DataFrame]:
    """Write what the finished rows allow, as tables without rows if there is none.

    ``per_identity.parquet`` (every forgotten person under every row), ``hardness.csv`` and
    ``retain_drop.csv`` (points, by seed), ``hardness_fits.csv`` and ``retain_drop_fits.csv`` (one
    line per dataset, forget size and method, over all seeds: ``fits``).

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
            features[key] = _Features.of(entries.get(key), row.cell.num_forget)
        space = features[key]
        if space is None:
            continue
        try:
            placed = [
                table.assign(distance=table["identity"].map(distances))
                for table, distances in (
                    (forgotten, space.from_support),
                    (retained, space.from_forgotten),
                )
            ]
        except InputError:  # features that have no distance leave the row out of the figures
            continue
        for outcome, part in zip(("gap", "drop"), placed, strict=True):
            parts[outcome].append((row, part[["identity", "distance", outcome]]))
    again = {row.row.name for row in plan.results if row.row.role is Role.RETRAIN_AGAIN}
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
        tables[f"{name}_fits.csv"] = fits(points, outcome, again)
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


def fits(
    points: pd.DataFrame,
    outcome: Literal["gap", "drop"],
    again: Collection[str] = (),
    axis: str = "distance",
) -> pd.DataFrame:
    """A straight line and correlations for every dataset, forget size and method.

    One slope over all seeds, each with an intercept of its own, and intervals over people:
    ``oneshui.metrics.trends``. ``slope_minus_again`` says what a row shows beyond the noise of
    training: its slope minus retraining again's on the people and seeds that both have, with the
    paired interval. It is null for rows that retrain again and without any, and where the outcome
    does not vary, because the row is measured against itself.

    Args:
        points: Columns dataset, num_forget, seed, method, identity, the axis and the outcome.
        outcome: Name of the column.
        again: Rows that retrain again; of several, their mean.
        axis: Name of the column that the line goes over.

    Returns:
        Columns of the keys, num_people, num_points, num_seeds, slope, slope_minus_again and
        pearson, each with the ends ``_low`` and ``_high`` of its interval, intercept, spearman
        and, of a distance, the feature space.
    """
    space = SPACE if axis == "distance" else {}
    rows: list[dict[str, Any]] = []
    for (dataset, num_forget), block in points.groupby(KEYS[:2], sort=False):
        noise = block[block["method"].isin(again)].groupby(PERSON)[outcome].mean()
        block = block.join(noise.rename("again"), on=PERSON)
        for method, part in block.groupby("method", sort=False):
            line = _trend(part, part[outcome], outcome, axis)
            values: dict[str, Any] = dict(zip(KEYS, (dataset, num_forget, method), strict=True))
            values |= {name: getattr(line, name) for name in (*OF_A_LINE, *OF_A_TREND)}
            common = part[part["again"].notna()]
            if method not in again and len(common) and part[outcome].nunique() > 1:
                line = _trend(common, common[outcome] - common["again"], outcome, axis)
                values |= zip(
                    MINUS_AGAIN, (line.slope, line.slope_low, line.slope_high), strict=True
                )
            rows.append({**values, **space})
    columns = [*KEYS, *OF_A_LINE, *MINUS_AGAIN, *OF_A_TREND, *space]
    return pd.DataFrame(rows, columns=columns)


def _trend(points: pd.DataFrame, values: pd.Series[Any], outcome: str, axis: str) -> Trend:
    identities, seeds = (points[name].to_numpy() for name in ("identity", "seed"))
    return trend(points[axis], values, outcome, identities, seeds)


class _Features:
    """Where the people of one cell are in the pretrained model's feature space."""

    def __init__(self, path: Path, num_forget: int) -> None:
        from safetensors.numpy import load_file

        self._num_forget = num_forget
        stored = load_file(path)
        names, centres = centroids(stored["train.features"], stored["train.identities"])
        self._centre = dict(zip(names.tolist(), centres, strict=True))
        self._support = dict(
            zip(stored["support.identities"].tolist(), stored["support.features"], strict=True)
        )

    @classmethod
    def of(cls, entry: Entry | None, num_forget: int) -> _Features | None:
        """The features of an evaluation, if it is there and has kept them."""
        if entry is None or FEATURES not in entry.files:
            return None
        return cls(entry.file(FEATURES), num_forget)

    @cached_property
    def from_support(self) -> dict[int, float]:
        """How far every forgotten person's support image is from the person's centroid."""
        own = np.stack([self._centre[identity] for identity in self._support])
        distances = support_distances(np.stack(list(self._support.values())), own)
        return dict(zip(self._support, distances.tolist(), strict=True))

    @cached_property
    def from_forgotten(self) -> dict[int, float]:
        """How far everybody else's centroid is from the nearest forgotten person's.

        Of several requests, each a part of the drawing's order, the mean over them.
        """
        others = {name: at for name, at in self._centre.items() if name not in self._support}
        forgotten, centres = list(self._support), np.stack(list(others.values()))
        of_requests = [
            forget_distances(
                centres,
                np.stack([self._centre[name] for name in forgotten[start:][: self._num_forget]]),
            )
            for start in range(0, len(forgotten), self._num_forget)
        ]
        distances = np.mean(of_requests, axis=0)
        return dict(zip(others, distances.tolist(), strict=True))


def _joined(parts: list[_Part], columns: list[str]) -> pd.DataFrame:
    """All tables under each other, with the row that each belongs to."""
    if not parts:
        return pd.DataFrame(columns=[*OF_A_ROW, *columns])
    joined = pd.concat([table for _, table in parts], ignore_index=True)
    return with_rows(joined, [row for row, _ in parts], [len(table) for _, table in parts])
