"""What each kind of choice sees, and what it makes of it."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from support.made_up_study import VAL, made_up
from support.tiny import TinyProblem, tiny_model

from oneshui.tuning.objectives import (
    OracleChoice,
    SimulatedChoice,
    SupportAndValChoice,
    SupportOnlyChoice,
    observe,
)
from oneshui.tuning.score import Run, Scores, TrialScores, simulated_tow
from oneshui.tuning.simulated import importances, movement, set_score

CPU = torch.device("cpu")
PROBLEM = TinyProblem("convnext")


def mean_average_precision_score(labels: torch.Tensor, logits: torch.Tensor) -> float:
    """By scikit-learn, over the attributes that somebody has."""
    scores = [
        average_precision_score(labels[:, c].numpy(), logits[:, c].numpy())
        for c in range(labels.shape[1])
        if labels[:, c].any()
    ]
    return float(np.mean(scores))


def test_a_simulated_choice_is_the_simulated_tow() -> None:
    study, _ = made_up(5, 4, 0)
    for point, runs in enumerate(study.runs):
        assert SimulatedChoice(study=study).score(point) == simulated_tow(runs, VAL)


def test_the_choices_see_what_they_are_given() -> None:
    study, _ = made_up(4, 2, 5)
    request, val = PROBLEM.unlearn_request(), PROBLEM.images("val")
    importance = importances(
        request.model, PROBLEM.images("train"), task="multilabel", seed=0, device=CPU
    )
    model = copy.deepcopy(request.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    seen = observe(model, request, importance)
    assert seen.movement == pytest.approx(movement(model, request.model, importance))
    assert seen.movement > 0
    only = SupportOnlyChoice(study=study, request=request, importance=importance)
    assert only.score(1, model) == study.score(
        1, support_drop=seen.support_drop, moved=seen.movement
    )
    both = SupportAndValChoice(study=study, request=request, importance=importance, val=val)
    after = set_score(model, val, "multilabel", CPU)
    assert both.score(1, model) == study.score(
        1, support_drop=seen.support_drop, moved=seen.movement, val_drop=VAL - after
    )
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    assert math.isnan(observe(model, request, importance).movement)
    assert only.score(1, model) == both.score(1, model) == 0.0


def test_what_s_lost_is_the_score_before_less_the_score_after() -> None:
    """The drop is above 0 where S was forgotten, below 0 where it is fitted better."""
    request = dataclasses.replace(PROBLEM.unlearn_request(), model=tiny_model("convnext", seed=4))
    importance = {name: torch.zeros_like(p) for name, p in request.model.named_parameters()}
    labels, found = request.support.labels, []
    models = [request.model, *(tiny_model("convnext", seed=seed) for seed in range(1, 9))]
    for model in models:
        with torch.no_grad():
            scores = [
                mean_average_precision_score(labels, network(request.support.inputs()))
                for network in (request.model, model)
            ]
        drop = observe(model, request, importance).support_drop
        assert drop == pytest.approx(scores[0] - scores[1], abs=1e-6)
        found.append(drop)
    assert found[0] == 0.0
    assert min(found) < 0 < max(found)


def test_forgetting_further_than_simulated_helps_where_the_simulations_forgot_too_little() -> None:
    scores = Scores(forget=0.9, retain=0.9, val=0.9, support=0.9)
    run = Run(before=scores, after=scores, movement=1.0)
    request = PROBLEM.unlearn_request()
    importance = {name: torch.ones_like(p) for name, p in request.model.named_parameters()}
    choice = SupportOnlyChoice(
        study=TrialScores(runs=((run,),), val_score=0.5), request=request, importance=importance
    )
    # The simulated forget score stays .4 above that on D_v, and S forgets nothing either.
    assert choice.score(0, request.model) == pytest.approx(0.6)
    forgetful = next(
        model
        for model in (tiny_model("convnext", seed=seed) for seed in range(1, 20))
        if observe(model, request, importance).support_drop > 0.05
    )
    drop = observe(forgetful, request, importance).support_drop
    assert choice.score(0, forgetful) == pytest.approx(1 - abs(0.9 - drop - 0.5))
    assert choice.score(0, forgetful) > 0.6


def test_a_choice_that_may_look_at_val_takes_what_it_lost_for_the_utility() -> None:
    request, val = PROBLEM.unlearn_request(), PROBLEM.images("val")
    importance = {name: torch.ones_like(p) for name, p in request.model.named_parameters()}
    model = tiny_model("convnext", seed=1)
    before = set_score(request.model, val, "multilabel", CPU)
    lost = before - set_score(model, val, "multilabel", CPU)
    assert lost != 0
    # Utility 1 as long as D_v loses less than half of this loss, 0.5 from twice the loss on.
    near, far = sorted((before - lost / 2, before - 2 * lost), reverse=True)

    def run(after: float, retain: float) -> Run:
        start = Scores(forget=before, retain=1.0, val=before, support=0.0)
        end = Scores(forget=before, retain=retain, val=after, support=0.0)
        return Run(before=start, after=end, movement=1.0)

    runs = (run(near, 1.0), run(far, 0.5))
    study = TrialScores(runs=((runs[0],), (runs[1],)), val_score=before)
    choice = SupportAndValChoice(study=study, request=request, importance=importance, val=val)
    utilities = [(1 - abs(before - r.after.val)) * r.after.retain for r in runs]
    by_drop = np.interp(lost, [before - near, before - far], utilities)
    by_movement = np.mean(utilities)
    seen = observe(model, request, importance).support_drop
    wanted = (1 - abs(seen)) * math.sqrt(by_drop * by_movement)
    assert choice.score(0, model) == pytest.approx(wanted)


def test_logits_that_overflow_are_noticed_though_the_weights_are_finite() -> None:
    request = PROBLEM.unlearn_request()
    importance = {name: torch.ones_like(p) for name, p in request.model.named_parameters()}
    model = copy.deepcopy(request.model)
    with torch.no_grad():
        for name in ("head.norm.weight", "head.fc.weight"):
            model.get_parameter(name).fill_(1e19)
        assert not torch.isfinite(model(request.support.inputs())).all()
    assert math.isfinite(movement(model, request.model, importance))
    assert math.isnan(observe(model, request, importance).movement)


class Halved(torch.nn.Module):
    """A network whose logits are bfloat16, as a GPU may give them."""

    def __init__(self) -> None:
        super().__init__()
        self.network = PROBLEM.unlearn_request().model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images).bfloat16()
        return logits


def test_logits_in_bfloat16_can_be_looked_at() -> None:
    halved = Halved()
    request = dataclasses.replace(PROBLEM.unlearn_request(), model=halved)
    importance = {name: torch.ones_like(p) for name, p in halved.named_parameters()}
    seen = observe(copy.deepcopy(halved), request, importance)
    assert (seen.support_drop, seen.movement) == (0.0, 0.0)


class NothingInTraining(torch.nn.Module):
    """A network that has no logits in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.network = PROBLEM.unlearn_request().model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits * math.nan if self.training else logits


