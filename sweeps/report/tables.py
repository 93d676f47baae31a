"""Comparative tables as text cells: one per dataset, its forget sizes side by side.

What is displayed is in percent, seconds excepted. ``sweeps.report.formats`` prints them. Must not
import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from oneshui.spec import DATA_SEEN, Access
from sweeps.graph.spec import ValuesFrom
from sweeps.report.measures import CATALOGUE, RANKED
from sweeps.report.statistics import NoiseFloor, PairedTest, support_statement
from sweeps.report.summary import group_of

PANELS: tuple[tuple[str, ...], ...] = tuple(
    tuple(m.key for m in sorted(CATALOGUE.values(), key=lambda m: m.place) if m.panel == panel)
    for panel in (1, 2)
)
"""What stands beside each other where there is room: scores first, then distances and costs."""

COLUMNS = {key: CATALOGUE[key].title for panel in PANELS for key in panel}
"""Measures that the tables show, with their titles."""

MOST_SIZES = 3
"""Forget sizes beside each other; further ones begin another table."""

SCORE_NAMES = {"multilabel": "mAP", "multiclass": "accuracy"}
MISSING = "-"
_IN_VIEW: ValuesFrom = "truth_in_view"
MIXED = "†"
TRUTH = "‡"

LEGEND = (
    "Retain, forget and test: the score. All in percent, seconds excepted; mean ± standard "
    "deviation over the n finished seeds of those planned; - is missing. ToW 100: the scores of "
    "the retrained model; ToW norm 0: doing nothing, 100: retraining. Δ: score minus the retrained "
    "model's; Δ forget above 0 still knows too much, below 0 forgot too much. MIA AUC 50: the loss "
    "tells nothing about membership. MIA acc: share of forget images that the attack takes for "
    "non-members. RMIA AUC 50: comparing with retrained models tells nothing either. Data seen at "
    "deletion time: S is the support set, one picture per identity."
)
RANK_NOTE = (
    "Best and second best among the ranked rows only: neither doing nothing (pretrain) nor rows "
    "that saw the forget set D_f or the retain set D_r compete. Best is the highest retain, test "
    "and ToW; for forget and MIA the one closest to retrain; for RMIA AUC the one closest to 50; "
    "the lowest unlearn s. A lead within one standard error (the larger of the two rows') is a "
    "tie and marks nothing, nor does a single seed."
)
TRUTH_NOTE = (
    "the row's hyperparameters were found with the retrained model of reported cells in view, so "
    "that its numbers are a little flattered."
)
TUNING_NAMES: Mapping[str, str] = {
    "support_only": "S",
    "support_and_val": "S+Dv",
    "simulated": "sim",
    "oracle": "ORACLE",
}
NOT_TUNED = "no"
NOTHING_TO_CHOOSE = "nothing"
"""Where the hyperparameters of a row come from that has none."""
TUNED_TITLE = "tuned"
TUNING_NOTE = (
    "Tuned: what chose a row's hyperparameters. sim: simulated requests before deletion; S: those, "
    "then the support set; S+Dv: also validation pictures after deletion, not ranked; ORACLE: the "
    "gap to the retrained model, which nobody has who needs to unlearn, never ranked; no: values "
    "as the sweep gives them."
)
REFERENCE_NOTE = (
    "Rows under the last rule saw the forget set D_f or the retain set D_r: references, never "
    "ranked."
)


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """One number of a table, as text.

    Attributes:
        mean: "-" if there is none.
        spread: Standard deviation; empty with fewer than two seeds.
        rank: 1 best, 2 second best, 0 neither.
        is_noise: Whether the ToW cannot be told from retraining with another seed.
    """

    mean: str
    spread: str
    rank: int = 0
    is_noise: bool = False

    def __str__(self) -> str:
        return f"{self.mean} ± {self.spread}" if self.spread else self.mean


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a table.

    Attributes:
        method: How the sweep calls the row.
        access: What it saw when it unlearned.
        tuning: What chose its hyperparameters, in short; "no" if nothing did.
        is_mixed: Whether the jobs behind it were not all computed alike, see ``mixture_note``.
        truth_in_view: Whether its hyperparameters were found as ``TRUTH_NOTE`` says.
        group: Rows of one group stand together: see ``sweeps.report.summary.group_of``.
        counts: Finished and planned seeds by forget size, for example "1/2"; "-" if not planned.
        cells: By forget size and measure.
    """

    method: str
    access: Access
    tuning: str
    is_mixed: bool
    truth_in_view: bool
    group: int
    counts: Mapping[int, str]
    cells: Mapping[tuple[int, str], TableCell]

    @property
    def title(self) -> str:
        """The method, with marks for what must be known of its numbers."""
        marks = [MIXED] * self.is_mixed + [TRUTH] * self.truth_in_view
        return " ".join([self.method, *marks])

    @property
    def data_seen(self) -> str:
        """What it saw, in words."""
        return DATA_SEEN[self.access]

    @property
    def is_reference(self) -> bool:
        """Whether the row saw more than a one-shot method may."""
        return self.access is Access.FULL


