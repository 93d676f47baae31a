"""Comparative tables as text cells: one per dataset, its forget sizes side by side.

What is displayed is in percent, seconds excepted. ``sweeps.report.formats`` prints them. Must not
import torch, Ray or MLflow.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from oneshui.spec import DATA_SEEN, Access, Role
from sweeps.graph.spec import Pretrained, SeedLevel, ValuesFrom
from sweeps.inference.comparisons import ATTACKS, PairedTest, support_statement
from sweeps.inference.evidence import Evidence
from sweeps.inference.rows import is_ranked
from sweeps.report.measures import CATALOGUE, OF_PLUGINS, RANKED, Chosen
from sweeps.report.measures import PANELS as PANELS
from sweeps.report.numbers import signed
from sweeps.report.summary import group_of

FEW_PEOPLE = 5
"""Up to so many forgotten people, mAP lacks attributes, and the third panel is shown."""


GAIN = "gain"
"""ToW against the row that a table compares with: no measure, but a column where there is room."""

MOST_SIZES = 3
"""Forget sizes beside each other; further ones begin another table."""

SCORE_NAMES = {"multilabel": "mAP", "multiclass": "accuracy"}
MISSING = "-"
TRUTH_IN_VIEW: ValuesFrom = "truth_in_view"
MIXED = "†"
TRUTH = "‡"
OVERFORGETS = "▽"
STARS = (0.05, 0.01, 0.001)
"""Corrected p up to which a difference has one, two and three stars."""

LEGEND = (
    "Retain, forget and test: the score. All in percent, seconds excepted; mean ± standard "
    "deviation over the n finished seeds of those planned; - is missing, or what would be true by "
    "definition. ToW 100: the scores of the retrained model; ToW norm: the mean gain over doing "
    "nothing in percent of what retraining gains. Δ: score minus the retrained model's; Δ forget "
    "above 0 still knows too much, below 0 forgot too much. MIA AUC 50: the loss tells nothing "
    "about membership. MIA acc: share of forget images that the attack takes for non-members. RMIA "
    "AUC 50: comparing with retrained models tells nothing either. An attack is read beside its "
    "value for a model that was retrained, which need not be 50. Data seen at deletion time: S is "
    "the support set, one picture per identity."
)
FEW_NOTE = (
    f"Of {FEW_PEOPLE} people or fewer many attributes have no picture, and mAP says little: Δ loss "
    "and Δ margin are the mean loss and the mean log-odds of the truth on forget images, minus the "
    "retrained model's. A Δ margin above 0 still knows too much."
)
RANK_NOTE = (
    "Best and second best among the ranked rows only: neither doing nothing (pretrain) nor rows "
    "that saw the forget set D_f or the retain set D_r compete. A row is marked best if it is "
    "shown to be better than each other ranked row, by tests on differences within a seed at 5 % "
    "that are corrected for having picked it, and second best likewise among the rest: of few "
    "seeds most columns have no mark. Better is a higher retain, test and ToW, fewer unlearn s, "
    "and for forget, MIA and RMIA a smaller distance to the retrained models of the same seed. ↑ "
    "and ↓ after a ToW: shown to be above or below doing nothing, corrected for the ranked rows."
)
TRUTH_NOTE = (
    "hyperparameters found with retrained models of reported cells in view: a little flattered."
)
OVERFORGETS_NOTE = (
    "forgets too much: the attack is shown to be below chance and below what it makes of retrained "
    "models, which tells on those who asked to be forgotten."
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


OVERALL_NOTE = (
    "ToW over all datasets and forget sizes, each weighing alike: mean and interquartile mean with "
    "95 % intervals over seeds, resampled within each and stretched for their number. They hold "
    "for these datasets; other datasets are another question."
)
_VARIED: Mapping[SeedLevel, str] = {
    "all": "everything",
    "split": "who is in which set",
    "training": "the training",
    "unlearning": "the unlearning",
    "support": "the support pictures",
    "nested": "everything, level by level",
}
_FAMILIES: Mapping[str, str] = {
    "nothing": "Against doing nothing: does the ToW differ?",
    "best": "The highest mean ToW against the other rows: is it better than each?",
    "retrained": "Against retraining again: is the ToW as near to retraining?",
    "attack": "Against retraining again: does an attack find more, or less?",
    "below_chance": "Below chance and below retrained models: does a row forget too much?",
    "reference": "Against the row of choice (report.reference): does the ToW differ?",
    "datasets": "Over datasets, against doing nothing: does the ToW differ in general?",
}


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """One number of a table, as text.

    Attributes:
        mean: "-" if there is none.
        spread: Standard deviation; empty with fewer than two seeds.
        rank: 1 shown to be best, 2 shown to be best of the rest, 0 neither.
        mark: After a ToW: ↑ or ↓ shown to be above or below doing nothing, ≈ shown to be as near
            to retraining as retraining itself. After an attack: ▽ shown to be below chance and
            below retrained models.
        value: The mean as the column shows it, unrounded; NaN if there is none.
        low: Lower end of its 95 % interval, NaN without one.
        high: Its upper end.
    """

    mean: str
    spread: str
    rank: int = 0
    mark: str = ""
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

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
        cells: By forget size and measure, and ``GAIN``: ToW minus that of the row which the table
            compares with.
        ranks: By forget size: place among the ranked rows by mean ToW, from 1; absent for others.
        is_ranked: Whether the row competes.
        role: What it stands for.
    """

    method: str
    access: Access
    tuning: str
    is_mixed: bool
    truth_in_view: bool
    group: int
    counts: Mapping[int, str]
    cells: Mapping[tuple[int, str], TableCell]
    ranks: Mapping[int, int]
    is_ranked: bool
    role: Role

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
        requests: That every seed stands for, each of so many people.
        compared_with: The row of choice, else doing nothing; empty where neither is measured.
        lines: One per method.
    """

    dataset: str
    sizes: tuple[int, ...]
    task: str
    requests: int
    compared_with: str
    lines: tuple[Line, ...]

    @property
    def panels(self) -> tuple[Chosen, ...]:
        """Measures that stand beside each other."""
        return PANELS if min(self.sizes) <= FEW_PEOPLE else PANELS[:2]

    @property
    def title(self) -> str:
        """Dataset, forget sizes and what the score is, in words."""
        name = SCORE_NAMES.get(self.task)
        asked = f", {self.requests} requests per seed" if self.requests > 1 else ""
        return sizes_title(self.dataset, self.sizes) + asked + (f", score: {name}" if name else "")

    @property
    def is_tuned(self) -> bool:
        """Whether some row's hyperparameters were tuned, so that all must say how it is."""
        return any(line.tuning != NOT_TUNED for line in self.lines)

    def rule_before(self, number: int) -> bool:
        """Whether another group begins with this line."""
        return number > 0 and self.lines[number].group != self.lines[number - 1].group