def test_models_are_looked_at_in_evaluation_mode() -> None:
    fussy = NothingInTraining().train()
    request = dataclasses.replace(PROBLEM.unlearn_request(), model=fussy)
    importance = {name: torch.ones_like(p) for name, p in fussy.named_parameters()}
    seen = observe(copy.deepcopy(fussy), request, importance)
    assert (seen.support_drop, seen.movement) == (0.0, 0.0)


def test_the_oracle_s_score_is_the_true_tow() -> None:
    request = PROBLEM.unlearn_request()
    sets = {name: PROBLEM.images(name) for name in ("retain", "forget", "test")}
    retrained_model, model = tiny_model("convnext", seed=1), tiny_model("convnext", seed=2)
    retrained, own = (
        {name: set_score(m, data, "multilabel", CPU) for name, data in sets.items()}
        for m in (retrained_model, model)
    )
    oracle = OracleChoice(request=request, sets=sets, retrained=retrained)
    assert oracle.score(0, retrained_model) == 1.0
    wanted = math.prod(1 - abs(own[name] - retrained[name]) for name in sets)
    assert oracle.score(0, model) == pytest.approx(wanted)
    assert wanted < 1
    with torch.no_grad():
        next(model.parameters()).fill_(math.inf)
    assert oracle.score(0, model) == 0.0
