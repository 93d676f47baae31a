"""All that is tested about the results of a sweep, gathered once for table, sentences and figures.

Pure functions of frames. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from sweeps.graph.launch import EQUIVALENCE_MARGIN
from sweeps.inference.aggregate import aggregate
from sweeps.inference.comparisons import Block, PairedTest, blocks, comparisons
from sweeps.inference.retrained import Level, level_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What the results support.

    Attributes:
        tests: All paired comparisons.
        levels: What retrained models have among themselves, by dataset and forget size; only
            where a cell was retrained at least twice.
        overall: From ``sweeps.inference.aggregate.aggregate``.
        margin: Of ToW, in which a row counts as good as retrained.
        people: The measures with people drawn again, where they are known.
        reference: The row of choice that all others are held against; empty for doing nothing.
    """

    tests: tuple[PairedTest, ...]
    levels: Mapping[Block, Level]
    overall: pd.DataFrame
    margin: float
    people: pd.DataFrame | None
    reference: str = ""

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        people: pd.DataFrame | None = None,
        margin: float = EQUIVALENCE_MARGIN,
        reference: str = "",
        pictures: Mapping[str, str] | None = None,
    ) -> Evidence:
        """What a results table supports.

        Args:
            frame: From ``sweeps.report.results.results_frame``.
            people: From ``sweeps.report.people.resamples``.
            margin: In ToW, a fraction.
            reference: A row that all others are held against besides; empty for none.
            pictures: What stands for the pictures of each dataset; None if no two have the same.
        """
        found = {block: level_of(rows) for block, rows in blocks(frame)}
        return cls(
            tests=tuple(comparisons(frame, people, margin, reference, pictures)),
            levels={block: level for block, level in found.items() if level is not None},
            overall=aggregate(frame),
            margin=margin,
            people=people,
            reference=reference,
        )

    def shown(self, family: str, block: Block) -> list[PairedTest]:
        """Tests of a family in a dataset and forget size that show what they ask."""
        return [test for test in self.of_family(family, block) if test.is_shown]

    def of_family(self, family: str, block: Block) -> list[PairedTest]:
        """Tests of a family in a dataset and forget size that have pairs."""
        return [t for t in self.tests if t.family == family and t.block == block and t.num]
