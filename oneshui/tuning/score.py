"""What a study before deletion leaves behind: numbers, and what can be expected of a point by them.

Where the score comes from and how far it follows the true ToW is in
docs/decisions/0009-tuning-objective.md; scores are mAP or accuracy as fractions in [0, 1]. Imports
no torch: a report computes scores from the store alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression
from scipy.special import stdtrit

_SMALLEST_MOVEMENT = 1e-30

LEVEL = 0.1
"""Of the one-sided test that a point must pass against doing nothing."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a model scores on one simulated request; mAP or accuracy as fractions in [0, 1].

    A score that is not defined, or of a model whose logits are not finite, is NaN.

    Attributes:
        forget: On the pictures to forget.
        retain: On the retain images drawn with the requests.
        val: On the validation images drawn with them.
        support: On the request's support set.
    """

    forget: float
    retain: float
    val: float
    support: float

    @classmethod
    def undefined(cls) -> Scores:
        """Of a model that is none."""
        return cls(forget=math.nan, retain=math.nan, val=math.nan, support=math.nan)

    def to_json(self) -> dict[str, float | None]:
        """As it is stored: what is not defined is null."""
        return {name: to_stored(value) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, document: Mapping[str, float | None]) -> Scores:
        """What ``to_json`` made."""
        return cls(**{name: from_stored(value) for name, value in document.items()})


def to_stored(value: float) -> float | None:
    """A number for JSON; what is not defined or not finite is null."""
    return value if math.isfinite(value) else None


def from_stored(value: float | None) -> float:
    """A number from JSON; null is NaN."""
    return math.nan if value is None else float(value)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One point on one simulated request.

    Attributes:
        before: Scores of the pretrained model.
        after: Scores of the unlearned one.
        movement: Of the weights, see ``oneshui.tuning.simulated.movement``.
    """

    before: Scores
    after: Scores
    movement: float

    def to_json(self) -> dict[str, Any]:
        """As it is stored, without the scores before, which all trials share."""
        return {"after": self.after.to_json(), "movement": to_stored(self.movement)}

    @property
    def is_finite(self) -> bool:
        """Whether the unlearned model still is one."""
        values = (self.after.forget, self.after.retain, self.after.val, self.movement)
        return bool(np.isfinite(values).all())

    @property
    def utility(self) -> float:
        """How much of retain and val was left alone, in [0, 1]."""
        retain = 1 - abs(self.after.retain - self.before.retain)
        val = 1 - abs(self.after.val - self.before.val)
        return _clamp(retain) * _clamp(val)

    @property
    def val_drop(self) -> float:
        """What the validation score lost."""
        return self.before.val - self.after.val

    @property
    def support_drop(self) -> float:
        """What the support score lost; 0 where it is not defined."""
        return _or_zero(self.before.support - self.after.support)


