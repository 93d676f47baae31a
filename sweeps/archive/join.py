"""One report over several finished sweeps, read where they are: nothing is run and nothing copied.

Tests, ranks, intervals and marks are each sweep's own, as its report has them: rows of two sweeps
are never tested against each other, whose networks, people or recipes differ. Datasets carry the
name of their sweep, so each dataset and forget size of each sweep is a block of its own. Must not
import torch, Ray or MLflow.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from sweeps.graph.cells import pictures_of
from sweeps.graph.plan import Plan
from sweeps.inference.comparisons import PairedTest
from sweeps.inference.evidence import Evidence
from sweeps.report import formats, provenance, tables
from sweeps.report.cards import Card, cards
from sweeps.report.figures.style import looks_of
from sweeps.report.findings import Finding
from sweeps.report.grid import grid_of
from sweeps.report.page import around, replacing
from sweeps.report.people import resamples
from sweeps.report.rendering import render
from sweeps.report.results import announce, announced_frame
from sweeps.report.saturation import saturation
from sweeps.report.sheets import write_csv
from sweeps.report.summary import summarise
from sweeps.report.tracing import packed, traces
from sweeps.store import Entry

SWEEP = "sweep"
"""The column that says which sweep a row is of."""
_INPUTS, _HAS_LOG = 6, 7
"""Where a job of ``traces`` has them."""
WITHIN = (
    "Ranks, tests, marks and intervals are of each sweep by itself: rows of different sweeps are "
    "beside each other, and never tested against each other."
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the sweeps that are joined.

    Attributes:
        name: How it is called among the others.
        folder: Its output folder.
        plan: Its graph.
        entries: Its finished jobs by key.
        margin: Of ToW, in which a row counts as good as retrained.
    """

    name: str
    folder: Path
    plan: Plan
    entries: Mapping[str, Entry]
    margin: float

    def qualified(self, dataset: str) -> str:
        """A dataset with the name of its sweep."""
        return f"{self.name}: {dataset}"

    @cached_property
    def plain(self) -> pd.DataFrame:
        """The results, as the sweep's own report has them, once all measures are announced."""
        return announced_frame(self.plan, self.entries)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The same with qualified datasets."""
        return self._named(self.plain)

    @cached_property
    def evidence(self) -> Evidence:
        """What is tested within the sweep."""
        found = Evidence.of(
            self.frame,
            self._named(resamples(self.plan, self.entries)),
            self.margin,
            pictures={self.qualified(n): it for n, it in pictures_of(self.plan.sweep).items()},
        )
        tests = (
            dataclasses.replace(test, dataset=test.dataset or self.name) for test in found.tests
        )
        return dataclasses.replace(found, tests=tuple(tests))

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Means over the seeds."""
        return summarise(self.frame, self.evidence)

    @cached_property
    def cards(self) -> tuple[list[Card], list[Finding]]:
        """What is found, and what is found over datasets."""
        found, across = cards(self.frame, self.evidence)
        across = [*across, *saturation(self.plan.sweep, self.plain)]
        return found, [
            dataclasses.replace(one, title=f"{self.name}: {one.title}") for one in across
        ]

    @cached_property
    def overall(self) -> pd.DataFrame:
        """Rows over all datasets and forget sizes of the sweep."""
        own = self.evidence.overall
        return own.assign(method=[f"{self.name}: {method}" for method in own["method"]])

    def _named(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(dataset=[self.qualified(name) for name in frame["dataset"]])

    def written(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A table with the sweep in a column of its own, and its own names of datasets."""
        before = self.qualified("")
        plain = frame.assign(dataset=[str(name).removeprefix(before) for name in frame["dataset"]])
        plain.insert(0, SWEEP, self.name)
        return plain


def names_of(sweeps: Sequence[tuple[str, Path]]) -> list[str]:
    """What the sweeps are called: their names, where these repeat with their folders'.

    Args:
        sweeps: Name and output folder of each.
    """
    times = Counter(name for name, _ in sweeps)
    named = [name if times[name] == 1 else f"{name} in {folder.name}" for name, folder in sweeps]
    again = Counter(named)
    return [
        name if again[name] == 1 else f"{sweep} in {folder}"
        for name, (sweep, folder) in zip(named, sweeps, strict=True)
    ]


def joined_summary(parts: Sequence[Part]) -> pd.DataFrame:
    """The summaries of all sweeps under each other, datasets qualified."""
    announce(*((part.plan, part.entries) for part in parts))
    return pd.concat([part.summary for part in parts], ignore_index=True)


def write_joined(parts: Sequence[Part], output: Path, why: str) -> Path:
    """Write ``<output>/report`` whole, or leave the one that is there as it is.

    Args:
        parts: The sweeps, each name once.
        output: The folder, none of theirs.
        why: The command that says where a number comes from, in a sweep's own folder.

    Returns:
        Path of ``index.html``.

    Raises:
        OSError: The folder cannot be written.
    """
    summary = joined_summary(parts)
    evidence = _together(parts)
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / "report") as folder:
        _write(parts, evidence, folder)
        said = _said(parts, summary, evidence)
        (folder / "summary.md").write_text(formats.markdown(summary, said), encoding="utf-8")
        (folder / "summary.tex").write_text(formats.latex(summary, said), encoding="utf-8")
        page = _page(parts, summary, evidence, said, why)
        (folder / "index.html").write_text(page, encoding="utf-8")
    return output / "report" / "index.html"


def _said(parts: Sequence[Part], summary: pd.DataFrame, evidence: Evidence) -> tuple[str, ...]:
    """What stands below the tables; what holds of one sweep in its name."""
    sweeps = [(part.name, part.plan.sweep) for part in parts]
    return (
        WITHIN,
        *tables.notes(summary, evidence),
        *tables.protection_notes(pd.concat([part.plain for part in parts], ignore_index=True)),
        *(
            f"{name}: {note}"
            for name, sweep in sweeps
            for note in (
                *tables.fixed_notes(sweep.cells[0].vary),
                *tables.pretrained_notes(sweep.pretrained),
            )
        ),
    )


def _together(parts: Sequence[Part]) -> Evidence:
    """The evidence of all sweeps; what is over datasets is of one sweep each."""
    return Evidence(
        tests=tuple(test for part in parts for test in part.evidence.tests),
        levels={block: it for part in parts for block, it in part.evidence.levels.items()},
        overall=pd.concat([part.overall for part in parts], ignore_index=True),
        margin=parts[0].margin,
        people=None,
    )


def _write(parts: Sequence[Part], evidence: Evidence, folder: Path) -> None:
    """The tables that programs read."""

    def under(table: Callable[[Part], pd.DataFrame]) -> pd.DataFrame:
        return pd.concat([part.written(table(part)) for part in parts], ignore_index=True)

    for name, table in (
        ("results", under(lambda part: part.frame)),
        ("summary", under(lambda part: part.summary)),
    ):
        table.to_parquet(folder / f"{name}.parquet", index=False)
        write_csv(table, folder / f"{name}.csv")
    columns = [field.name for field in dataclasses.fields(PairedTest)]
    write_csv(
        under(
            lambda part: pd.DataFrame(map(dataclasses.asdict, part.evidence.tests), columns=columns)
        ),
        folder / "comparisons.csv",
    )
    write_csv(evidence.overall, folder / "overall.csv")


def _page(
    parts: Sequence[Part],
    summary: pd.DataFrame,
    evidence: Evidence,
    said: Sequence[str],
    why: str,
) -> str:
    colours = {name: look.colour for name, look in looks_of(summary).items() if look.is_own}
    grid = grid_of(summary, colours, "nothing", said)
    return render(
        "joined.html.j2",
        title=" and ".join(part.name for part in parts),
        parts=[
            {
                "name": part.name,
                "folder": part.folder.name,
                "network": f"{part.plan.sweep.model.name} at {part.plan.sweep.model.image_size} "
                f"pixels, starting weights: {part.plan.sweep.model.weights}",
                "finished": int(part.plain["tow"].notna().sum()),
                "results": len(part.plain),
                "datasets": provenance.datasets(part.plan, part.entries),
                "methods": provenance.methods(part.plan, part.entries),
            }
            for part in parts
        ],
        cards=[card for part in parts for card in part.cards[0]],
        findings=[finding for part in parts for finding in part.cards[1]],
        **around(grid, colours, evidence, said),
        traces=packed(_traces(parts)),
        why=why,
    )


def _traces(parts: Sequence[Part]) -> Mapping[str, Any]:
    """What is behind all rows of all sweeps; logs stay with their sweeps."""
    jobs: list[list[Any]] = []
    rows: dict[str, Any] = {}
    for part in parts:
        own = traces(part.plan, part.entries, tables.titles(), part.folder / "logs")
        start = len(jobs)
        for job in map(list, own["jobs"]):
            job[_INPUTS] = [(name, start + place) for name, place in job[_INPUTS]]
            job[_HAS_LOG] = 0
            jobs.append(job)
        for name, row in own["rows"].items():
            seeds = [
                [*known, [start + place for place in places]] for *known, places in row["seeds"]
            ]
            rows[part.qualified(name)] = {**row, "seeds": seeds}
    return {"jobs": jobs, "rows": rows}
