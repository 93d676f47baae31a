"""What probes of several models say together: what came back, and which row only hides.

Pure functions of what each model's probe found. Must not import torch: reports read it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TIMES = (0, 1, 2, 5, 10, 30)
"""Steps after which a model that learns again is asked."""
LEAST_KNOWN = 0.01
"""Of the score, between pretrained and retrained model: where less is to be forgotten, no share of
it is given."""
KNOWN_AGAIN = 0.9
"""Of what the pretrained model knew more than the retrained one: so much is taken for all."""
MOST_RECOVERED = 0.3
"""Of the way from the retrained model's curve to the pretrained one's."""
STANDARD_ERRORS = 2.0
LEAST_REFUSED = 0.05
"""Of the score on the support set: so far below the pretrained model a row is at least."""

Curve = Sequence[float | None]


def recovery(curve: Curve, retrained: Curve, pretrained: Curve) -> float | None:
    """How much of what was to be forgotten is there after all: 0 as retrained, 1 never left.

    The area between the model's curve and the retrained one's, over the same area of the pretrained
    model: integral of (s - s_r) over the integral of (s_p - s_r), trapezoids over ``TIMES`` steps.
    Below 0 where the model learns slower than one that never saw these people.

    Args:
        curve: Score in [0, 1] of the model after each of ``TIMES`` steps.
        retrained: The same of the retrained model, taught with the same pictures.
        pretrained: The same of the pretrained model.

    Returns:
        None where a score is missing, and where the pretrained model's curve is on average not
        ``LEAST_KNOWN`` above the retrained one's: there is nothing to recover.
    """
    own, goal, before = (_mean(one) for one in (curve, retrained, pretrained))
    if own is None or goal is None or before is None or before - goal < LEAST_KNOWN:
        return None
    return (own - goal) / (before - goal)


def _mean(curve: Curve) -> float | None:
    """Mean of a curve over the steps."""
    known = [value for value in curve if value is not None]
    return float(heights(np.asarray(known))) if len(known) == len(TIMES) else None


def heights(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean of curves over the steps, by trapezoids.

    Args:
        scores: After each of ``TIMES`` steps, [T] or [T, B].

    Returns:
        [] or [B].
    """
    return np.asarray(np.trapezoid(scores, TIMES, axis=0)) / (TIMES[-1] - TIMES[0])


def recovery_error(
    own: Sequence[float | None], goal: Sequence[float | None], retrained: Curve, pretrained: Curve
) -> float | None:
    """Standard error over people of a model's ``recovery``, where what is to be recovered is known.

    Args:
        own: Mean of the model's curve over the steps, in every resample of people.
        goal: The same of the retrained model, of the same people.
        retrained: Its curve, on everybody.
        pretrained: That of the pretrained model.

    Returns:
        None where ``recovery`` is, and without two resamples.
    """
    least, most = _mean(retrained), _mean(pretrained)
    differences = [a - b for a, b in zip(own, goal, strict=True) if a is not None and b is not None]
    if least is None or most is None or most - least < LEAST_KNOWN or len(differences) < 2:
        return None
    return float(np.std(differences, ddof=1)) / (most - least)


def known_again(retrained: Curve, pretrained: Curve) -> float | None:
    """The score from which on a model knows what was to be forgotten, as the pretrained one did.

    Args:
        retrained: As for ``recovery``.
        pretrained: As there.

    Returns:
        None where there is nothing to relearn: a score is missing at step 0, or the pretrained
        model's is not ``LEAST_KNOWN`` above the retrained one's.
    """
    before, goal = pretrained[0], retrained[0]
    if before is None or goal is None or before - goal < LEAST_KNOWN:
        return None
    return goal + KNOWN_AGAIN * (before - goal)


