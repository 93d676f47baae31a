"""What every method says of itself, as literal data, and the values that its fields refuse.

Results are stored under these names and defaults, so a change here changes what a sweep computes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
import torch
from support.tiny import TinyProblem

from oneshui import methods
from oneshui.errors import InputError
from oneshui.methods import base
from oneshui.methods.base import Range, hyperparameters
from oneshui.methods.fields import number
from oneshui.spec import Access

FULL, PREPARED, SUPPORT = Access.FULL, Access.PREPARED, Access.SUPPORT
SGD = {"step": 0.0, "epochs": 5, "batch_size": 32, "momentum": 0.9, "weight_decay": 5e-4}
PASSES = {**SGD, "epochs": 20, "batch_size": 64, "weight_decay": 0.0}
DAMPENING = {
    "alpha": 50.0,
    "share": 0.0,
    "dampening": 0.1,
    "batch_size": 128,
    "importance": "batch",
}
DAMPENING_SPACE = {
    "alpha": Range(low=1, high=250, log=True),
    "dampening": Range(low=0.03, high=2, log=True),
}

SCALE = {"scale": Range(low=1e-3, high=3, log=True)}

Declared = tuple[Access, tuple[str, ...] | None, dict[str, Any], dict[str, Range]]
DECLARED: dict[str, Declared] = {
    "assd": (
        PREPARED,
        ("batch_size", "importance"),
        {"scale": 1.0, "dampening": 1.0, "batch_size": 128, "importance": "batch"},
        SCALE,
    ),
    "bad_teacher": (
        FULL,
        None,
        {"learning_rate": 1e-4, **SGD, "divergence": "softmax", "augmentation": "none"},
        {
            "learning_rate": Range(low=1e-5, high=0.1, log=True),
            "epochs": Range(low=1, high=10, integer=True),
        },
    ),
    "bad_teacher_support": (
        SUPPORT,
        None,
        {"learning_rate": 1e-4, **SGD, "divergence": "softmax"},
        {
            "learning_rate": Range(low=1e-5, high=0.1, log=True),
            "epochs": Range(low=1, high=20, integer=True),
        },
    ),
    "boundary_shrink": (
        SUPPORT,
        None,
        {**PASSES, "learning_rate": 1e-5, "epochs": 10, "epsilon": 0.1},
        {
            "learning_rate": Range(low=1e-5, high=0.1, log=True),
            "epochs": Range(low=1, high=40, integer=True),
        },
    ),
    "delete": (
        SUPPORT,
        None,
        {**PASSES, "learning_rate": 5e-5},
        {
            "learning_rate": Range(low=1e-5, high=0.1, log=True),
            "epochs": Range(low=1, high=40, integer=True),
        },
    ),
    "extrapolation": (
        SUPPORT,
        None,
        {"learning_rate": 0.1, "step": 0.0, "steps": 10, "alpha": 1.0, "parameters": "all"},
        {
            "learning_rate": Range(low=0.001, high=10, log=True),
            "alpha": Range(low=0.1, high=10, log=True),
        },
    ),
    "finetune": (
        FULL,
        None,
        {"learning_rate": 0.01, **SGD, "augmentation": "none"},
        {
            "learning_rate": Range(low=1e-4, high=1, log=True),
            "epochs": Range(low=1, high=10, integer=True),
        },
    ),
    "gradient_ascent": (
        SUPPORT,
        None,
        {"learning_rate": 0.3, "step": 0.0, "steps": 1, "parameters": "all"},
        {"learning_rate": Range(low=0.01, high=100, log=True)},
    ),
    "jit": (
        SUPPORT,
        None,
        {
            "learning_rate": 0.01,
            "step": 0.0,
            "sigma": 30.0,
            "num_samples": 25,
            "batch_size": 128,
            "variant": "corrected",
        },
        {
            "learning_rate": Range(low=0.001, high=0.3, log=True),
            "sigma": Range(low=0.1, high=30, log=True),
        },
    ),
    "lfssd": (
        PREPARED,
        ("batch_size", "importance", "power"),
        {**DAMPENING, "power": 2},
        DAMPENING_SPACE,
    ),
    "l2ul": (
        SUPPORT,
        None,
        {
            **PASSES,
            "learning_rate": 1e-3,
            "epochs": 1000,
            "batch_size": 128,
            "weight_decay": 1e-4,
            "num_adversarial": 20,
            "epsilon": 4.0,
            "attack_step": 0.1,
            "attack_steps": 100,
            "flips": 0.2,
            "hold": 1.0,
        },
        {
            "learning_rate": Range(low=1e-4, high=0.1, log=True),
            "epsilon": Range(low=0.4, high=5, log=True),
        },
    ),
    "metaunlearn": (
        PREPARED,
        (
            *("epochs", "learning_rate", "step_size", "batch_size"),
            *("num_simulated", "num_requests", "loss_type", "distance", "use_accs"),
            *("retain_weight", "val_weight", "parameters", "use_retain"),
            *("use_features", "use_targets", "use_identity"),
            *("hidden_size", "num_blocks", "embed_size", "dropout", "clip_norm"),
        ),
        {
            "epochs": 3,
            "learning_rate": 1e-4,
            "step_size": 0.1,
            "step_scale": 1.0,
            "step": 0.0,
            "batch_size": 64,
            "num_simulated": 0,
            "num_requests": 0,
            "loss_type": "full",
            "distance": "smooth_l1",
            "use_accs": True,
            "retain_weight": 0.0,
            "val_weight": 0.0,
            "parameters": "layers",
            "use_retain": False,
            "forget_epochs": 1,
            "use_features": True,
            "use_targets": True,
            "use_identity": True,
            "hidden_size": 512,
            "num_blocks": 0,
            "embed_size": 64,
            "dropout": 0.5,
        },
        {"step_scale": Range(low=0.1, high=10, log=True)},
    ),
    "mumis": (
        SUPPORT,
        None,
        {"learning_rate": 0.01, "step": 0.0, "steps": 10, "recovery": 1.0},
        {"learning_rate": Range(low=1e-5, high=1, log=True)},
    ),
    "neggrad_plus": (
        FULL,
        None,
        {"learning_rate": 0.01, **SGD, "beta": 0.95, "clip_norm": 1.0, "augmentation": "none"},
        {
            "learning_rate": Range(low=1e-4, high=1, log=True),
            "beta": Range(low=0.5, high=0.999),
        },
    ),
    "newton_head": (
        PREPARED,
        ("rank",),
        {"step_scale": 1.0, "step": 0.0, "multiplicity": 0.0, "ridge": 0.1, "rank": 64},
        {
            "step_scale": Range(low=0.1, high=10, log=True),
            "ridge": Range(low=1e-3, high=1, log=True),
        },
    ),
    "pgu": (
        PREPARED,
        ("variant",),
        {
            "learning_rate": 0.1,
            "step": 0.0,
            "epochs": 5,
            "gamma": 0.9,
            "batch_size": 128,
            "variant": "corrected",
            "entropy": "softmax",
        },
        {
            "learning_rate": Range(low=0.001, high=1, log=True),
            "gamma": Range(low=0.3, high=0.99),
        },
    ),
    "pretrain": (SUPPORT, None, {}, {}),
    "random_label": (
        SUPPORT,
        None,
        {"learning_rate": 0.1, "step": 0.0, "steps": 5, "parameters": "all"},
        {
            "learning_rate": Range(low=0.001, high=10, log=True),
            "steps": Range(low=1, high=20, integer=True),
        },
    ),
    "retrain": (FULL, None, {"reseed": 0}, {}),
    "salun": (
        FULL,
        None,
        {"learning_rate": 0.01, **SGD, "sparsity": 0.5, "augmentation": "none"},
        {
            "learning_rate": Range(low=1e-4, high=1, log=True),
            "sparsity": Range(low=0.1, high=0.9),
        },
    ),
    "scrub": (
        FULL,
        None,
        {
            "learning_rate": 0.01,
            "step": 0.0,
            "epochs": 10,
            "forget_epochs": 5,
            "temperature": 4.0,
            "alpha": 0.001,
            "gamma": 0.99,
            "forget_batch_size": 32,
            "retain_batch_size": 32,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "divergence": "softmax",
            "augmentation": "crop",
        },
        {
            "learning_rate": Range(low=1e-4, high=0.1, log=True),
            "forget_epochs": Range(low=1, high=9, integer=True),
        },
    ),
    "scrub_support": (
        SUPPORT,
        None,
        {"learning_rate": 0.01, "temperature": 4.0, **SGD, "divergence": "softmax"},
        {
            "learning_rate": Range(low=1e-4, high=0.1, log=True),
            "epochs": Range(low=2, high=20, integer=True),
        },
    ),
    "spotter": (
        SUPPORT,
        None,
        {
            **PASSES,
            "learning_rate": 1e-4,
            "epochs": 10,
            "batch_size": 128,
            "weight_decay": 5e-4,
            "epsilon": 0.03,
            "attack_step": 0.01,
            "attack_steps": 3,
            "own_share": 0.7,
            "dispersion": 1.0,
            "pairs": "task",
            "views": 4,
        },
        {
            "learning_rate": Range(low=1e-5, high=0.1, log=True),
            "dispersion": Range(low=0.1, high=10, log=True),
        },
    ),
    "ssd": (PREPARED, ("batch_size", "importance"), DAMPENING, DAMPENING_SPACE),
    "weight_noise": (
        SUPPORT,
        None,
        {"scale": 0.05, "relative_to": "tensor"},
        {"scale": Range(low=1e-3, high=1, log=True)},
    ),
}

STEP, SHARE = Range(low=3e-5, high=0.03, log=True), Range(low=1e-5, high=0.03, log=True)
RELATIVE: dict[str, dict[str, Range]] = {
    "assd": SCALE,
    "bad_teacher": {"step": STEP},
    "bad_teacher_support": {"step": STEP},
    "boundary_shrink": {"step": STEP},
    "delete": {"step": STEP},
    "extrapolation": {"step": STEP},
    "finetune": {"step": STEP},
    "gradient_ascent": {"step": STEP},
    "jit": {"step": STEP},
    "mumis": {"step": STEP},
    "l2ul": {"step": STEP},
    "neggrad_plus": {"step": STEP},
    "newton_head": {"step": Range(low=0.03, high=3, log=True)},
    "pgu": {"step": STEP},
    "random_label": {"step": STEP},
    "salun": {"step": STEP},
    "scrub": {"step": STEP},
    "scrub_support": {"step": STEP},
    "spotter": {"step": STEP},
    "lfssd": {"share": SHARE},
    "ssd": {"share": SHARE},
    "metaunlearn": {"step": Range(low=0.03, high=3, log=True)},
    "weight_noise": {"scale": Range(low=1e-3, high=1, log=True)},
}
NO_STEP = {"learning_rate": 0.0, "step": 0.0}
NOTHING: dict[str, dict[str, float]] = {
    "assd": {"scale": 0.0},
    "lfssd": {"share": 1e-300},
    "metaunlearn": {"step_scale": 0.0, "step": 0.0},
    "newton_head": {"step_scale": 0.0, "step": 0.0},
    "pgu": {"gamma": 1.0},
    "pretrain": {},
    "ssd": {"share": 1e-300},
    "weight_noise": {"scale": 0.0},
}

ABOVE_0 = ((0.0, -1.0, math.nan), (1e-9, 1e9), "above 0")
AT_LEAST_1 = ((0, -1), (1, 100), "at least 1")
WHOLE = ((-1,), (0, 7), "0 or more")
NOT_NEGATIVE = ((-0.1, math.nan), (0.0, 1e30), "0 or more")
FRACTION = ((-0.1, 1.1, math.nan), (0.0, 1.0), "in [0, 1]")
BELOW_1 = ((-0.1, 1.0, math.nan), (0.0, 0.99), "in [0, 1)")


def one_of(*choices: str) -> tuple[Sequence[Any], Sequence[Any], str]:
    *others, last = map(repr, choices)
    return ("", choices[0].upper(), choices[0] + "s"), choices, f"{', '.join(others)} or {last}"


VALUES: Mapping[str, tuple[Sequence[Any], Sequence[Any], str]] = {
    "alpha": NOT_NEGATIVE,
    "attack_step": NOT_NEGATIVE,
    "attack_steps": AT_LEAST_1,
    "augmentation": one_of("none", "flip", "crop"),
    "batch_size": AT_LEAST_1,
    "beta": FRACTION,
    "clip_norm": NOT_NEGATIVE,
    "dampening": NOT_NEGATIVE,
    "dispersion": NOT_NEGATIVE,
    "distance": one_of("smooth_l1", "l1", "l2"),
    "divergence": one_of("softmax", "bernoulli"),
    "dropout": BELOW_1,
    "embed_size": AT_LEAST_1,
    "entropy": one_of("softmax", "bernoulli"),
    "epochs": AT_LEAST_1,
    "epsilon": NOT_NEGATIVE,
    "flips": FRACTION,
    "forget_batch_size": AT_LEAST_1,
    "metaunlearn.forget_epochs": AT_LEAST_1,
    "scrub.forget_epochs": WHOLE,
    "pgu.gamma": FRACTION,
    "scrub.gamma": NOT_NEGATIVE,
    "hidden_size": AT_LEAST_1,
    "hold": NOT_NEGATIVE,
    "importance": one_of("batch", "sample"),
    "learning_rate": NOT_NEGATIVE,
    "metaunlearn.learning_rate": ABOVE_0,
    "loss_type": one_of("full", "original", "unlearned", "scrub", "rev"),
    "momentum": BELOW_1,
    "multiplicity": NOT_NEGATIVE,
    "num_adversarial": AT_LEAST_1,
    "num_blocks": WHOLE,
    "num_requests": WHOLE,
    "num_samples": AT_LEAST_1,
    "num_simulated": WHOLE,
    "metaunlearn.parameters": one_of("layers", "all", "classifier"),
    "parameters": one_of("all", "classifier"),
    "power": ((0, 3), (1, 2), "in [1, 2]"),
    "rank": AT_LEAST_1,
    "recovery": ABOVE_0,
    "own_share": FRACTION,
    "pairs": one_of("task", "person", "class"),
    "relative_to": one_of("tensor", "model"),
    "reseed": WHOLE,
    "retain_batch_size": AT_LEAST_1,
    "retain_weight": NOT_NEGATIVE,
    "ridge": ABOVE_0,
    "scale": NOT_NEGATIVE,
    "share": FRACTION,
    "sigma": ABOVE_0,
    "sparsity": BELOW_1,
    "step": NOT_NEGATIVE,
    "step_scale": NOT_NEGATIVE,
    "step_size": ABOVE_0,
    "steps": AT_LEAST_1,
    "temperature": ABOVE_0,
    "val_weight": NOT_NEGATIVE,
    "variant": one_of("corrected", "reference"),
    "views": ((1, 0), (2, 50), "at least 2"),
    "weight_decay": NOT_NEGATIVE,
}
"""Refused values, accepted ones and what the message says, by field or "method.field"."""

every_field = pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field)
        for name in methods.names()
        for field, default in hyperparameters(methods.build(name, {})).items()
        if not isinstance(default, bool)
    ],
)


def test_every_method_is_declared_here() -> None:
    assert set(methods.names()) == set(DECLARED)


@pytest.mark.parametrize("name", DECLARED)
def test_a_method_s_access_defaults_and_search_space_are_these(name: str) -> None:
    access, prepare_fields, defaults, space = DECLARED[name]
    cls = methods.get(name)
    assert cls.access is access
    assert getattr(cls, "prepare_fields", None) == prepare_fields
    assert hyperparameters(cls()) == defaults
    assert cls.search_space == space
    assert cls.relative_space == RELATIVE.get(name, {})  # type: ignore[attr-defined]
    assert methods.nothing_of(cls) == NOTHING.get(name, None if name == "retrain" else NO_STEP)


@every_field
def test_values_out_of_range_are_refused_however_a_method_is_made(name: str, field: str) -> None:
    refused, accepted, allowed = VALUES.get(f"{name}.{field}") or VALUES[field]
    for value in refused:
        message = f"{field} is {value!r}, but it must be {allowed}"
        with pytest.raises(InputError) as error:
            methods.build(name, {field: value})
        assert str(error.value) == f"{name}.{message}"
        with pytest.raises(InputError) as error:
            methods.get(name)(**{field: value})
        assert str(error.value) == message
        with pytest.raises(InputError, match=f"{field} is"):
            dataclasses.replace(methods.build(name, {}), **{field: value})  # type: ignore[type-var]
    for value in accepted:
        assert getattr(methods.build(name, {field: value}), field) == value


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field)
        for name, (_, prepare_fields, defaults, _) in DECLARED.items()
        for field in defaults
        if prepare_fields is not None and field not in prepare_fields
    ],
)
def test_what_is_no_prepare_field_does_not_change_the_preparation(name: str, field: str) -> None:
    quick = {"epochs": 1, "hidden_size": 8} if name == "metaunlearn" else {}
    _, accepted, _ = VALUES.get(f"{name}.{field}") or VALUES[field]
    usual = methods.build(name, quick)
    values = [value for value in accepted if value != getattr(usual, field)]
    request = TinyProblem().prepare_request()
    expected = usual.prepare(request)  # type: ignore[attr-defined]
    other = methods.build(name, {**quick, field: values[0]}).prepare(request)  # type: ignore[attr-defined]
    assert expected.keys() == other.keys()
    assert all(torch.equal(other[key], expected[key]) for key in expected)


def test_a_plain_dataclass_without_checks_is_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    methods.names()
    monkeypatch.setattr(base.METHODS, "known", dict(base.METHODS.known))

    @base.register
    @dataclass(frozen=True, kw_only=True)
    class Toy:
        name: ClassVar[str] = "toy"
        access: ClassVar[Access] = Access.SUPPORT
        search_space: ClassVar[Mapping[str, Range]] = {"size": Range(low=1, high=3)}
        free: float = -1.0
        size: int = number(2, above=1, at_most=3)
        kind: Literal["only"] = "only"
        text: str = "anything"

        def __post_init__(self) -> None:
            if self.text == "bad":
                raise InputError("text is bad")

        def unlearn(self, request: Any) -> Any: ...

    assert methods.build("toy", {"free": -1e9, "size": 3, "text": "else"})
    assert Toy.search_space == {"size": Range(low=1, high=3, integer=True)}
    assert (Toy.relative_space, methods.nothing_of(Toy)) == ({}, None)  # type: ignore[attr-defined]
    for field, value, allowed in (
        ("size", 1, "in (1, 3]"),
        ("size", 4, "in (1, 3]"),
        ("kind", "other", "'only'"),
    ):
        with pytest.raises(InputError) as error:
            methods.build("toy", {field: value})
        assert str(error.value) == f"toy.{field} is {value!r}, but it must be {allowed}"
    with pytest.raises(InputError, match=r"toy\.text is bad"):
        methods.build("toy", {"text": "bad"})


def unlearn(self: Any, request: Any) -> Any: ...


class Bounded:
    name: ClassVar[str] = "bounded"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {}
    nothing: ClassVar[Mapping[str, float | int]] = {"size": 9}
    size: int = number(2, above=1, at_most=3)
    unlearn = unlearn


def test_a_class_that_is_no_method_is_refused_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods.names()
    monkeypatch.setattr(base.METHODS, "known", dict(base.METHODS.known))
    whole: dict[str, Any] = {
        "name": "toy",
        "access": Access.SUPPORT,
        "search_space": {},
        "unlearn": unlearn,
    }

    def made(frozen: bool = True, **changes: Any) -> type[Any]:
        parts = {name: part for name, part in {**whole, **changes}.items() if part is not None}
        fields = [("size", "int", 2)]
        return dataclasses.make_dataclass("Toy", fields, namespace=parts, frozen=frozen)

    base.register(made())
    for problem, cls in (
        ("has no name and has no unlearn", made(name=None, unlearn=None)),
        ("has no access", made(access=None)),
        ("is no frozen dataclass", made(frozen=False)),
        ("must have prepare", made(access=Access.PREPARED)),
        ("must have prepare", made(prepare=unlearn, prepare_fields=())),
        ("must have prepare", made(access=Access.PREPARED, prepare=unlearn)),
        ("width", made(search_space={"width": Range(low=1, high=3)})),
        ("width", made(relative_space={"width": Range(low=1, high=3)})),
        ("width", made(nothing={"width": 0})),
        (
            "depth",
            made(access=Access.PREPARED, prepare=unlearn, prepare_fields=("size", "depth")),
        ),
        ("two methods are called 'ssd'", made(name="ssd")),
    ):
        # Which file a class is from is asked of its module.
        cls.__module__ = __name__
        with pytest.raises(TypeError, match=problem):
            base.register(cls)
    with pytest.raises(InputError, match="size is 9, but it must be"):
        base.register(dataclasses.dataclass(frozen=True, kw_only=True)(Bounded))
    assert methods.get("ssd").__name__ == "SSD"
