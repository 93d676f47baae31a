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

from collections.abc import Callable, Sequence
from functools import partial
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

Measured: TypeAlias = Callable[[ArrayLike, ArrayLike, Counts, Counts], Array]
"""What an attack's scores are worth in every resample: of both sets' scores and counts, [B]."""

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
    "rmia_tpr",
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


def resampled_tprs(
    member_scores: ArrayLike,
    nonmember_scores: ArrayLike,
    member_counts: Counts,
    nonmember_counts: Counts,
    *,
    fpr: float,
) -> Array:
    """The largest true-positive rate in every resample at a false-positive rate of at most ``fpr``.

    As ``oneshui.attacks.roc.tpr_at_fpr`` of images that stand there as often as they count: the
    threshold is found anew in every resample, for an attacker who is held to a rate on these
    people.

    Args:
        member_scores: [n].
        nonmember_scores: [m].
        member_counts: [B, n].
        nonmember_counts: [B, m].
        fpr: In [0, 1].

    Returns:
        [B] in [0, 1].
    """
    members, nonmembers = as_numpy(member_scores), as_numpy(nonmember_scores)
    falling = np.argsort(-nonmembers)
    passed = nonmember_counts[:, falling].cumsum(axis=1)
    # The rate of so many images is the one meant, whatever the product is rounded to.
    allowed = np.floor(fpr * passed[:, -1] + _ROUNDING)
    inside = (passed <= allowed[:, None]).sum(axis=1)
    # The first who must stay outside is the threshold, and equals stay outside.
    thresholds = np.append(nonmembers[falling], -np.inf)[inside]
    order = np.argsort(members)
    ranked = member_counts[:, order]
    below = np.zeros((len(ranked), len(order) + 1), dtype=np.int64)
    np.cumsum(ranked, axis=1, out=below[:, 1:])
    first = np.searchsorted(members[order], thresholds, side="right")
    rates: Array = 1 - below[np.arange(len(below)), first] / below[:, -1]
    return rates


_ROUNDING = 1e-9


def resampled(
    predictions: Sequence[pd.DataFrame],
    retrained: Sequence[pd.DataFrame],
    *,
    task: Task,
    retain_gap: float,
    votes: Sequence[Judged] = (),
    membership: Sequence[Judged] = (),
    fpr: float | None = None,
) -> pd.DataFrame:
    """Measures of a row over resamples of the people whom it is judged on.

    The attacks stay as they were fitted; the people they are judged on are drawn. Of several
    requests, each with a model of its own, everybody who is forgotten is drawn together; what is
    said of test people is the mean over the models, and of an attack the mean over forget images.

    Args:
        predictions: Of the row's models, as ``oneshui.training.predict.predict`` gives them.
        retrained: Of the retrained model, on the images of each; it is drawn with the models.
        task: "multilabel" or "multiclass".
        retain_gap: Score on the retain set minus the retrained model's, in [-1, 1].
        votes: Of the loss attack's forest on each model, in [0, 1]; empty if there was none.
        membership: Scores of the relative attack on each model; empty if there was none.
        fpr: The false-positive rate at which its true positives are told; None for none.

    Returns:
        One row per resample, columns ``RESAMPLED``, fractions in float64. Null is what was not
        measured, what is undefined in a draw (no image has any attribute), and what rests upon a
        set of a single person.
    """
    own, theirs = [_Sets(table) for table in predictions], [_Sets(table) for table in retrained]
    undefined = np.full(NUM_RESAMPLES, np.nan)
    forget = draws(_forgotten(own, "identity"), "forget")
    test = draws(own[0].column("test", "identity"), "test")
    of_forget, of_test = [undefined, undefined], [undefined, undefined]
    if forget is not None:
        labels = np.concatenate([model.labels("forget", task) for model in own])
        of_forget = [
            resampled_scores(
                np.concatenate([model.stacked("forget", "logits") for model in models]),
                labels,
                forget,
                task,
            )
            for models in (own, theirs)
        ]
    if test is not None:
        # The retrained model has said the same of the test people to every request.
        of_test = [
            np.mean([_on_test(model, test, task) for model in models], axis=0)
            for models in (own, theirs[:1])
        ]
    losses = [(-model.column("forget", "loss"), -model.column("test", "loss")) for model in own]

    def over_images(judged: Sequence[Judged], measured: Measured) -> Array:
        if not judged or forget is None or test is None:
            return undefined
        return _mean_over_images(judged, forget, test, measured)

    gaps = [of_forget[0] - of_forget[1], of_test[0] - of_test[1]]
    values = {
        "forget_score": of_forget[0],
        "test_score": of_test[0],
        "tow": (1 - abs(retain_gap)) * np.prod([1 - np.abs(gap) for gap in gaps], axis=0),
        "mia_auc": over_images(votes, resampled_aucs),
        "mia_acc": undefined
        if forget is None or not votes
        else shares(np.concatenate([as_numpy(one[0]) for one in votes]) <= 0.5, forget),
        "mia_threshold_auc": over_images(losses, resampled_aucs),
        "rmia_auc": over_images(membership, resampled_aucs),
        "rmia_tpr": undefined
        if fpr is None
        else over_images(membership, partial(resampled_tprs, fpr=fpr)),
    }
    return pd.DataFrame(values, columns=list(RESAMPLED))


def _forgotten(models: Sequence[_Sets], column: str) -> npt.NDArray[Any]:
    return np.concatenate([model.column("forget", column) for model in models])


def _on_test(model: _Sets, counts: Counts, task: Task) -> Array:
    return resampled_scores(
        model.stacked("test", "logits"), model.labels("test", task), counts, task
    )


def _mean_over_images(
    judged: Sequence[Judged], forget: Counts, test: Counts, measured: Measured
) -> Array:
    """Mean over forget images, each attacked in its own request's model; [B]."""
    ends = np.cumsum([len(as_numpy(members)) for members, _ in judged])
    parts = np.split(forget, ends[:-1], axis=1)
    weights = np.stack([part.sum(axis=1) for part in parts])
    # A request of which nobody was drawn has no weight; it counts each image once to have a value.
    values = [
        measured(members, others, np.where(weight[:, None] > 0, part, 1), test)
        for (members, others), part, weight in zip(judged, parts, weights, strict=True)
    ]
    found: Array = (np.stack(values) * weights).sum(axis=0) / weights.sum(axis=0)
    return found


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