def _clamp(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _or_zero(value: float) -> float:
    return value if np.isfinite(value) else 0.0


def simulated_tow(runs: Sequence[Run], val_score: float) -> float:
    """What a point does to simulated requests, in [0, 1]; 0 if a model is not finite.

    The mean over requests of (1 - |forget - val_score|) times the utility: what the pretrained
    model scores on people it never saw stands for the retrained model's score on the forgotten.

    Args:
        runs: The point on every request.
        val_score: The pretrained model's score on all of D_v.
    """
    if not runs or not all(run.is_finite for run in runs):
        return 0.0
    gaps = [_clamp(1 - abs(run.after.forget - val_score)) for run in runs]
    return float(np.mean([gap * run.utility for gap, run in zip(gaps, runs, strict=True)]))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A function that never rises, fitted to points: constant outside, linear between knots.

    Attributes:
        at: Where the knots are, ascending.
        value: Their values.
    """

    at: Floats
    value: Floats

    @classmethod
    def fit(cls, at: Sequence[float], value: Sequence[float]) -> Curve:
        """Isotonic regression; points at one place count as their mean.

        Raises:
            ValueError: There are no points.
        """
        places, inverse, counts = np.unique(
            np.asarray(at, dtype=np.float64), return_inverse=True, return_counts=True
        )
        if not len(places):
            raise ValueError("no points to fit a curve to")
        means = np.bincount(inverse, weights=np.asarray(value, dtype=np.float64)) / counts
        fitted = isotonic_regression(means, weights=counts.astype(np.float64), increasing=False)
        return cls(at=places, value=np.asarray(fitted.x, dtype=np.float64))

    def __call__(self, at: float) -> float:
        """The value there, in [0, 1]."""
        return _clamp(float(np.interp(at, self.at, self.value)))


def _log(value: float) -> float:
    return float(np.log(max(value, _SMALLEST_MOVEMENT)))


@dataclass(frozen=True, kw_only=True)
class TrialScores:
    """What is stored of one study on one pretrained model: numbers, no picture.

    Attributes:
        runs: Of every point, on every simulated request.
        val_score: The pretrained model's score on all of D_v.
    """

    runs: tuple[tuple[Run, ...], ...]
    val_score: float

    @classmethod
    def from_json(
        cls, trials: Sequence[Mapping[str, Any]], place: int, simulated: Mapping[str, Any]
    ) -> TrialScores:
        """A study on one of its cells, from what its jobs stored.

        Args:
            trials: Values of the trials' jobs, in their order.
            place: Of the cell in the study.
            simulated: Value of the job that drew the cell's simulated requests.
        """
        before = [Scores.from_json(scores) for scores in simulated["before"]]
        runs = tuple(
            tuple(
                Run(
                    before=known,
                    after=Scores.from_json(run["after"]),
                    movement=from_stored(run["movement"]),
                )
                for known, run in zip(before, trial["runs"][place], strict=True)
            )
            for trial in trials
        )
        return cls(runs=runs, val_score=from_stored(simulated["val_score"]))

    def _curve(self, place: Callable[[Run], float]) -> Curve | None:
        runs = [run for point in self.runs for run in point if run.is_finite]
        if not runs:
            return None
        return Curve.fit([place(run) for run in runs], [run.utility for run in runs])

    def score(
        self, point: int, *, support_drop: float, moved: float, val_drop: float | None = None
    ) -> float:
        """How good a point is likely to be on the real request, in [0, 1].

        (1 - |m - m_val|) g: m is the forget score of the simulated runs, lower by what S fell
        further than their support sets did; g is the utility that the simulated runs of the whole
        study had at this movement, or its geometric mean with that at this drop on D_v.

        Args:
            point: Which one.
            support_drop: What the real S lost.
            moved: Movement of the weights on the real request.
            val_drop: What D_v lost; None where it may not be seen.

        Returns:
            0 where a model is not finite.
        """
        runs = self.runs[point]
        by_movement = self._curve(lambda run: _log(run.movement))
        finite = np.isfinite(moved) and all(run.is_finite for run in runs)
        if by_movement is None or not finite or not runs:
            return 0.0
        further = _or_zero(support_drop) - float(np.mean([run.support_drop for run in runs]))
        forget = float(np.mean([run.after.forget for run in runs])) - further
        utility = by_movement(_log(moved))
        if val_drop is not None:
            by_drop = self._curve(lambda run: run.val_drop)
            assert by_drop is not None
            utility = float(np.sqrt(utility * by_drop(val_drop))) if np.isfinite(val_drop) else 0.0
        return _clamp(1 - abs(forget - self.val_score)) * utility


def shown_to_gain(study: Sequence[TrialScores], nothing: int) -> list[int]:
    """The points that are shown to be better than doing nothing on simulated requests.

    By Student's one-sided test of the paired differences over requests, at LEVEL for each point
    alone: of few requests of few people the best of several points that are worth nothing looks
    good on average, and this bounds how often, not for all points together. With a single request
    there is no spread, and what gains there counts as shown.

    Args:
        study: On each of its cells.
        nothing: Position of the point that does nothing.

    Returns:
        Positions, ascending.
    """
    found = []
    for point in range(len(study[0].runs)):
        gains = np.array(
            [
                simulated_tow([run], cell.val_score) - simulated_tow([idle], cell.val_score)
                for cell in study
                for run, idle in zip(cell.runs[point], cell.runs[nothing], strict=True)
            ]
        )
        error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
        least = stdtrit(len(gains) - 1, 1 - LEVEL) * error if error else 0.0
        if gains.mean() > least:
            found.append(point)
    return found


def candidates(
    study: Sequence[TrialScores],
    simulated: Sequence[float],
    carried: int,
    *,
    nothing: int | None = None,
    needs_proof: bool = True,
) -> list[int]:
    """The points that are run on the real request, ascending.

    Args:
        study: On each of its cells.
        simulated: Score of every point; the first point is the defaults.
        carried: How many of the best.
        nothing: Position of the point that does nothing; None if the study has none.
        needs_proof: Whether a point must be shown to gain; who sees the truth needs no proof.
    """
    shown: Collection[int] = range(len(simulated))
    if nothing is not None and needs_proof:
        shown = shown_to_gain(study, nothing)
    return shortlist(simulated, carried, nothing=nothing, shown=shown)


def shortlist(
    simulated: Sequence[float],
    carried: int,
    *,
    nothing: int | None = None,
    shown: Collection[int] = (),
) -> list[int]:
    """The points that are run on the real request: the best simulated ones, and the defaults.

    Where a point does nothing it is among them, and of the others, the defaults too, those alone
    that are shown to gain: what does not on simulated requests would have to win on the real one
    by luck.

    Args:
        simulated: Score of every point; the first point is the defaults.
        carried: How many of the best.
        nothing: Position of the point that does nothing; None if the study has none.
        shown: See ``shown_to_gain``.

    Returns:
        Positions, ascending.
    """
    order = sorted(range(len(simulated)), key=lambda point: (-simulated[point], point))
    if nothing is None:
        return sorted({0, *order[:carried]})
    best = [point for point in order if point in shown and point != nothing]
    return sorted({nothing, *best[:carried], *({0} & {*shown})})