@dataclass(frozen=True, kw_only=True)
class Table:
    """One dataset's rows; groups of access are kept apart by rules.

    Attributes:
        dataset: Name of the dataset.
        sizes: Forget sizes beside each other.
        task: "multilabel" or "multiclass"; empty while nothing is measured.
        lines: One per method.
    """

    dataset: str
    sizes: tuple[int, ...]
    task: str
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """Dataset, forget sizes and what the score is, in words."""
        name = SCORE_NAMES.get(self.task)
        return sizes_title(self.dataset, self.sizes) + (f", score: {name}" if name else "")

    @property
    def is_tuned(self) -> bool:
        """Whether some row's hyperparameters were tuned, so that all must say how it is."""
        return any(line.tuning != NOT_TUNED for line in self.lines)

    def rule_before(self, number: int) -> bool:
        """Whether another group begins with this line."""
        return number > 0 and self.lines[number].group != self.lines[number - 1].group


def request_title(dataset: str, num_forget: int) -> str:
    """Dataset and forget size in words."""
    return sizes_title(dataset, [num_forget])


def sizes_title(dataset: str, sizes: Sequence[int]) -> str:
    """Dataset and forget sizes in words."""
    *first, last = map(str, sizes)
    numbers = f"{', '.join(first)} and {last}" if first else last
    return f"{dataset}, {numbers} forget {'identity' if numbers == '1' else 'identities'}"


def tables_of(summary: pd.DataFrame) -> list[Table]:
    """The summary as text, one table per dataset and up to three forget sizes.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
    """
    found = []
    for dataset, rows in summary.groupby("dataset", sort=False):
        sizes = list(dict.fromkeys(int(size) for size in rows["num_forget"]))
        for start in range(0, len(sizes), MOST_SIZES):
            some = tuple(sizes[start : start + MOST_SIZES])
            part = rows[rows["num_forget"].isin(some)]
            found.append(
                Table(
                    dataset=str(dataset),
                    sizes=some,
                    task=str(next(iter(part["task"].dropna()), "")),
                    lines=tuple(_lines(part, some)),
                )
            )
    return found


def _lines(rows: pd.DataFrame, sizes: Sequence[int]) -> Iterable[Line]:
    by_method = {
        str(method): {int(row["num_forget"]): row for row in part.to_dict("records")}
        for method, part in rows.groupby("method", sort=False)
    }

    def group(method: str) -> int:
        one = next(iter(by_method[method].values()))
        return group_of(str(one["role"]), str(one["access"]))

    for method in sorted(by_method, key=group):
        own = by_method[method]
        one = next(iter(own.values()))
        yield Line(
            method=method,
            access=Access(str(one["access"])),
            tuning=NOT_TUNED if pd.isna(one["tuning"]) else TUNING_NAMES[str(one["tuning"])],
            is_mixed=any(row["mixed"] for row in own.values()),
            truth_in_view=any(row["hyperparameters_from"] == _IN_VIEW for row in own.values()),
            group=group(method),
            counts={
                size: f"{own[size]['n']}/{own[size]['seeds']}" if size in own else MISSING
                for size in sizes
            },
            cells={(size, m): _cell(m, own.get(size)) for size in sizes for m in COLUMNS},
        )


