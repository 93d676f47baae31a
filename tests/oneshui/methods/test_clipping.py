"""Methods that take gradient steps can have them clipped, and are as before where they do not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui import methods
from oneshui.methods.fields import YOUNGER

STEPPING = (
    "bad_teacher",
    "bad_teacher_support",
    "boundary_shrink",
    "delete",
    "extrapolation",
    "finetune",
    "gradient_ascent",
    "jit",
    "l2ul",
    "mumis",
    "pgu",
    "random_label",
    "salun",
    "scrub",
    "scrub_support",
    "spotter",
)
"""``neggrad_plus`` has always clipped; ``metaunlearn`` clips where it is prepared."""

QUICK: dict[str, dict[str, Any]] = {
    "l2ul": {"num_adversarial": 2, "attack_steps": 2},
    "spotter": {"views": 2},
    "pgu": {"gamma": 0.3},
    "scrub": {"forget_epochs": 1},
    # Only decay takes its first step away from the teacher.
    "scrub_support": {"learning_rate": 1.0, "weight_decay": 5e-3, "epochs": 6},
}
each_method = pytest.mark.parametrize("name", STEPPING)


def unlearned(name: str, **changes: Any) -> dict[str, torch.Tensor]:
    problem = TinyProblem("convnext")
    fields = methods.base.field_types(methods.get(name))
    usual = {"learning_rate": 0.05, "epochs": 2, "weight_decay": 0.0, "momentum": 0.0}
    values = {key: value for key, value in usual.items() if key in fields}
    method = methods.build(name, {**values, **QUICK.get(name, {}), **changes})
    request: Any = problem.full_request()
    if isinstance(method, methods.PreparedMethod):
        request = problem.unlearn_request(method.prepare(problem.prepare_request()))
    return {key: value.clone() for key, value in method.unlearn(request).state_dict().items()}


def way(weights: dict[str, torch.Tensor]) -> float:
    start = TinyProblem("convnext").full_request().model.state_dict()
    return float(torch.stack([(weights[key] - start[key]).norm() for key in start]).norm())


def test_these_and_no_others_have_the_younger_field() -> None:
    found = {
        name
        for name in methods.names()
        for field in dataclasses.fields(methods.get(name))  # type: ignore[arg-type]
        if field.metadata.get(YOUNGER)
    }
    assert found == {*STEPPING, "metaunlearn"}


@each_method
def test_short_gradients_make_short_steps_and_a_wide_bound_changes_nothing(name: str) -> None:
    plain = unlearned(name)
    assert largest_difference(unlearned(name, clip_norm=1e9), plain) == 0
    clipped = unlearned(name, clip_norm=1e-3)
    assert 0 < way(clipped) < 0.8 * way(plain)


@pytest.mark.parametrize("name", ["gradient_ascent", "jit", "mumis"])
def test_a_single_step_is_as_long_as_the_bound_says(name: str) -> None:
    one = {"steps": 1} if name != "jit" else {}
    moved = way(unlearned(name, learning_rate=2.0, clip_norm=0.01, **one))
    assert moved == pytest.approx(0.02, rel=1e-3)


def test_metaunlearn_is_prepared_with_the_bound_and_moves_as_it_learned() -> None:
    problem = TinyProblem("convnext")
    usual = {"epochs": 2, "hidden_size": 8, "embed_size": 4}

    def prepared(**changes: Any) -> dict[str, torch.Tensor]:
        method: Any = methods.build("metaunlearn", {**usual, **changes})
        found: dict[str, torch.Tensor] = method.prepare(problem.prepare_request())
        return found

    plain = prepared()
    assert largest_difference(prepared(clip_norm=1e9), plain) == 0
    bound = prepared(clip_norm=1e-6)
    assert largest_difference(bound, plain) > 0
    assert way(unlearned("metaunlearn", **usual, clip_norm=1e-6)) > 0.01


def test_a_bound_that_is_not_set_is_in_no_identity() -> None:
    for name in (*STEPPING, "metaunlearn"):
        assert "clip_norm" not in methods.hyperparameters(methods.build(name, {}))
        set_ = methods.hyperparameters(methods.build(name, {"clip_norm": 0.5}))
        assert set_["clip_norm"] == 0.5
