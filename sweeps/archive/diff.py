"""Two sweeps held against each other: rows, numbers, and which job differs first and why.

The graphs are walked side by side from a row's score to its data, role by role, so jobs need not
have the same keys. A job differs where its result does, or where only one side has it. Must not
import torch, Ray or MLflow.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from sweeps.graph.job import Job
from sweeps.graph.plan import Plan, ResultRow
from sweeps.report.measures import CATALOGUE
from sweeps.report.results import announce, announced_frame
from sweeps.report.tables import titles
from sweeps.store import Entry

WIDTH = 80
Of = tuple[str, int, str]
"""Dataset, forget size and name of a row."""
_MADE = ("device", "precision", "versions", "commit")
"""What may be behind other results of the same job, the likeliest first."""
_READS_FILES = ("index", "weights")
"""Stages whose results are what the files hold, whatever reads them."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of two sweeps.

    Attributes:
        name: How it is called.
        plan: Its graph.
        entries: Its finished jobs by key.
    """

    name: str
    plan: Plan
    entries: Mapping[str, Entry]

    @cached_property
    def rows(self) -> dict[Of, dict[int, ResultRow]]:
        """Rows by seed."""
        found: dict[Of, dict[int, ResultRow]] = {}
        for row in self.plan.results:
            of = (row.cell.dataset, row.cell.num_forget, row.row.name)
            found.setdefault(of, {})[row.cell.seed] = row
        return found

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The results table, once the measures of both are announced."""
        return announced_frame(self.plan, self.entries)

    def content(self, key: str) -> str:
        """Of a job's result; empty without one."""
        return self.entries[key].content if key in self.entries else ""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A job that differs though what it was made from does not.

    Attributes:
        place: Of the job in the first sweep's plan.
        label: Of the job.
        why: In words.
    """

    place: int
    label: str
    why: str


class Walk:
    """Compares the jobs of two sweeps; what was found of a pair is remembered."""

    def __init__(self, one: Side, other: Side) -> None:
        """Compare nothing yet."""
        self.one, self.other = one, other
        self._places = {key: place for place, key in enumerate(one.plan.jobs)}
        self._known: dict[tuple[str, str], Cause | None] = {}

    def first(self, one: str, other: str) -> Cause | None:
        """The first job that differs on the way to two jobs; None if their results are the same.

        Args:
            one: Key in the first sweep.
            other: Key in the other.
        """
        waiting = [(one, other)]
        seen = set(waiting)
        for pair in waiting:
            if pair not in self._known and not self._is_same(*pair):
                new = [it for it in dict.fromkeys(self._inputs(*pair)) if it not in seen]
                seen.update(new)
                waiting += new
        # Inputs come before what is made of them; a chain of trials is too long for recursion.
        for pair in sorted(waiting, key=lambda it: self._places[it[0]]):
            if pair not in self._known:
                self._known[pair] = None if self._is_same(*pair) else self._cause(*pair)
        return self._known[one, other]

    def _is_same(self, one: str, other: str) -> bool:
        content = self.one.content(one)
        return content == self.other.content(other) and (bool(content) or one == other)

    def _inputs(self, one: str, other: str) -> list[tuple[str, str]]:
        mine, theirs = self.one.plan.jobs[one].needed, self.other.plan.jobs[other].needed
        return [(key, theirs[role]) for role, key in mine.items() if role in theirs]

    def _cause(self, one: str, other: str) -> Cause:
        inputs = (self._known[pair] for pair in self._inputs(one, other))
        known = [cause for cause in inputs if cause is not None]
        if known:
            return min(known, key=lambda cause: cause.place)
        mine, theirs = self.one.plan.jobs[one], self.other.plan.jobs[other]
        return Cause(place=self._places[one], label=mine.label, why=self._why(mine, theirs))

    def _why(self, mine: Job, theirs: Job) -> str:
        """Why two jobs differ whose inputs do not."""
        changed = "; ".join(_asked(mine, theirs))
        if changed:
            return changed
        for side, key in ((self.one, mine.key), (self.other, theirs.key)):
            if key not in side.entries:
                return f"it has no result in {side.name}"
        if mine.stage in _READS_FILES:
            return "the files that it reads have another content"
        one, other = self.one.entries[mine.key], self.other.entries[theirs.key]
        made = "; ".join(_made(one.made, other.made))
        if made:
            return made
        return "the same was asked of the same inputs and versions: it is not repeatable"


def _made(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[str]:
    """With what two results were made, where it differs; of versions only the others'."""
    for name in _MADE:
        mine, theirs = (str(it.get(name, "none")) for it in (one, other))
        if mine == theirs:
            continue
        if name == "versions":
            own, its = mine.split(", "), theirs.split(", ")
            mine = ", ".join(it for it in own if it not in its) or "none"
            theirs = ", ".join(it for it in its if it not in own) or "none"
        yield f"another {name}: {_short(mine)} and {_short(theirs)}"


def _asked(mine: Job, theirs: Job) -> Iterator[str]:
    """What two jobs were asked, where it differs."""
    if mine.version != theirs.version:
        yield f"another version of the stage: {mine.version} and {theirs.version}"
    one, other = flat(mine.spec), flat(theirs.spec)
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            values = f"{_short(one.get(name))} and {_short(other.get(name))}"
            what = "another source of the method" if name == "source" else f"another {name}"
            yield f"{what}: {values}"
    for role in sorted(mine.needed.keys() ^ theirs.needed.keys()):
        yield f"only one of them has the input {role}"