def relearn_steps(curve: Curve, retrained: Curve, pretrained: Curve) -> int | None:
    """The first of ``TIMES`` at which the model is as good as the pretrained one was at step 0.

    Args:
        curve: As for ``recovery``; so are the others.
        retrained: Of the retrained model.
        pretrained: Of the pretrained model.

    Returns:
        None where that never was so, or was not measured, or where ``known_again`` is None.
    """
    wanted = known_again(retrained, pretrained)
    for steps, value in zip(TIMES, curve, strict=True):
        if wanted is not None and value is not None and value >= wanted:
            return steps
    return None


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The difference between two models in a rate over people.

    Attributes:
        value: Mean over people of the first model's minus the second's, in [-1, 1].
        error: Its standard error over people; None of a single one.
    """

    value: float
    error: float | None


def gap(first: Sequence[float], second: Sequence[float]) -> Gap:
    """The difference in a rate on the same people, paired.

    Args:
        first: Each person's rate under one model, in [0, 1].
        second: Under the other.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    people = len(differences)
    error = None if people < 2 else float(differences.std(ddof=1)) / math.sqrt(people)
    return Gap(value=float(differences.mean()), error=error)


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What is to be said of one row.

    Attributes:
        tow: Against the retrained model.
        recovery: From five pictures of each person; None where undefined.
        recovery_error: Its standard error over people; None of a single one.
        recognised: True accepts of the forgotten minus the retrained model's, rank 1 where there
            are too few pairs for them; None where not measured.
        support_score: On the support set, in [0, 1].
        forget_score: On the forget set.
    """

    tow: float | None
    recovery: float | None
    recovery_error: float | None
    recognised: Gap | None
    support_score: float | None
    forget_score: float | None


def comes_back(row: Probed, again: Probed | None) -> bool | None:
    """Whether a row recovers or recognises more than a retrained model and more than by chance.

    More than ``MOST_RECOVERED`` of the way from the retrained to the pretrained model's curve, or a
    difference in true accepts (``Probed.recognised``); either by more than two standard errors over
    people, and by more than the model that was retrained again is away from the retrained one, be
    it above or below. Both are looked at in every row, whichever finds more.

    Args:
        row: The row.
        again: The model that was retrained again; None without one.

    Returns:
        None where neither can be told: there is nothing to recover, and who is recognised was not
        measured or is a single person.
    """
    if row.recovery is None and (row.recognised is None or row.recognised.error is None):
        return None
    return recovers(row, again) or is_recognised(row, again)


def recovers(row: Probed, again: Probed | None) -> bool:
    """Whether what was to be forgotten comes back faster than is learnt anew; see ``comes_back``.

    Args:
        row: The row.
        again: The model that was retrained again; None without one.
    """
    noise = 0.0 if again is None else abs(again.recovery or 0.0)
    limit = max(MOST_RECOVERED, noise, STANDARD_ERRORS * (row.recovery_error or 0.0))
    return row.recovery is not None and row.recovery > limit


def is_recognised(row: Probed, again: Probed | None) -> bool:
    """Whether the forgotten are recognised more than by retrained models; see ``comes_back``.

    Args:
        row: The row.
        again: The model that was retrained again; None without one.
    """
    found = row.recognised
    if found is None or found.error is None:
        return False
    noise = 0.0 if again is None or again.recognised is None else abs(again.recognised.value)
    return found.value > max(STANDARD_ERRORS * found.error, noise)


def looks_forgotten(row: Probed, again: Probed | None) -> bool | None:
    """Whether a row's ToW is inside the noise floor: as near as a model that is retrained again.

    Args:
        row: The row.
        again: The model that was retrained again; None without one.

    Returns:
        None without the one or the other.
    """
    if again is None or again.tow is None or row.tow is None:
        return None
    return row.tow >= again.tow


def only_refuses(
    row: Probed, retrained: Probed, pretrained: Probed, again: Probed | None
) -> bool | None:
    """Whether a row does not know the support pictures any more, but the people's others as before.

    The support set is all that is left for the deployer to look at. A row only refuses there if it
    scores no more than the retrained model and less than the pretrained one, each by what two
    retrained models are apart and by ``LEAST_REFUSED`` at least, while less than half of what was
    to be forgotten is gone.

    Args:
        row: The row.
        retrained: The retrained model.
        pretrained: The pretrained model.
        again: The model that was retrained again; None without one.

    Returns:
        None where a score is missing, or where there is nothing to forget.
    """
    own, goal, before = row, retrained, pretrained
    if (
        again is None
        or again.support_score is None
        or own.support_score is None
        or own.forget_score is None
        or goal.support_score is None
        or goal.forget_score is None
        or before.support_score is None
        or before.forget_score is None
        or before.forget_score - goal.forget_score < LEAST_KNOWN
    ):
        return None
    noise = max(abs(again.support_score - goal.support_score), LEAST_REFUSED)
    refuses = (
        own.support_score <= goal.support_score + noise
        and own.support_score < before.support_score - noise
    )
    kept = (own.forget_score - goal.forget_score) / (before.forget_score - goal.forget_score)
    return refuses and kept > 0.5


def hides(row: Probed, retrained: Probed, pretrained: Probed, again: Probed | None) -> bool | None:
    """Whether a row looks as if it had forgotten, and has not.

    It ``comes_back``, and either ``looks_forgotten`` or ``only_refuses``.

    Args:
        row: The row.
        retrained: The retrained model.
        pretrained: The pretrained model.
        again: The model that was retrained again; None without one.

    Returns:
        None where that cannot be told: without a model that was retrained again there is no noise
        floor.
    """
    back, looks = comes_back(row, again), looks_forgotten(row, again)
    if back is None or looks is None:
        return None
    return back and (looks or bool(only_refuses(row, retrained, pretrained, again)))
