"""How far a measure would move with other people: resamples of the forget and the test set.

Images of a person are not independent, so people are drawn and not images: all images of a person
come along, and a person who is drawn twice counts twice. Of P people P - 1 are drawn, with
replacement, which makes the variance over resamples that of the measure; P of P would give
(P - 1)/P of it (Rao and Wu, "Resampling inference with complex survey data", JASA 83, 1988). The
retain set is fixed: it is everybody who stays, and no sample of anybody.

A draw depends on who is in the set and on nothing else, so the rows of a cell and its retrained
model see the same draws, and differences between them are paired.

Shapes: N images, C attributes or classes, B resamples.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.errors import InputError
from oneshui.metrics.scores import ArrayLike, as_logits, as_numpy
from oneshui.seeding import derive_seed
from oneshui.spec import Task

Array: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int32]
"""How often every image counts in every resample, [B, N]."""
Judged: TypeAlias = tuple[ArrayLike, ArrayLike]
"""An attack's scores of forget [n] and test images [m], larger for members."""

NUM_RESAMPLES = 200
FEWEST_PEOPLE = 5
"""Of an interval: what fewer people say of all others is not worth one."""
RESAMPLED = (
    "forget_score",
    "test_score",
    "tow",
    "mia_auc",
    "mia_acc",
    "mia_threshold_auc",
    "rmia_auc",
)
"""The measures that ``resampled`` gives, by their names in the results."""

_COUNTS_AT_ONCE = 4_000_000


def draws(identities: ArrayLike, name: str) -> Counts | None:
    """The resamples of one set.

    Args:
        identities: Of every image, int [N].
        name: Of the set, so that sets of the same people are drawn apart.

    Returns:
        None for a set of a single person, of which there is no other sample.

    Raises:
        InputError: There is no image.
    """
    people, person = np.unique(as_numpy(identities), return_inverse=True)
    if len(people) == 0:
        raise InputError(f"the {name} set has no image, so nobody can be drawn from it")
    if len(people) == 1:
        return None
    generator = np.random.default_rng(derive_seed("people", name, *people.tolist()))
    drawn = generator.integers(len(people), size=(NUM_RESAMPLES, len(people) - 1))
    places = drawn + len(people) * np.arange(NUM_RESAMPLES)[:, None]
    times = np.bincount(places.ravel(), minlength=NUM_RESAMPLES * len(people))
    return times.reshape(NUM_RESAMPLES, len(people)).astype(np.int32)[:, person]


def resampled_scores(logits: ArrayLike, labels: ArrayLike, counts: Counts, task: Task) -> Array:
    """The task's own score of every resample, [B] in [0, 1]: mAP or accuracy.

    As ``oneshui.metrics.scores.score`` of a table that holds every image as often as it counts.

    Args:
        logits: [N, C].
        labels: 0/1 [N, C] (multilabel) or class index [N] (multiclass).
        counts: [B, N].
        task: Which of the two.

    Returns:
        NaN where no image of a resample has any attribute.

    Raises:
        InputError: Logits are not finite or not [N, C].
    """
    scores, truth = as_logits(logits), as_numpy(labels)
    if task == "multiclass":
        return shares(scores.argmax(axis=1) == truth, counts)
    precisions = np.stack(
        [_precisions(*pair, counts) for pair in zip(scores.T, truth.T, strict=True)], axis=1
    )
    counted = ~np.isnan(precisions)
    # Row by row, with absent attributes out of it: adding them as zeros would round otherwise.
    return np.array(
        [
            row[present].mean() if present.any() else np.nan
            for row, present in zip(precisions, counted, strict=True)
        ]
    )