def flat(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A tree's leaves by their names with dots."""
    found: dict[str, Any] = {}
    for name, child in value.items():
        if isinstance(child, Mapping) and child:
            found |= flat(child, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = child
    return found


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True, kw_only=True)
class Number:
    """A measure of a row in both sweeps.

    Attributes:
        measure: Column of the results.
        here: Mean in the first sweep, over the seeds that both have.
        there: The same in the other.
        num: Those seeds.
    """

    measure: str
    here: float
    there: float
    num: int


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A row that both sweeps have and that differs.

    Attributes:
        of: Dataset, forget size and name.
        numbers: Measures of the tables that differ.
        causes: The first job that differs, of every seed that does.
        seeds: Those that only the first and only the other has.
    """

    of: Of
    numbers: tuple[Number, ...]
    causes: Mapping[int, Cause]
    seeds: tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What differs between two sweeps.

    Attributes:
        gone: Rows that only the first has.
        added: Rows that only the other has.
        changed: Rows that both have and that differ.
        same: Number of the rest.
    """

    gone: tuple[Of, ...]
    added: tuple[Of, ...]
    changed: tuple[Changed, ...]
    same: int


def difference(here: Side, there: Side) -> Difference:
    """Compare two sweeps row by row."""
    announce(*((side.plan, side.entries) for side in (here, there)))
    walk = Walk(here, there)
    both = [of for of in here.rows if of in there.rows]
    found = [_changed(of, walk) for of in both]
    changed = tuple(one for one in found if one is not None)
    return Difference(
        gone=tuple(of for of in here.rows if of not in there.rows),
        added=tuple(of for of in there.rows if of not in here.rows),
        changed=changed,
        same=len(both) - len(changed),
    )


def _changed(of: Of, walk: Walk) -> Changed | None:
    mine, theirs = walk.one.rows[of], walk.other.rows[of]
    firsts = {
        seed: walk.first(row.score_key, theirs[seed].score_key)
        for seed, row in mine.items()
        if seed in theirs
    }
    causes = {seed: cause for seed, cause in firsts.items() if cause is not None}
    seeds = tuple(mine.keys() - theirs.keys()), tuple(theirs.keys() - mine.keys())
    if not causes and not any(seeds):
        return None
    numbers = tuple(_numbers(of, walk.one.frame, walk.other.frame))
    return Changed(of=of, numbers=numbers, causes=causes, seeds=seeds)


def _numbers(of: Of, here: pd.DataFrame, there: pd.DataFrame) -> Iterator[Number]:
    def by_seed(frame: pd.DataFrame) -> pd.DataFrame:
        dataset, size, method = of
        own = frame["dataset"].eq(dataset) & frame["num_forget"].eq(size)
        return frame[own & frame["method"].eq(method)].set_index("seed")[list(titles())]

    one, other = by_seed(here), by_seed(there)
    for measure in titles():
        values = pd.concat([one[measure], other[measure]], axis=1, keys=["here", "there"]).dropna()
        if len(values) and not values["here"].equals(values["there"]):
            means = values.mean()
            yield Number(measure=measure, here=means["here"], there=means["there"], num=len(values))


def told(found: Difference, here: Side, there: Side) -> Iterator[str]:
    """The difference in words, in lines of ``WIDTH`` columns.

    Args:
        found: From ``difference``.
        here: The first sweep.
        there: The other.
    """
    yield from _folded(
        f"Rows: {found.same} the same, {len(found.changed)} changed, {len(found.gone)} only "
        f"{here.name}, {len(found.added)} only {there.name}."
    )
    for side, rows in ((here, found.gone), (there, found.added)):
        if rows:
            yield from ("", f"only {side.name}")
        for of in rows:
            yield from _folded(_named(of), "  ")
    if found.changed:
        yield ""
        head = f"{'changed':<24}{here.name:>14}{there.name:>14}{'difference':>14}{'seeds':>8}"
        yield head
    for one in found.changed:
        yield from _told(one, here, there)


def _told(one: Changed, here: Side, there: Side) -> Iterator[str]:
    yield from _folded(_named(one.of), "  ")
    for number in one.numbers:
        measure = CATALOGUE[number.measure]
        digits = 1 if measure.unit in ("fraction", "difference") else 2
        mine, theirs = (measure.scale * it for it in (number.here, number.there))
        title = measure.title[:18]
        yield (
            f"    {title:<20}{mine:>14.{digits}f}{theirs:>14.{digits}f}"
            f"{theirs - mine:>+14.{digits}f}{number.num:>8}"
        )
    for side, seeds in zip((here, there), one.seeds, strict=True):
        if seeds:
            yield from _folded(f"seeds only {side.name}: {_listed(seeds)}", "    ")
    by_cause: dict[Cause, list[int]] = {}
    for seed, cause in one.causes.items():
        by_cause.setdefault(cause, []).append(seed)
    for cause, own in by_cause.items():
        yield from _folded(f"first in seed {_listed(own)}: {cause.label}: {cause.why}", "    ")


def _named(of: Of) -> str:
    return " ".join(map(str, of))


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def _folded(text: str, indent: str = "") -> list[str]:
    after = f"{indent}  " if indent else ""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=after)