def titles() -> dict[str, str]:
    """Measures that the tables show, with their titles."""
    return {key: CATALOGUE[key].title for panel in PANELS for key in panel}


def block_id(dataset: str, num_forget: int) -> str:
    """A dataset and forget size as an anchor of the page and in a file's name."""
    return f"{anchor(dataset)}-n{num_forget}"


def anchor(name: str) -> str:
    """A name as part of an address; other letters than A to Z and the like become _."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", name)


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
        for some in _beside(rows, sizes):
            part = rows[rows["num_forget"].isin(some)]
            found.append(
                Table(
                    dataset=str(dataset),
                    sizes=some,
                    task=str(next(iter(part["task"].dropna()), "")),
                    requests=int(part["requests"].max()),
                    compared_with=str(next(iter(part["compared_with"].dropna()), "")),
                    lines=tuple(_lines(part, some)),
                )
            )
    return found


def _beside(rows: pd.DataFrame, sizes: Sequence[int]) -> Iterable[tuple[int, ...]]:
    """Forget sizes that stand beside each other: a few whose seeds stand for as many requests."""
    requests = rows.groupby("num_forget")["requests"].max()
    for _, group in itertools.groupby(sizes, key=lambda size: requests[size]):
        alike = tuple(group)
        for start in range(0, len(alike), MOST_SIZES):
            yield alike[start : start + MOST_SIZES]


def _lines(rows: pd.DataFrame, sizes: Sequence[int]) -> Iterable[Line]:
    by_method = {
        str(method): {int(row["num_forget"]): row for row in part.to_dict("records")}
        for method, part in rows.groupby("method", sort=False)
    }

    places = {size: _places(rows[rows["num_forget"] == size]) for size in sizes}

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
            truth_in_view=any(row["hyperparameters_from"] == TRUTH_IN_VIEW for row in own.values()),
            group=group(method),
            counts={
                size: f"{own[size]['n']}/{own[size]['seeds']}" if size in own else MISSING
                for size in sizes
            },
            cells={
                **{(size, m): _cell(m, own.get(size)) for size in sizes for m in titles()},
                **{(size, GAIN): _gain(own.get(size)) for size in sizes},
            },
            ranks={size: places[size][method] for size in sizes if method in places[size]},
            is_ranked=any(method in of_size for of_size in places.values()),
            role=Role(str(one["role"])),
        )


def _cell(measure: str, row: Mapping[Hashable, Any] | None) -> TableCell:
    if row is None or math.isnan(row[f"{measure}_mean"]) or measure in _true_by_definition(row):
        return TableCell(mean=MISSING, spread="")
    mean, spread = row[f"{measure}_mean"], row[f"{measure}_std"]
    scale, unit = CATALOGUE[measure].scale, CATALOGUE[measure].unit
    sign = "+" if unit in ("difference", "signed") else ""
    of_seconds = 2 if mean < 10 else 1 if mean < 100 else 0
    digits = {"seconds": of_seconds, "signed": 2, "number": 3}.get(unit, 1)
    rank = row[f"{measure}_rank"] if measure in RANKED else pd.NA
    return TableCell(
        # Adding 0 turns -0.0 into 0.0, whose sign would mean nothing.
        mean=f"{round(scale * mean, digits) + 0.0:{sign}.{digits}f}",
        spread="" if math.isnan(spread) else f"{scale * spread:.{digits}f}",
        rank=0 if pd.isna(rank) else int(rank),
        mark=_mark(row) if measure == "tow" else _below_mark(row, measure),
        value=scale * mean,
        low=scale * row[f"{measure}_low"],
        high=scale * row[f"{measure}_high"],
    )


def _places(rows: pd.DataFrame) -> dict[str, int]:
    """Places of the ranked rows of one forget size by mean ToW."""
    known = rows[is_ranked(rows) & rows["tow_mean"].notna()]
    found = known.set_index("method")["tow_mean"].rank(ascending=False, method="min")
    return {str(method): int(place) for method, place in found.items()}


def _gain(row: Mapping[Hashable, Any] | None) -> TableCell:
    """ToW minus that of the row which the table compares with, with stars for its p."""
    if row is None or math.isnan(row["difference"]):
        return TableCell(mean=MISSING, spread="")
    return TableCell(
        mean=signed(100 * row["difference"]),
        spread="",
        mark="*" * sum(row["difference_p"] <= level for level in STARS),
        value=100 * row["difference"],
        low=100 * row["difference_low"],
        high=100 * row["difference_high"],
    )


def _below_mark(row: Mapping[Hashable, Any], measure: str) -> str:
    is_below = row.get(f"{measure}_below", False)
    return "" if pd.isna(is_below) or not is_below else OVERFORGETS


def _mark(row: Mapping[Hashable, Any]) -> str:
    against = 0 if pd.isna(row["against_nothing"]) else int(row["against_nothing"])
    is_equivalent = not pd.isna(row["equivalent"]) and bool(row["equivalent"])
    return ("", "↑", "↓")[against] + ("≈" if is_equivalent else "")


def _true_by_definition(row: Mapping[Hashable, Any]) -> tuple[str, ...]:
    """Measures of a row that hold it against itself."""
    if row["role"] == Role.RETRAIN:
        gaps = ("retain_gap", "forget_gap", "test_gap", "forget_loss_gap", "forget_margin_gap")
        return ("tow", *gaps)
    return ()


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
    return (
        f"{TRUTH} {TRUTH_NOTE}" if (summary["hyperparameters_from"] == TRUTH_IN_VIEW).any() else ""
    )


def overforgets_note(summary: pd.DataFrame) -> str:
    """What the mark of rows that forget too much means; empty without such rows.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
    """
    below = summary[[f"{measure}_below" for measure in ATTACKS]].fillna(False)
    return f"{OVERFORGETS} {OVERFORGETS_NOTE}" if below.to_numpy(dtype=bool).any() else ""


def gain_note(compared_with: str) -> str:
    """What the column of differences says."""
    return (
        f"Against {compared_with}: ToW minus its, in points, over seeds that have both; * p at "
        "most .05, ** .01, *** .001, corrected for the rows (Student's, within seeds)."
    )


def notes(summary: pd.DataFrame, evidence: Evidence) -> tuple[str, ...]:
    """What must be said under the tables besides the legend.

    Args:
        summary: From ``sweeps.report.summary.summarise``.
        evidence: What was tested about the results.
    """
    return tuple(
        filter(
            None,
            [
                FEW_NOTE if any(summary["num_forget"] <= FEW_PEOPLE) else "",
                *plugin_notes(),
                equivalence_note(evidence),
                support_statement(evidence.tests),
                mixture_note(summary),
                truth_note(summary),
                overforgets_note(summary),
            ],
        )
    )


def plugin_notes() -> tuple[str, ...]:
    """What the measures of plugins are, a sentence each."""
    goals = {
        "highest": "higher is better",
        "lowest": "lower is better",
        "retrained": "closest to the retrained models is best",
    }
    found = []
    for key in OF_PLUGINS:
        one = CATALOGUE[key]
        scale = "in percent" if one.scale > 1 else "as it is"
        goal = goals[one.better] if one.better else "not ranked"
        meaning = f"{one.meaning.rstrip('.')} " if one.meaning else ""
        found.append(f"{one.title}: {meaning}(a plugin's measure, {scale}; {goal}).")
    return tuple(found)


def equivalence_note(evidence: Evidence) -> str:
    """What ≈ means, and what retrained models have among themselves."""
    if not evidence.levels:
        return (
            "No cell was retrained twice, so nothing says how near to 100 a ToW must be: the row "
            "retrain_again in sweep.methods shows it."
        )
    levels = "; ".join(
        f"{request_title(*block)}: {100 * level.tow:.1f} on average of {level.num_cells} "
        f"{'seed' if level.num_cells == 1 else 'seeds'}, {100 * level.lowest:.1f} at the lowest"
        for block, level in evidence.levels.items()
    )
    return (
        "≈ after a ToW: shown to be as near to retraining as retraining itself, its mean within "
        f"{100 * evidence.margin:g} points of what retrained models have among themselves (two "
        "one-sided tests, corrected for the rows); without the mark it is not shown, which is not "
        f"shown to be different. ToW of two retrained models of one cell: {levels}."
    )


def pretrained_notes(pretrained: Pretrained | None) -> tuple[str, ...]:
    """What must be said of pretrained models that nobody trained here."""
    if pretrained is None:
        return ()
    said = {
        "split": "It is said to have been trained on each cell's own training pictures without S.",
        "all": "It was trained on all pictures of the dataset: S, validation and test people were "
        "trained on too, so that its scores on them are too high and no method is handed a picture "
        "that the model never saw.",
        "unknown": "Nobody said which pictures it was trained on: S, validation and test people "
        "may be among them, so that its scores on them may be too high and S may be no picture "
        "that the model never saw.",
    }
    return (
        f"The pretrained model is a file that was brought (sweep.pretrained). "
        f"{said[pretrained.saw]} Retraining followed the recipe sweep.training.",
    )


def fixed_notes(vary: SeedLevel) -> tuple[str, ...]:
    """What must be said where seeds do not vary everything."""
    if vary in ("all", "nested"):
        return ()
    return (
        f"Seeds vary {_VARIED[vary]} alone (sweep.vary={vary}): what is shown holds for everything "
        "else as it is here.",
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


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One paired test as texts, in points.

    Attributes:
        request: Dataset and forget size; over datasets the sweep, where several are joined.
        measure: Title of what is compared.
        method: The first row.
        other: The second.
        num: Seeds, or datasets.
        difference: First minus second.
        interval: Of the mean over seeds, 95 %; "-" without one.
        people: Interval over people within these seeds, 95 %; "-" where it is not known.
        p: Corrected for its family.
        is_shown: Whether the corrected test shows what is asked.
    """

    request: str
    measure: str
    method: str
    other: str
    num: str
    difference: str
    interval: str
    people: str
    p: str
    is_shown: bool


