"""All measures of a row against plain formulas, on predictions that are made up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from reference.ap import average_precision
from reference.auc import auc
from reference.divergence import coin, js, softmax
from sklearn.ensemble import RandomForestClassifier

from oneshui.errors import InputError
from oneshui.measures import average_precision_table, measure, measure_requests
from oneshui.metrics.nomus import attack_accuracy
from oneshui.spec import Task

SIZES = {"retain": 40, "forget": 15, "test": 30, "val": 25, "support": 6}
NUM_OUTPUTS = 4
ABSENT = 2
"""An attribute that no forget image has."""

each_task = pytest.mark.parametrize("task", get_args(Task))


def predictions(task: Task, seed: int) -> pd.DataFrame:
    """Images and labels do not depend on the seed, logits and losses do."""
    same, own = np.random.default_rng(0), np.random.default_rng(seed)
    names = [name for name, size in SIZES.items() for _ in range(size)]
    logits = own.normal(size=(len(names), NUM_OUTPUTS)).astype(np.float32)
    label = same.integers(0, 2, size=logits.shape).astype(np.float32)
    label[np.array(names) == "forget", ABSENT] = 0
    if task == "multiclass":
        label = same.integers(0, NUM_OUTPUTS, size=(len(names), 1)).astype(np.float32)
    return pd.DataFrame(
        {
            "set": names,
            "image": same.permutation(len(names)),
            "identity": np.arange(len(names)) // 3,
            "loss": own.exponential(size=len(names)).astype(np.float32),
            "label": list(label),
            "logits": list(logits),
        }
    )


def of_set(frame: pd.DataFrame, name: str, column: str) -> list[Any]:
    return [np.asarray(v).tolist() for v in frame.loc[frame["set"] == name, column]]


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def score(frame: pd.DataFrame, name: str, task: Task) -> float:
    logits, labels = of_set(frame, name, "logits"), of_set(frame, name, "label")
    if task == "multiclass":
        right = [z.index(max(z)) == y[0] for z, y in zip(logits, labels, strict=True)]
        return mean(right)
    columns = [
        average_precision([z[c] for z in logits], [y[c] for y in labels])
        for c in range(NUM_OUTPUTS)
    ]
    return mean([value for value in columns if not math.isnan(value)])


def divergence(one: pd.DataFrame, other: pd.DataFrame, name: str, task: Task) -> float:
    pairs = zip(of_set(one, name, "logits"), of_set(other, name, "logits"), strict=True)
    if task == "multiclass":
        each = [js(softmax(p), softmax(q)) for p, q in pairs]
    else:
        each = [
            sum(js(coin(a), coin(b)) for a, b in zip(p, q, strict=True)) / len(p) for p, q in pairs
        ]
    return sum(each) / len(each)


def margin(frame: pd.DataFrame, task: Task) -> float:
    """Mean log-odds of the truth on the forget set."""
    pairs = zip(of_set(frame, "forget", "logits"), of_set(frame, "forget", "label"), strict=True)
    if task == "multiclass":
        truths = [softmax(z)[int(y[0])] for z, y in pairs]
        return mean([math.log(p / (1 - p)) for p in truths])
    return mean([a if b else -a for z, y in pairs for a, b in zip(z, y, strict=True)])


def attack(frame: pd.DataFrame, trees: int) -> tuple[float, float]:
    """AUC, and the share of forget images that scikit-learn's forest calls non-members."""
    retain, val, forget, test = (
        of_set(frame, name, "loss") for name in ("retain", "val", "forget", "test")
    )
    known = np.array(retain + val)[:, None]
    forest = RandomForestClassifier(trees, random_state=0)
    forest.fit(known, [1] * len(retain) + [0] * len(val))
    votes = [
        forest.predict_proba(np.array(part)[:, None])[:, 1].tolist() for part in (forget, test)
    ]
    return auc(*votes), sum(vote <= 0.5 for vote in votes[0]) / len(forget)


def tow(own: dict[str, float], theirs: dict[str, float]) -> float:
    return math.prod(1 - abs(own[name] - theirs[name]) for name in ("retain", "forget", "test"))


@each_task
def test_every_measure_is_its_formula(task: Task) -> None:
    model, retrained, pretrained = (predictions(task, seed) for seed in (1, 2, 3))
    measured = measure(model, retrained, pretrained, task=task)

    own, theirs, before = (
        {name: score(frame, name, task) for name in SIZES}
        for frame in (model, retrained, pretrained)
    )
    mia, of_retraining = attack(model, 100), attack(retrained, 100)
    authors = max((attack(model, trees) for trees in (20, 50, 100)), key=lambda pair: pair[1])
    below, value = tow(before, theirs), tow(own, theirs)
    forget, test = of_set(model, "forget", "loss"), of_set(model, "test", "loss")
    expected: dict[str, float | None] = {
        **{f"{name}_score": own[name] for name in SIZES},
        **{f"{name}_loss": mean(of_set(model, name, "loss")) for name in SIZES},
        **{f"{name}_gap": own[name] - theirs[name] for name in ("retain", "forget", "test")},
        "tow": value,
        "tow_normalised": (value - below) / (1 - below),
        "tow_with_mia": value * (1 - abs(mia[0] - of_retraining[0])),
        "mia_auc": mia[0],
        "mia_acc": mia[1],
        "mia_threshold_auc": auc([-x for x in forget], [-x for x in test]),
        "mia_reference_auc": authors[0],
        "mia_reference_acc": authors[1],
        "js_forget": divergence(model, retrained, "forget", task),
        "js_test": divergence(model, retrained, "test", task),
        "num_attributes": NUM_OUTPUTS - 1,
        "nomus": None,
        "forget_margin": margin(model, task),
        "forget_margin_gap": margin(model, task) - margin(retrained, task),
        "forget_loss_gap": mean(forget) - mean(of_set(retrained, "forget", "loss")),
    }
    if task == "multiclass":
        found = attack_accuracy(forget, test, seed=0)
        expected["nomus"] = own["test"] / 2 + (1 - 2 * abs(found - 0.5)) / 2
        expected["num_attributes"] = None
    undefined = {key for key, number in expected.items() if number is None}
    assert {key for key, number in measured.items() if number is None} == undefined
    for key in expected.keys() - undefined:
        assert measured[key] == pytest.approx(expected[key], rel=1e-6, abs=1e-9), key
    assert measured.keys() == expected.keys()
    # Otherwise some of the formulas above could stand for others.
    assert authors != mia
    assert abs(mia[0] - of_retraining[0]) > 0.01


