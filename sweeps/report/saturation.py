"""The same people in models trained for longer and longer: when is nothing gained any more?

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from oneshui.spec import Role
from sweeps.graph.cells import index_job
from sweeps.graph.spec import SweepSpec
from sweeps.inference.comparisons import (
    PairedTest,
    after_longer_training,
    against_nothing,
    blocks,
)
from sweeps.inference.retrained import level_of
from sweeps.report.findings import Finding, points
from sweeps.report.tables import request_title


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """A request to models of the same people that differ in their epochs of training alone.

    Attributes:
        num_forget: Identities in the request.
        epochs: By name of the dataset, ascending.
    """

    num_forget: int
    epochs: Mapping[str, int]

    @property
    def title(self) -> str:
        """Datasets and forget size in words."""
        return request_title(", ".join(self.epochs), self.num_forget)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What is known of one of the datasets.

    Attributes:
        dataset: Its name.
        epochs: Of training.
        rows: Of the results.
        retain: Mean score of doing nothing on the retain set, a fraction.
        forget: The same on the forget set.
        floor: What retrained models have among themselves above doing nothing, in ToW, a fraction;
            NaN where no cell was retrained twice.
        tests: Of every ranked row against doing nothing.
    """

    dataset: str
    epochs: int
    rows: pd.DataFrame
    retain: float
    forget: float
    floor: float
    tests: tuple[PairedTest, ...]

    @property
    def better(self) -> tuple[str, ...]:
        """Rows that are shown to gain."""
        return tuple(t.method for t in self.tests if t.is_shown and t.difference > 0)


def ladders(sweep: SweepSpec) -> list[Ladder]:
    """Datasets of the same pictures, split and recipe but for the epochs, two or more of them."""
    alike: dict[object, dict[str, int]] = {}
    for name, dataset in sweep.datasets.items():
        recipe = sweep.training[name]
        # As many epochs as no warm-up is too long for.
        fixed = dataclasses.replace(recipe, epochs=1 + math.ceil(recipe.warmup_epochs))
        key = (index_job(dataset, sweep.versions).key, dataset.crop_size, dataset.split_walk, fixed)
        alike.setdefault(key, {})[name] = recipe.epochs
    found = []
    for epochs in alike.values():
        ordered = dict(sorted(epochs.items(), key=lambda item: item[1]))
        sizes = dict.fromkeys(cell.num_forget for cell in sweep.cells if cell.dataset in ordered)
        for size in sizes:
            known = {c.dataset for c in sweep.cells if c.num_forget == size}
            own = {name: count for name, count in ordered.items() if name in known}
            if len(set(own.values())) == len(own) > 1:
                found.append(Ladder(num_forget=size, epochs=own))
    return found


def rungs(ladder: Ladder, frame: pd.DataFrame) -> list[Rung]:
    """What the finished rows say, datasets without doing nothing or a row to compare left out.

    Args:
        ladder: One of ``ladders``.
        frame: From ``sweeps.report.results.results_frame``.
    """
    found = []
    for block, rows in blocks(frame):
        dataset, size = block
        if size != ladder.num_forget or dataset not in ladder.epochs:
            continue
        tests = tuple(test for test in against_nothing(block, rows) if test.num)
        if not tests:
            continue
        nothing = rows[rows["role"] == Role.PRETRAIN]
        level = level_of(rows)
        found.append(
            Rung(
                dataset=dataset,
                epochs=ladder.epochs[dataset],
                rows=rows,
                retain=float(nothing["retain_score"].mean()),
                forget=float(nothing["forget_score"].mean()),
                floor=math.nan if level is None else level.tow - float(nothing["tow"].mean()),
                tests=tests,
            )
        )
    return sorted(found, key=lambda rung: rung.epochs)


def saturation(sweep: SweepSpec, frame: pd.DataFrame) -> Iterator[Finding]:
    """What training for longer does to the gain over doing nothing, where something is shown.

    Args:
        sweep: Says which datasets differ in their training alone.
        frame: From ``sweeps.report.results.results_frame``.
    """
    for ladder in ladders(sweep):
        known = rungs(ladder, frame)
        sentences = [*_no_longer(known), *_gains_less(known)]
        if sentences:
            title = f"How long the model was trained: {ladder.title}"
            yield Finding(title=title, sentences=tuple(sentences))


def _no_longer(known: Sequence[Rung]) -> Iterator[str]:
    """From how many epochs on no row is shown to gain, if there is one such number."""
    gaining = [rung for rung in known if rung.better]
    if not gaining or gaining != list(known[: len(gaining)]) or len(gaining) == len(known):
        return
    first = known[len(gaining)]
    helped = "; ".join(f"after {rung.epochs} {', '.join(rung.better)}" for rung in gaining)
    later = " or more" if first is not known[-1] else ""
    yield (
        f"With {first.epochs}{later} epochs of training (after {first.epochs} the model scores "
        f"{100 * first.retain:.1f} on the retain set and {100 * first.forget:.1f} on the forget "
        "set) the one-shot rows no longer are shown to gain over doing nothing; shown to gain: "
        f"{helped}. What is not shown to gain may gain all the same."
    )


def _gains_less(known: Sequence[Rung]) -> Iterator[str]:
    """Which rows are shown to gain otherwise after the shortest training than after the longest."""
    if len(known) < 2:
        return
    first, last = known[0], known[-1]
    tests = after_longer_training(first.tests[0].block, first.rows, last.rows, last.dataset)
    for word, sign in (("more", 1), ("less", -1)):
        shown = [f"{t.method} {points(t)}" for t in tests if t.is_shown and sign * t.difference > 0]
        if shown:
            yield (
                f"Shown to gain {word} after {first.epochs} epochs than after {last.epochs}, on "
                f"the same people: {'; '.join(shown)}."
            )