def comparison_tables(evidence: Evidence) -> list[tuple[str, list[Comparison]]]:
    """The tests that have pairs, by what they ask."""
    found = []
    for family, question in _FAMILIES.items():
        own = [t for t in evidence.tests if t.family == family and t.num]
        if own:
            found.append((question, [_comparison(test) for test in own]))
    return found


def _comparison(test: PairedTest) -> Comparison:
    return Comparison(
        request=request_title(*test.block) if test.num_forget else test.dataset,
        measure=CATALOGUE[test.measure].title,
        method=test.method,
        other=test.other,
        num=str(test.num),
        difference=signed(100 * test.difference),
        interval=_ends(test.low, test.high),
        people=_ends(test.people_low, test.people_high),
        p=MISSING if math.isnan(test.p_corrected) else f"{test.p_corrected:.2g}",
        is_shown=test.is_shown,
    )


def _ends(low: float, high: float, sign: str = "+") -> str:
    """An interval in percent; "-" if there is none."""
    if math.isnan(low) or math.isnan(high):
        return MISSING
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"


def overall_lines(overall: pd.DataFrame) -> list[tuple[str, ...]]:
    """Rows over all datasets and forget sizes: name, mean, interval, the same of the middle half.

    Args:
        overall: From ``sweeps.inference.aggregate.aggregate``.
    """
    return [
        (
            str(row["method"]) + ("" if row["is_ranked"] else " (reference)"),
            str(row["num_datasets"]),
            str(row["num"]),
            f"{100 * row['mean']:.1f}",
            _ends(row["low"], row["high"], ""),
            f"{100 * row['iqm']:.1f}",
            _ends(row["iqm_low"], row["iqm_high"], ""),
        )
        for row in overall.to_dict("records")
    ]
