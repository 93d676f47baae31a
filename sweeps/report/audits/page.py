"""The audits' own page of a report: every kind of audit that the sweep has, one after the other.

Written from the plan and the store alone. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pandas as pd

from sweeps.graph.plan import Plan
from sweeps.report.audits import attacks, completeness, likelihood, probes, worst
from sweeps.report.audits.part import Part
from sweeps.report.rendering import render
from sweeps.store import Entry

FILE = "audits.html"


class Shown(Protocol):
    """A figure as the report embeds it."""

    @property
    def name(self) -> str:
        """Of its file, without an end: the kind, a hyphen and what it shows."""


def parts_of(
    plan: Plan,
    entries: Mapping[str, Entry],
    frame: pd.DataFrame,
    people: pd.DataFrame | None,
    folder: Path,
) -> tuple[Part, ...]:
    """What every kind of audit has to say, in the order of the page; their tables are written.

    Nothing before the first of them has a table.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key.
        frame: From ``sweeps.report.results.results_frame``.
        people: From ``sweeps.report.people.resamples``.
        folder: The report's.
    """
    found = [
        likelihood.part(plan, entries, frame, folder),
        worst.part(plan, entries, frame, folder),
        probes.part(plan, entries, frame, folder),
        completeness.part(plan, entries, frame, folder),
        attacks.part(frame, people, folder),
    ]
    parts = tuple(part for part in found if part is not None)
    return parts if any(part.tables for part in parts) else ()


def write(
    plan: Plan,
    parts: Sequence[Part],
    figures: Sequence[Shown],
    folder: Path,
    partial: str = "",
) -> None:
    """Write ``audits.html``; nothing where there is no audit.

    Args:
        plan: The sweep's graph.
        parts: From ``parts_of``.
        figures: Those that were drawn; each stands in the part that names its kind.
        folder: The report's.
        partial: What is said of a sweep that still runs; empty for a final report.
    """
    if not parts:
        return
    of_part = {
        part.anchor: [one for kind in part.figures for one in figures if kind_of(one.name) == kind]
        for part in parts
    }
    page = render(
        "audits.html.j2",
        sweep=plan.sweep,
        parts=parts,
        figures=of_part,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        partial=partial,
    )
    (folder / FILE).write_text(page, encoding="utf-8")


def kind_of(name: str) -> str:
    """The kind of a figure's file, one of ``sweeps.report.figures.catalogue.KINDS``."""
    return name.split("-", 1)[0]