def _cell(measure: str, row: Mapping[Hashable, Any] | None) -> TableCell:
    if row is None or math.isnan(row[f"{measure}_mean"]):
        return TableCell(mean=MISSING, spread="")
    mean, spread = row[f"{measure}_mean"], row[f"{measure}_std"]
    scale, unit = CATALOGUE[measure].scale, CATALOGUE[measure].unit
    sign = "+" if unit == "difference" else ""
    digits = (2 if mean < 10 else 1 if mean < 100 else 0) if unit == "seconds" else 1
    rank = row[f"{measure}_rank"] if measure in RANKED else pd.NA
    noise = row["within_noise"] if measure == "tow" else pd.NA
    return TableCell(
        # Adding 0 turns -0.0 into 0.0, whose sign would mean nothing.
        mean=f"{round(scale * mean, digits) + 0.0:{sign}.{digits}f}",
        spread="" if math.isnan(spread) else f"{scale * spread:.{digits}f}",
        rank=0 if pd.isna(rank) else int(rank),
        is_noise=False if pd.isna(noise) else bool(noise),
    )


def mixture_note(summary: pd.DataFrame) -> str:
    """What the marked rows mix; empty if no row mixes anything.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
    """
    mixed = {name: None for text in summary["mixed"] for name in text.split(", ") if name}
    if not mixed:
        return ""
    return (
        f"{MIXED} the jobs behind the row differ in {' and '.join(mixed)}: results.parquet says in "
        "what; differences between such rows may come from there."
    )


def truth_note(summary: pd.DataFrame) -> str:
    """What the mark of rows whose hyperparameters saw the truth means; empty without such rows.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
    """
    return f"{TRUTH} {TRUTH_NOTE}" if (summary["hyperparameters_from"] == _IN_VIEW).any() else ""


def notes(
    summary: pd.DataFrame,
    floors: Mapping[tuple[str, int], NoiseFloor],
    tests: Sequence[PairedTest],
) -> tuple[str, ...]:
    """What must be said under the tables besides the legend.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
        floors: From ``sweeps.report.statistics.noise_floor``.
        tests: From ``sweeps.report.statistics.comparisons``.
    """
    if floors:
        levels = "; ".join(
            f"{request_title(*key)}: {100 * floor.tow:.1f} at the lowest of {floor.num_pairs} "
            f"{'pair' if floor.num_pairs == 1 else 'pairs'}"
            for key, floor in floors.items()
        )
        noise = (
            "≈ after a ToW: inside the noise floor, indistinguishable from retraining with other "
            f"random numbers. ToW of two retrained models of one split: {levels}."
        )
    else:
        noise = (
            "No noise floor: no cell was retrained twice, so nothing says how near to 100 a ToW "
            "must be; the row retrain_again in sweep.methods gives one."
        )
    return tuple(
        filter(None, [noise, support_statement(tests), mixture_note(summary), truth_note(summary)])
    )


def protection_notes(frame: pd.DataFrame) -> tuple[str, ...]:
    """What must be said unless the kernel kept all one-shot rows from the data in the same way.

    Args:
        frame: From ``sweeps.report.results.results_frame``.
    """
    known = frame["protection"].dropna().value_counts()
    if known.empty or (len(known) == 1 and str(known.index[0]).startswith("landlock")):
        return ()
    counts = ", ".join(f"{how} in {count} of {known.sum()} rows" for how, count in known.items())
    return (
        f"What kept one-shot methods from the data after deletion: {counts}. Under audit, native "
        "code can open files: docs/security.md.",
    )
