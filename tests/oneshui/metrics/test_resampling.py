"""Resamples of people against tables in which people stand as often as they were drawn."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from reference.ap import average_precision
from reference.auc import auc as slow_auc
from reference.tpr import tpr_at_fpr as slow_tpr

from benchmarks.people import Population, coverage
from oneshui.attacks.roc import auc, tpr_at_fpr
from oneshui.errors import InputError
from oneshui.metrics.resampling import (
    NUM_RESAMPLES,
    RESAMPLED,
    draws,
    interval,
    resampled,
    resampled_aucs,
    resampled_scores,
    resampled_tprs,
)
from oneshui.metrics.scores import score
from oneshui.metrics.tow import tow
from oneshui.spec import Task

PEOPLE = {"forget": [3, 3, 3, 8, 8, 11, 11, 11, 20], "test": [1, 1, 2, 2, 2, 2, 5, 6, 6, 7]}
NUM_OUTPUTS = 3
RETAIN_GAP = -0.02
FPR = 0.3
CHECKED = range(0, NUM_RESAMPLES, 7)

each_task = pytest.mark.parametrize("task", get_args(Task))


def predictions(task: Task, seed: int) -> pd.DataFrame:
    """Logits have ties and depend on the seed; people and labels do not."""
    same, own = np.random.default_rng(0), np.random.default_rng(seed)
    names = [name for name, people in PEOPLE.items() for _ in people]
    labels = (same.random((len(names), NUM_OUTPUTS)) < 0.4).astype(np.float64)
    labels[:, 2] = np.arange(len(names)) == 8  # of a single person of the forget set
    if task == "multiclass":
        labels = same.integers(0, NUM_OUTPUTS, size=(len(names), 1)).astype(np.float64)
    return pd.DataFrame(
        {
            "set": names,
            "image": np.arange(len(names)),
            "identity": [person for people in PEOPLE.values() for person in people],
            "loss": own.integers(0, 4, size=len(names)) / 4,
            "label": list(labels),
            "logits": list(own.integers(-3, 4, size=(len(names), NUM_OUTPUTS)) / 2),
        }
    )


def drawn_of(name: str) -> npt.NDArray[np.int32]:
    found = draws(PEOPLE[name], name)
    assert found is not None
    return found


def scores_of(frame: pd.DataFrame, task: Task) -> float:
    labels = np.stack(frame["label"].to_list())
    if task == "multiclass":
        labels = labels[:, 0].astype(np.int64)
    return score(np.stack(frame["logits"].to_list()), labels, task)


def judged(seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 5, size=9) / 4, generator.integers(0, 5, size=10) / 4


def repeated(scores: tuple[Any, ...], *times: npt.NDArray[np.int32]) -> tuple[list[float], ...]:
    return tuple(own.repeat(often).tolist() for own, often in zip(scores, times, strict=True))


@each_task
def test_a_resample_is_the_table_with_people_as_often_as_they_were_drawn(task: Task) -> None:
    own, theirs = predictions(task, 1), predictions(task, 2)
    votes, membership = judged(3), judged(4)
    found = resampled(
        [own],
        [theirs],
        task=task,
        retain_gap=RETAIN_GAP,
        votes=[votes],
        membership=[membership],
        fpr=FPR,
    )
    assert list(found.columns) == list(RESAMPLED)
    assert len(found) == NUM_RESAMPLES
    counts = {name: drawn_of(name) for name in PEOPLE}
    for number in CHECKED:
        times = {name: counts[name][number] for name in PEOPLE}
        scores: dict[str, dict[str, float]] = {"own": {"retain": 0.5 + RETAIN_GAP}}
        scores["theirs"] = {"retain": 0.5}
        for name in PEOPLE:
            for who, frame in (("own", own), ("theirs", theirs)):
                table = frame[frame["set"] == name]
                scores[who][name] = scores_of(table.loc[table.index.repeat(times[name])], task)
        forget, test = (times[name] for name in PEOPLE)
        losses = tuple(-own.loc[own["set"] == name, "loss"].to_numpy() for name in PEOPLE)
        inside, outside = repeated(membership, forget, test)
        expected = {
            "forget_score": scores["own"]["forget"],
            "test_score": scores["own"]["test"],
            "tow": tow(scores["own"], scores["theirs"]),
            "mia_auc": slow_auc(*repeated(votes, forget, test)),
            "mia_acc": (votes[0].repeat(forget) <= 0.5).mean(),
            "mia_threshold_auc": slow_auc(*repeated(losses, forget, test)),
            "rmia_auc": slow_auc(inside, outside),
            "rmia_tpr": slow_tpr(inside, outside, FPR),
        }
        assert found.loc[number].to_dict() == pytest.approx(expected, abs=1e-12)


def test_an_attribute_counts_in_the_draws_that_somebody_with_it_is_in() -> None:
    frame = predictions("multilabel", 1)
    forget = frame[frame["set"] == "forget"]
    logits, labels = (np.stack(forget[name].to_list()) for name in ("logits", "label"))
    counts = drawn_of("forget")
    scores = resampled_scores(logits, labels, counts, "multilabel")
    absent = 0
    for number in CHECKED:
        tables = [part.repeat(counts[number], axis=0).T for part in (logits, labels)]
        precisions = [average_precision(*pair) for pair in zip(*tables, strict=True)]
        absent += np.isnan(precisions).sum()
        assert scores[number] == pytest.approx(np.nanmean(precisions), abs=1e-12)
    assert 0 < absent < len(CHECKED) * NUM_OUTPUTS
    nobody = resampled_scores(logits, labels * 0, counts, "multilabel")
    assert np.isnan(nobody).all()


@each_task
def test_when_everybody_counts_once_the_numbers_are_the_stored_ones(task: Task) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(300, 40)).round(1)
    labels = (generator.random((300, 40)) < 0.2).astype(np.int64)
    if task == "multiclass":
        labels = generator.integers(0, 40, size=300)
    once = np.ones((2, 300), dtype=np.int32)
    scores = resampled_scores(logits, labels, once, task)
    stored = score(logits, labels, task)
    if task == "multiclass":
        assert scores.tolist() == [stored, stored]
    # Stored precisions add zeros where no image is found: sums may differ in the last digit.
    assert scores.tolist() == pytest.approx([stored, stored], rel=1e-14)
    areas = resampled_aucs(logits[:, 0], logits[:200, 1], once, once[:, :200])
    assert areas.tolist() == [auc(logits[:, 0], logits[:200, 1])] * 2
    rates = resampled_tprs(logits[:, 0], logits[:200, 1], once, once[:, :200], fpr=0.05)
    stored_rate = tpr_at_fpr(logits[:, 0], logits[:200, 1], fpr=0.05)
    assert rates.tolist() == pytest.approx([stored_rate] * 2, rel=1e-14)


def test_all_images_of_a_person_come_along_and_one_person_fewer_is_drawn() -> None:
    counts = drawn_of("forget")
    assert counts.shape == (NUM_RESAMPLES, 9)
    people = np.array(PEOPLE["forget"])
    first = [people.tolist().index(person) for person in (3, 8, 11, 20)]
    for person in (3, 8, 11):
        assert (np.ptp(counts[:, people == person], axis=1) == 0).all()
    assert (counts[:, first].sum(axis=1) == 3).all()
    assert counts.max() > 1
    # As often each: 3 of 4 people on average, within five standard errors.
    assert counts[:, first].mean(axis=0) == pytest.approx([0.75] * 4, abs=0.3)


def test_draws_depend_on_who_is_there_and_not_on_order_or_images() -> None:
    order = np.random.default_rng(0).permutation(9)
    shuffled = draws(np.array(PEOPLE["forget"])[order], "forget")
    assert shuffled is not None
    np.testing.assert_array_equal(shuffled, drawn_of("forget")[:, order])
    fewer = draws(sorted(set(PEOPLE["forget"])), "forget")
    assert fewer is not None
    np.testing.assert_array_equal(fewer, drawn_of("forget")[:, [0, 3, 5, 8]])
    for other in (draws(PEOPLE["forget"], "test"), draws([3, 8, 11, 21], "forget")):
        assert other is not None
        assert not np.array_equal(other[:, -1], fewer[:, -1])
    with pytest.raises(InputError, match="the forget set has no image"):
        draws([], "forget")


@each_task
def test_rows_are_paired_with_the_retrained_model(task: Task) -> None:
    own = predictions(task, 1)
    same = resampled([own], [own], task=task, retain_gap=RETAIN_GAP)
    assert (same["tow"] == 1 - abs(RETAIN_GAP)).all()
    assert same["forget_score"].nunique() > 10
    # Another row of the cell, whose logits order images alike, has the same scores in each draw.
    other = own.assign(logits=[2 * logits + 1 for logits in own["logits"]])
    again = resampled([other], [own], task=task, retain_gap=0.0)
    for name in ("forget_score", "test_score"):
        assert again[name].tolist() == same[name].tolist()
    assert (again["tow"] == 1).all()
    assert same[["mia_auc", "mia_acc", "rmia_auc", "rmia_tpr"]].isna().all(axis=None)


def test_of_several_requests_the_forgotten_are_drawn_together() -> None:
    whole = predictions("multilabel", 1)
    is_first = whole["identity"].isin(sorted(set(PEOPLE["forget"]))[:2])
    of_forget = whole["set"] == "forget"
    requests = [whole[~of_forget | is_first], whole[~of_forget | ~is_first]]
    votes, membership = judged(3), judged(4)
    first = is_first[of_forget].to_numpy()

    def parted(scores: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return [(scores[0][first], scores[1]), (scores[0][~first], scores[1])]

    found = resampled(
        requests,
        requests,
        task="multilabel",
        retain_gap=RETAIN_GAP,
        votes=parted(votes),
        membership=parted(membership),
        fpr=FPR,
    )
    joined = pd.concat([whole[of_forget & is_first], whole[of_forget & ~is_first]])
    alike = resampled(
        [pd.concat([joined, whole[~of_forget]])],
        [pd.concat([joined, whole[~of_forget]])],
        task="multilabel",
        retain_gap=RETAIN_GAP,
        votes=[(np.concatenate([part[0] for part in parted(votes)]), votes[1])],
        membership=[(np.concatenate([part[0] for part in parted(membership)]), membership[1])],
        fpr=FPR,
    )
    # Of models that say the same, requests together are one request.
    pd.testing.assert_frame_equal(found, alike)


def test_what_rests_on_a_single_person_has_no_resamples() -> None:
    own = predictions("multilabel", 1)
    own.loc[own["set"] == "forget", "identity"] = 3
    found = resampled([own], [own], task="multilabel", retain_gap=0.0, votes=[judged(3)])
    assert found["test_score"].notna().all()
    assert found.drop(columns="test_score").isna().all(axis=None)


def test_the_interval_is_student_s_on_the_scale_of_the_logit() -> None:
    drawn = np.array([0.4, 0.5, 0.6, 0.5])
    # logit(.6) = ln 1.5 = .405465; s = sqrt(2/3) * .405465; t(9, .975) = 2.262157
    half = 2.262157 * np.sqrt(2 / 3) * 0.4054651
    ends = interval(0.5, drawn, 10)
    assert ends == pytest.approx((1 / (1 + np.exp(half)), 1 / (1 + np.exp(-half))), abs=1e-6)
    high = interval(0.99, [0.97, 0.98, 0.99, 1.0], 10)
    assert high is not None
    assert 0.5 < high[0] < 0.97
    assert 0.99 < high[1] < 1
    lows: list[float] = []
    for people in (5, 10, 1000):
        found = interval(0.5, drawn, people)
        assert found is not None
        lows.append(found[0])
    assert lows == sorted(set(lows))


@pytest.mark.parametrize(
    ("resamples", "people"),
    [([0.4, 0.6], 4), ([0.5, 0.5], 20), ([0.4, np.nan], 20), ([0.0, 1.0], 20)],
)
def test_there_is_no_interval_of_few_people_or_without_a_spread(
    resamples: list[float], people: int
) -> None:
    assert interval(0.5, resamples, people) is None


@pytest.mark.parametrize("effects", ["normal", "skewed"])
def test_intervals_hold_the_truth_when_people_are_drawn_and_not_when_images_are(
    effects: Any,
) -> None:
    population = Population(people=20, others=60, shift=0.7, effects=effects)
    found = coverage(population, repetitions=400)
    # 95 % within two and a half standard errors of 400 repetitions (1.1 points each);
    # benchmarks/people.py takes as many as it is told.
    assert 0.923 <= found["by_people"] <= 0.977
    assert found["by_images"] < 0.85
