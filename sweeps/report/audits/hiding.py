"""What the probes of a row say beside those of the models that it is compared with: numbers.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from oneshui.audits.hiding import (
    TIMES,
    Curve,
    Gap,
    Probed,
    comes_back,
    gap,
    hides,
    known_again,
    looks_forgotten,
    recovery,
    recovery_error,
    relearn_steps,
)
from oneshui.spec import Role
from sweeps.graph.plan import Plan, ResultRow
from sweeps.graph.probes import Probes
from sweeps.store import Entry

STEPS = TIMES
"""After which a model that learns again is asked."""
LESSONS = ("1", "5", "support")
"""What models are taught, by the names of ``oneshui.audits.relearning``."""
RECOVERIES = tuple(f"recovery_{lesson}" for lesson in LESSONS)
RECOGNISED = ("reid_rank1", "reid_rank1_gap", "reid_tpr", "reid_tpr_gap", "reid_retain_gap")
OF_PROBES = (*RECOVERIES, "relearn_steps", *RECOGNISED, "hides")
"""Columns of the results that probes fill."""
ERRORS = ("recovery_5_error", "reid_rank1_error", "reid_tpr_error")
"""Standard errors over people."""
HIDES, COMES_BACK, NOTHING = "hides", "comes back", "none"
"""The flag of a row."""


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What the probes of one model found, those of several requests together.

    Attributes:
        values: Of its probes, one for every request.
    """

    values: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, keys: Sequence[str], entries: Mapping[str, Entry]) -> _Model | None:
        """None where a probe is not done."""
        if not keys or not all(key in entries for key in keys):
            return None
        return cls(values=tuple(entries[key].value for key in keys))

    def curve(self, lesson: str) -> Curve:
        """The mean over requests after each number of steps; None where one is missing."""
        return [_mean(scores) for scores in zip(*self._curves(lesson), strict=True)]

    def _curves(self, lesson: str) -> list[Curve]:
        return [value["curves"][lesson] for value in self.values]

    def rates(self, who: str, what: str) -> list[float] | None:
        """Of every person of all requests; None where a request has none."""
        found: list[float] = []
        for value in self.values:
            of_people = None if value[who] is None else value[who][what]
            if of_people is None:
                return None
            found += of_people
        return found

    @cached_property
    def heights(self) -> list[float | None]:
        """Of the lesson of five pictures, by resample: means over requests; maybe none."""
        each = [value["heights"] for value in self.values]
        return [] if None in each else [_mean(drawn) for drawn in zip(*each, strict=True)]

    @cached_property
    def support_score(self) -> float | None:
        """The mean over requests."""
        return _mean([value["support_score"] for value in self.values])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the probes say of one row.

    Attributes:
        row: Its model.
        retrained: The retrained model.
        pretrained: The pretrained model.
        again: The model that was retrained again; None without one.
        tow: Of the row; None where not measured.
        again_tow: Of the model that was retrained again.
    """

    row: _Model
    retrained: _Model
    pretrained: _Model
    again: _Model | None
    tow: float | None
    again_tow: float | None

    @classmethod
    def of(cls, row: ResultRow, entries: Mapping[str, Entry]) -> Found | None:
        """None where nobody asked, or where a probe is not done.

        Args:
            row: One row of the results table.
            entries: Finished jobs by key.
        """
        probes: Probes | None = row.probes
        if probes is None:
            return None
        own, retrained, pretrained = (
            _Model.of(keys, entries) for keys in (probes.own, probes.retrained, probes.pretrained)
        )
        if own is None or retrained is None or pretrained is None:
            return None
        return cls(
            row=own,
            retrained=retrained,
            pretrained=pretrained,
            again=_Model.of(probes.again, entries),
            tow=1.0 if row.row.role is Role.RETRAIN else _tow(row.score_key, entries),
            again_tow=_tow(probes.again_score, entries),
        )

    def recovery(self, lesson: str) -> float | None:
        """How much comes back in a lesson, see ``oneshui.audits.hiding.recovery``."""
        return self._recovery(self.row, lesson)

    def _recovery(self, model: _Model, lesson: str) -> float | None:
        return recovery(*(one.curve(lesson) for one in (model, self.retrained, self.pretrained)))

    @cached_property
    def recovery_error(self) -> float | None:
        """Of the lesson of five pictures, see ``oneshui.audits.hiding.recovery_error``."""
        return self._recovery_error(self.row)

    def _recovery_error(self, model: _Model) -> float | None:
        own, goal = model.heights, self.retrained.heights
        if not own or not goal:
            return None
        known = self.retrained.curve("5"), self.pretrained.curve("5")
        return recovery_error(own, goal, *known)

    @cached_property
    def steps(self) -> int | None:
        """In the lesson of five pictures, see ``oneshui.audits.hiding.relearn_steps``."""
        models = (self.row, self.retrained, self.pretrained)
        return relearn_steps(*(one.curve("5") for one in models))

    @property
    def can_relearn(self) -> bool:
        """Whether there is something to relearn, see ``oneshui.audits.hiding.known_again``."""
        return known_again(self.retrained.curve("5"), self.pretrained.curve("5")) is not None

    def pictures(self, lesson: str) -> int:
        """How many were taught in a lesson, of all requests."""
        return sum(int(value["taught"][lesson]) for value in self.row.values)

    @property
    def asked(self) -> int:
        """How many pictures models were asked about, of all requests."""
        return sum(int(value["asked"]) for value in self.row.values)

    def gap(self, who: str, what: str) -> Gap | None:
        """The row's rate minus the retrained model's, by "forgotten" or "retained"."""
        return self._gap(self.row, who, what)

    def _gap(self, model: _Model, who: str, what: str) -> Gap | None:
        own, goal = model.rates(who, what), self.retrained.rates(who, what)
        return None if own is None or goal is None else gap(own, goal)

    def _recognised(self, model: _Model) -> Gap | None:
        """What the flag rests upon: true accepts, finer than rank 1, where their rate is given."""
        accepted = self._gap(model, "forgotten", "accepted")
        return self._gap(model, "forgotten", "first") if accepted is None else accepted

    def rate(self, what: str) -> float | None:
        """Mean over the forgotten; None where not measured."""
        return _mean(self.row.rates("forgotten", what) or [])

    def _probed(self, model: _Model, tow: float | None) -> Probed:
        return Probed(
            tow=tow,
            recovery=self._recovery(model, "5"),
            recovery_error=self._recovery_error(model),
            recognised=self._recognised(model),
            support_score=model.support_score,
            forget_score=model.curve("5")[0],
        )

    @cached_property
    def _probed_again(self) -> Probed | None:
        return None if self.again is None else self._probed(self.again, self.again_tow)

    @cached_property
    def comes_back(self) -> bool | None:
        """See ``oneshui.audits.hiding.comes_back``."""
        return comes_back(self._probed(self.row, self.tow), self._probed_again)

    @cached_property
    def looks_forgotten(self) -> bool | None:
        """See ``oneshui.audits.hiding.looks_forgotten``."""
        return looks_forgotten(self._probed(self.row, self.tow), self._probed_again)

    @cached_property
    def hides(self) -> bool | None:
        """See ``oneshui.audits.hiding.hides``."""
        return hides(
            self._probed(self.row, self.tow),
            self._probed(self.retrained, None),
            self._probed(self.pretrained, None),
            self._probed_again,
        )


def _tow(key: str | None, entries: Mapping[str, Entry]) -> float | None:
    if key is None or key not in entries:
        return None
    found: float = entries[key].value["tow"]
    return found


def probe_values(row: ResultRow, entries: Mapping[str, Entry]) -> dict[str, float | None]:
    """The row's columns ``OF_PROBES``; empty where its probes are not all done.

    Args:
        row: One row of the results table.
        entries: Finished jobs by key.
    """
    found = Found.of(row, entries)
    return {} if found is None else _values(found)


def _values(found: Found) -> dict[str, float | None]:
    first, accepted, stay = (
        found.gap(*which)
        for which in (("forgotten", "first"), ("forgotten", "accepted"), ("retained", "first"))
    )
    return {
        **{f"recovery_{lesson}": found.recovery(lesson) for lesson in LESSONS},
        "relearn_steps": found.steps,
        "reid_rank1": found.rate("first"),
        "reid_rank1_gap": None if first is None else first.value,
        "reid_tpr": found.rate("accepted"),
        "reid_tpr_gap": None if accepted is None else accepted.value,
        "reid_retain_gap": None if stay is None else stay.value,
        "hides": None if found.hides is None else float(found.hides),
    }


def probes_frame(plan: Plan, entries: Mapping[str, Entry]) -> pd.DataFrame:
    """A line for every row whose probes are done.

    Returns:
        Columns dataset, num_forget, seed, method, role, tow, ``OF_PROBES`` (fractions), ``ERRORS``
        (over people; the last two of the gaps), "people" (forgotten people who were shown),
        "taught_1" and "taught_5" (pictures in these lessons), "asked" (pictures that models were
        asked about), "can_relearn" (whether there was something to relearn), "flag"
        (``HIDES``, ``COMES_BACK`` or ``NOTHING``; null where that cannot be told) and "job_key" (of
        the probe, or that of the first request).
    """
    rows = []
    for row in plan.results:
        found = Found.of(row, entries)
        if found is None:
            continue
        first, accepted = (found.gap("forgotten", what) for what in ("first", "accepted"))
        shown = found.row.rates("forgotten", "first")
        assert row.probes is not None
        rows.append(
            {
                "dataset": row.cell.dataset,
                "num_forget": row.cell.num_forget,
                "seed": row.cell.seed,
                "method": row.row.name,
                "role": str(row.row.role),
                "tow": found.tow,
                **_values(found),
                "recovery_5_error": found.recovery_error,
                "reid_rank1_error": None if first is None else first.error,
                "reid_tpr_error": None if accepted is None else accepted.error,
                "people": None if shown is None else len(shown),
                "taught_1": found.pictures("1"),
                "taught_5": found.pictures("5"),
                "asked": found.asked,
                "can_relearn": found.can_relearn,
                "flag": _flag(found),
                "job_key": row.probes.own[0],
            }
        )
    columns = [
        *("dataset", "num_forget", "seed", "method", "role", "tow", *OF_PROBES),
        *(*ERRORS, "people", "taught_1", "taught_5", "asked", "can_relearn", "flag", "job_key"),
    ]
    numbers = dict.fromkeys(("tow", *OF_PROBES, *ERRORS, "people"), "float64")
    counts = dict.fromkeys(("taught_1", "taught_5", "asked"), "int64")
    return pd.DataFrame(rows, columns=columns).astype(
        {**numbers, **counts, "can_relearn": "bool", "flag": "str"}
    )


def _flag(found: Found) -> str | None:
    if found.comes_back is None:
        return None
    if found.hides:
        return HIDES
    return COMES_BACK if found.comes_back else NOTHING


def curves_frame(plan: Plan, entries: Mapping[str, Entry]) -> pd.DataFrame:
    """A line for every row, lesson and number of steps.

    Returns:
        Columns dataset, num_forget, seed, method, lesson (as in ``LESSONS``), steps, and "score" of
        the row, "retrained" and "pretrained" model, in [0, 1]; null where not measured.
    """
    rows = []
    for row in plan.results:
        found = Found.of(row, entries)
        for lesson in LESSONS if found is not None else ():
            assert found is not None
            models = (found.row, found.retrained, found.pretrained)
            for steps, *scores in zip(STEPS, *(one.curve(lesson) for one in models), strict=True):
                rows.append(
                    (
                        *(row.cell.dataset, row.cell.num_forget, row.cell.seed, row.row.name),
                        *(lesson, steps, *scores),
                    )
                )
    names = ("score", "retrained", "pretrained")
    columns = ["dataset", "num_forget", "seed", "method", "lesson", "steps", *names]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(names, "float64"))
