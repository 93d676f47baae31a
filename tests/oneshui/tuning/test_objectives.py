"""What each kind of choice sees, and what it makes of it."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from support.made_up_study import VAL, made_up
from support.tiny import TinyProblem, tiny_model

from oneshui.tuning.objectives import (
    OracleChoice,
    SimulatedChoice,
    SupportAndValChoice,
    SupportOnlyChoice,
    observe,
)
from oneshui.tuning.score import simulated_tow
from oneshui.tuning.simulated import importances, movement, set_score

CPU = torch.device("cpu")
PROBLEM = TinyProblem("convnext")


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