def in_requests(frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Three requests of 3, 5 and 7 forget images and two support images, each of another model."""
    found = []
    for number, frame in enumerate(frames):
        first, last = ((0, 3), (3, 8), (8, 15))[number]
        place = frame.groupby("set").cumcount()
        own = (frame["set"] == "forget") & place.between(first, last - 1)
        own |= (frame["set"] == "support") & (place // 2 == number)
        found.append(frame[own | ~frame["set"].isin(["forget", "support"])])
    return found


@each_task
def test_several_requests_are_measured_as_one(task: Task) -> None:
    models = [predictions(task, seed) for seed in (5, 6, 7)]
    retrained, pretrained = predictions(task, 2), predictions(task, 3)
    requests = in_requests(models)
    found = measure_requests(requests, retrained, pretrained, task=task)

    together = pd.concat(requests, ignore_index=True)
    own = {
        name: score(together, name, task)
        if name in ("forget", "support")
        else mean([score(frame, name, task) for frame in models])
        for name in SIZES
    }
    theirs, before = (
        {name: score(frame, name, task) for name in SIZES} for frame in (retrained, pretrained)
    )
    below, value = tow(before, theirs), tow(own, theirs)
    attacks = [attack(request, 100) for request in requests]
    mia, accuracy = (
        sum(size * each[place] for size, each in zip((3, 5, 7), attacks, strict=True)) / 15
        for place in (0, 1)
    )
    expected = {
        **{f"{name}_score": own[name] for name in SIZES},
        **{f"{name}_loss": mean(of_set(together, name, "loss")) for name in SIZES},
        **{f"{name}_gap": own[name] - theirs[name] for name in ("retain", "forget", "test")},
        "tow": value,
        "tow_normalised": (value - below) / (1 - below),
        "tow_with_mia": value * (1 - abs(mia - attack(retrained, 100)[0])),
        "mia_auc": mia,
        "mia_acc": accuracy,
        "js_test": mean([divergence(frame, retrained, "test", task) for frame in models]),
        "forget_margin": margin(together, task),
        "forget_margin_gap": margin(together, task) - margin(retrained, task),
        "forget_loss_gap": mean(of_set(together, "forget", "loss"))
        - mean(of_set(retrained, "forget", "loss")),
    }
    for key, number in expected.items():
        assert found[key] == pytest.approx(number, rel=1e-6, abs=1e-9), key
    assert found.keys() == measure(models[0], retrained, pretrained, task=task).keys()
    assert found["num_attributes"] == (NUM_OUTPUTS - 1 if task == "multilabel" else None)


@each_task
def test_a_single_request_is_measured_as_ever(task: Task) -> None:
    model, retrained, pretrained = (predictions(task, seed) for seed in (1, 2, 3))
    one = measure_requests([model], retrained, pretrained, task=task)
    assert one == measure(model, retrained, pretrained, task=task)


@each_task
def test_without_the_pretrained_model_only_the_normalised_tow_is_absent(task: Task) -> None:
    model, retrained = predictions(task, 1), predictions(task, 2)
    with_it = measure(model, retrained, predictions(task, 3), task=task)
    without = measure(model, retrained, task=task)
    assert without == with_it | {"tow_normalised": None}


@pytest.mark.parametrize("column", ["set", "image"])
@pytest.mark.parametrize("which", ["retrained", "pretrained"])
def test_predictions_on_other_images_are_refused(which: str, column: str) -> None:
    frames: dict[str, Any] = {
        name: predictions("multilabel", 1) for name in ("retrained", "pretrained")
    }
    frames[which] = frames[which].assign(**{column: frames[which][column].to_numpy()[::-1]})
    with pytest.raises(InputError, match="differ in images"):
        measure(predictions("multilabel", 2), **frames, task="multilabel")


def test_the_table_of_precisions_has_a_line_for_every_set_and_attribute() -> None:
    frame = predictions("multilabel", 1)
    table = average_precision_table(frame)
    expected = []
    for name in SIZES:
        logits, labels = of_set(frame, name, "logits"), of_set(frame, name, "label")
        for c in range(NUM_OUTPUTS):
            truth = [int(y[c]) for y in labels]
            value = average_precision([z[c] for z in logits], truth)
            expected.append((name, c, sum(truth), value))
    wanted = pd.DataFrame(expected, columns=["set", "attribute", "positives", "average_precision"])
    pd.testing.assert_frame_equal(table, wanted, check_dtype=False)
    absent = table[(table["set"] == "forget") & (table["attribute"] == ABSENT)]
    assert absent["average_precision"].isna().all()
    assert len(absent) == 1