def _precisions(scores: Array, truth: npt.NDArray[Any], counts: Counts) -> Array:
    """Average precision of one attribute in every resample, [B]; images are sorted once."""
    order = np.argsort(-scores)
    ordered = scores[order]
    last_of_equals = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    positives = np.flatnonzero(truth[order])
    if len(positives) == 0:
        return np.full(len(counts), np.nan)
    # Recall moves at positives alone: everything happens where a group of equals with one ends.
    ends = last_of_equals[np.searchsorted(last_of_equals, positives)]
    groups = np.flatnonzero(np.append(ends[1:] != ends[:-1], True))
    parts = []
    step = max(1, _COUNTS_AT_ONCE // len(order))
    for start in range(0, len(counts), step):
        part = counts[start : start + step][:, order]
        seen = part.cumsum(axis=1, dtype=np.int32)[:, ends[groups]]
        found = part[:, positives].cumsum(axis=1, dtype=np.int32)[:, groups]
        precision = found / np.maximum(seen, 1)
        total = found[:, -1]
        areas = (np.diff(found, axis=1, prepend=0) * precision).sum(axis=1)
        parts.append(np.where(total > 0, areas / np.maximum(total, 1), np.nan))
    return np.concatenate(parts)


def shares(hits: npt.NDArray[np.bool_], counts: Counts) -> Array:
    """Share of images that are hit in every resample, [B].

    Args:
        hits: [N].
        counts: [B, N].
    """
    found: Array = counts @ hits.astype(np.int32) / counts.sum(axis=1)
    return found


def resampled_aucs(
    member_scores: ArrayLike,
    nonmember_scores: ArrayLike,
    member_counts: Counts,
    nonmember_counts: Counts,
) -> Array:
    """AUC of an attack in every resample, [B]: P(member's score > non-member's) + P(equal)/2.

    Args:
        member_scores: [n].
        nonmember_scores: [m].
        member_counts: [B, n].
        nonmember_counts: [B, m].
    """
    members, nonmembers = as_numpy(member_scores), as_numpy(nonmember_scores)
    order = np.argsort(nonmembers)
    ordered = nonmembers[order]
    passed = np.zeros((len(nonmember_counts), len(order) + 1), dtype=np.int64)
    np.cumsum(nonmember_counts[:, order], axis=1, out=passed[:, 1:])
    below, not_above = (np.searchsorted(ordered, members, side=side) for side in _SIDES)
    wins = (member_counts * (passed[:, below] + passed[:, not_above])).sum(axis=1)
    areas: Array = wins / member_counts.sum(axis=1) / (2 * passed[:, -1])
    return areas


_SIDES: tuple[Any, ...] = ("left", "right")


def resampled(
    predictions: pd.DataFrame,
    retrained: pd.DataFrame,
    *,
    task: Task,
    retain_gap: float,
    votes: Judged | None = None,
    membership: Judged | None = None,
) -> pd.DataFrame:
    """Measures of one model over resamples of the people whom it is judged on.

    The attacks stay as they were fitted; the people they are judged on are drawn.

    Args:
        predictions: Of the model, as ``oneshui.training.predict.predict`` gives them.
        retrained: Of the retrained model, on the same images; it is drawn with the model.
        task: "multilabel" or "multiclass".
        retain_gap: Score on the retain set minus the retrained model's, in [-1, 1].
        votes: Of the loss attack's forest, in [0, 1].
        membership: Scores of the relative attack, if the model was attacked.

    Returns:
        One row per resample, columns ``RESAMPLED``, fractions in float64. Null is what was not
        measured, what is undefined in a draw (no image has any attribute), and what rests upon a
        set of a single person.
    """
    own, theirs = _Sets(predictions), _Sets(retrained)
    counts = {name: draws(own.column(name, "identity"), name) for name in ("forget", "test")}
    scores, gaps = dict[str, Array](), [np.full(NUM_RESAMPLES, retain_gap)]
    for name, drawn in counts.items():
        scores[name], reference = (
            np.full(NUM_RESAMPLES, np.nan)
            if drawn is None
            else resampled_scores(
                model.stacked(name, "logits"), own.labels(name, task), drawn, task
            )
            for model in (own, theirs)
        )
        gaps.append(scores[name] - reference)
    losses = (-own.column("forget", "loss"), -own.column("test", "loss"))
    forget, test = counts["forget"], counts["test"]

    def auc(judged: Judged | None) -> Array:
        if judged is None or forget is None or test is None:
            return np.full(NUM_RESAMPLES, np.nan)
        return resampled_aucs(*judged, forget, test)

    values = {
        "forget_score": scores["forget"],
        "test_score": scores["test"],
        "tow": np.prod([1 - np.abs(gap) for gap in gaps], axis=0),
        "mia_auc": auc(votes),
        "mia_acc": np.full(NUM_RESAMPLES, np.nan)
        if forget is None or votes is None
        else shares(as_numpy(votes[0]) <= 0.5, forget),
        "mia_threshold_auc": auc(losses),
        "rmia_auc": auc(membership),
    }
    return pd.DataFrame(values, columns=list(RESAMPLED))


class _Sets:
    """Columns of stored predictions as arrays, by set."""

    def __init__(self, predictions: pd.DataFrame) -> None:
        self._parts = dict(iter(predictions.groupby("set")))

    def column(self, name: str, column: str) -> npt.NDArray[Any]:
        return self._parts[name][column].to_numpy()

    def stacked(self, name: str, column: str) -> npt.NDArray[Any]:
        return np.stack(self._parts[name][column].to_list())

    def labels(self, name: str, task: Task) -> npt.NDArray[Any]:
        labels = self.stacked(name, "label")
        return labels[:, 0].astype(np.int64) if task == "multiclass" else labels


def interval(value: float, resamples: ArrayLike, people: int) -> tuple[float, float] | None:
    """95 % interval of a fraction, from its resamples.

    Student's, on the scale of the logit, with the standard deviation over resamples for standard
    error: it stays within [0, 1], leans as a fraction near 1 does, and is as wide as few people
    make it. Plain percentiles are too narrow on all three counts (``benchmarks/people.py``).

    Args:
        value: The fraction, on everybody.
        resamples: The same in every resample, [B].
        people: In the smaller of the sets that it rests upon.

    Returns:
        None for fewer than ``FEWEST_PEOPLE`` people, and where a resample is undefined or none
        differs from the others.
    """
    from scipy.special import expit, logit, stdtrit

    drawn = as_numpy(resamples).astype(np.float64)
    if people < FEWEST_PEOPLE or np.isnan(drawn).any() or drawn.min() == drawn.max():
        return None
    inside = drawn[(drawn > 0) & (drawn < 1)]
    if len(inside) == 0:
        return None
    # At 0 and 1 the logit is infinite: they count as half as far away as the nearest resample.
    edges = inside.min() / 2, 1 - (1 - inside.max()) / 2
    centre, spread = logit(np.clip(value, *edges)), logit(np.clip(drawn, *edges)).std(ddof=1)
    half = stdtrit(people - 1, 0.975) * spread
    return float(expit(centre - half)), float(expit(centre + half))
