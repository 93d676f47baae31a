"""What a kind of audit hands to the audits' page.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AuditTable:
    """The lines of one dataset and forget size, as text.

    Attributes:
        title: Dataset and forget size in words.
        titles: Of the columns; the first is that of the rows' names.
        lines: Their cells.
    """

    title: str
    titles: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One kind of audit.

    Attributes:
        anchor: Of its section, in small letters.
        title: Of its section.
        asks: What the audit asks, in one or two sentences.
        tables: One per dataset and forget size.
        note: How to read the columns, and what they cannot show.
        files: Names in the report's folder of what it wrote.
        figures: Kinds of ``sweeps.report.figures.catalogue.KINDS`` that belong to it.
        sentences: What it found, each whole.
    """

    anchor: str
    title: str
    asks: str
    tables: tuple[AuditTable, ...]
    note: str
    files: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
