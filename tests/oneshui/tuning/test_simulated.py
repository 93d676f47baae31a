"""Simulated requests before deletion: who plays in them, and what is noted of a point."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from support.tiny import NUM_FORGET, TinyProblem, tiny_model

from oneshui.data.images import LabelledImages
from oneshui.data.splits import most_requests
from oneshui.errors import InputError
from oneshui.metrics.scores import score
from oneshui.training.losses import sample_losses
from oneshui.training.predict import predict_logits
from oneshui.tuning.simulated import (
    NUM_RETAIN,
    SimulatedRequests,
    draw_requests,
    importances,
    movement,
    scores_of,
    set_score,
    support_of,
)

CPU = torch.device("cpu")
PROBLEM = TinyProblem("convnext")


def simulated(**changes: object) -> SimulatedRequests:
    split = PROBLEM.split
    arguments = {
        "task": PROBLEM.task,
        "train_identities": split.train,
        "exclude": split.forget,
        "num_forget": 2,
        "num_requests": 4,
        "seed": 3,
        "device": CPU,
        **changes,
    }
    train, val = PROBLEM.images("train"), PROBLEM.images("val")
    return draw_requests(tiny_model("convnext"), train, len(val), **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def train() -> LabelledImages:
    return PROBLEM.images("train")


def test_the_real_request_s_people_never_play_and_nobody_plays_twice() -> None:
    found = simulated()
    people = [person for request in found.requests for person in request.identities]
    assert len(people) == len(set(people)) >= 2
    assert not set(people) & set(PROBLEM.split.forget)
    assert set(people) <= set(PROBLEM.split.train)


def test_reserved_people_never_play_and_may_stay_among_the_retained(train: LabelledImages) -> None:
    plain = simulated()
    reserved = plain.requests[0].identities
    found = simulated(reserved=reserved)
    people = {person for request in found.requests for person in request.identities}
    assert people
    assert not people & {*reserved, *PROBLEM.split.forget}
    retained = set(train.identities[torch.tensor(found.retain)].tolist())
    assert set(reserved) <= retained


def test_the_support_picture_is_the_one_that_the_model_fits_worst(train: LabelledImages) -> None:
    losses = sample_losses(
        predict_logits(tiny_model("convnext"), train, device=CPU), train.labels, PROBLEM.task
    )
    for request in simulated().requests:
        for person, chosen in zip(request.identities, request.support, strict=True):
            own = [i for i, p in enumerate(train.identities.tolist()) if p == person]
            assert losses[chosen] == max(losses[i] for i in own)
            assert set(own) - {chosen} <= set(request.forget)
        assert not set(request.support) & set(request.forget)


def test_retain_pictures_show_nobody_of_any_request(train: LabelledImages) -> None:
    found = simulated()
    people = {person for request in found.requests for person in request.identities}
    shown = set(train.identities[torch.tensor(found.retain)].tolist())
    assert shown
    assert not shown & people
    assert len(found.retain) <= NUM_RETAIN
    assert max(found.val) < len(PROBLEM.images("val"))


def test_the_seed_decides() -> None:
    assert simulated() == simulated()
    assert simulated() != simulated(seed=4)


@pytest.mark.parametrize(("people", "size", "most"), [(9, 2, 4), (9, 4, 2), (9, 8, 1), (2, 1, 1)])
def test_as_many_requests_as_leave_somebody(people: int, size: int, most: int) -> None:
    assert most_requests(people, size) == most


@pytest.mark.parametrize(("people", "size"), [(9, 9), (3, 20), (1, 1), (0, 1)])
def test_a_request_too_large_to_simulate_is_refused(people: int, size: int) -> None:
    with pytest.raises(InputError, match=r"lower sweep\.forget_sizes or use profile=paper"):
        most_requests(people, size)
    left = len(PROBLEM.split.retain)
    with pytest.raises(InputError, match=f"only {left} training people"):
        simulated(num_forget=left)
    with pytest.raises(InputError) as error:
        simulated(reserved=PROBLEM.split.retain[1:])
    assert str(error.value) == (
        "tuning simulates requests of 2 people, but only 1 training people are left beside the "
        "real request and those of reported cells; report fewer sweep.seeds, lower "
        "sweep.forget_sizes, say tuning.cells=own or use profile=paper"
    )


def test_a_simulated_support_set_is_what_a_real_one_is(train: LabelledImages) -> None:
    request = simulated().requests[0]
    support, real = support_of(train, request), PROBLEM.unlearn_request().support
    assert support.images.dtype == real.images.dtype == torch.uint8
    assert support.images.shape[1:] == real.images.shape[1:]
    assert support.identities.tolist() == list(request.identities)
    assert len(support) == 2 != NUM_FORGET


def test_scores_are_those_of_the_four_sets(train: LabelledImages) -> None:
    found, model, val = simulated(), tiny_model("convnext", seed=5), PROBLEM.images("val")
    request = found.requests[0]
    scores = scores_of(model, request, found, train, val, task="multilabel", device=CPU)
    for name, data, places in (
        ("forget", train, request.forget),
        ("retain", train, found.retain),
        ("val", val, found.val),
        ("support", train, request.support),
    ):
        chosen = data.select(torch.tensor(places))
        wanted = score(predict_logits(model, chosen, device=CPU), chosen.labels, "multilabel")
        assert getattr(scores, name) == pytest.approx(wanted)


def test_a_model_that_is_not_finite_has_no_score(train: LabelledImages) -> None:
    broken = tiny_model("convnext")
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    assert math.isnan(set_score(broken, train, "multilabel", CPU))


def test_one_picture_without_attributes_has_no_score(train: LabelledImages) -> None:
    one = train.select(torch.tensor([0]))
    empty = dataclasses.replace(one, labels=torch.zeros_like(one.labels))
    assert math.isnan(set_score(tiny_model("convnext"), empty, "multilabel", CPU))


def test_movement_is_the_weighted_square_of_the_change(train: LabelledImages) -> None:
    model = tiny_model("convnext")
    found = importances(model, train, task="multilabel", seed=0, device=CPU)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(0.25)
    total = sum(float(np.float64(value.double().sum())) for value in found.values())
    assert total > 0
    assert movement(moved, model, found) == pytest.approx(0.0625 * total, rel=1e-4)
    assert movement(model, model, found) == 0.0
    with torch.no_grad():
        next(moved.parameters()).fill_(math.inf)
    assert math.isnan(movement(moved, model, found))
