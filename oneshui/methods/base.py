"""What a method is, and the registry that finds them.

A method is one file in this folder: a frozen dataclass whose fields are its hyperparameters,
decorated with ``register``. Its file is imported in order to plan a sweep, on machines without
torch at hand, so heavy imports belong inside ``prepare`` and ``unlearn``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

from oneshui.errors import InputError, unknown_name
from oneshui.methods.fields import YOUNGER, checked
from oneshui.registry import Registry
from oneshui.spec import Access, Role, Task
from oneshui.spec import Range as Range

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.requests import PrepareRequest, UnlearnRequest


STEP_RANGE = Range(low=3e-5, high=0.03, log=True)
"""Of a ``relative_space``: length of the first step as a share of the weights' norm."""

SHARE_RANGE = Range(low=1e-5, high=0.03, log=True)
"""Of a ``relative_space``: share of the weights that is changed."""

STANDS_FOR: Mapping[str, tuple[str, ...]] = {
    "step": ("learning_rate", "step_scale"),
    "share": ("alpha",),
}
"""Which hyperparameters have no effect where a relative one is used."""

NO_SHARE = 1e-300
"""A share above 0 that rounds to no weight, however many there are."""


@runtime_checkable
class Method(Protocol):
    """One unlearning method with its hyperparameters.

    Attributes:
        name: How configurations and tables call it.
        access: Which data ``unlearn`` may see.
        search_space: What tuning may vary.

    Three more are optional. ``reference`` has what differs from the defaults in the code of the
    benchmark's authors. ``relative_space`` is a search space whose ranges mean the same in every
    network, because they are shares of its weights; without one it is empty. ``nothing`` has
    hyperparameters at which ``unlearn`` returns the pretrained model to the bit, weights and
    buffers; a method without it has none that are known.
    """

    name: ClassVar[str]
    access: ClassVar[Access]
    search_space: ClassVar[Mapping[str, Range]]

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """The unlearned model, a new one; the request's model is left as it was."""
        ...


@runtime_checkable
class PreparedMethod(Method, Protocol):
    """A method that computes something while the training data still exist.

    Attributes:
        prepare_fields: Hyperparameters that ``prepare`` depends on; the others can be varied
            without preparing again.
    """

    prepare_fields: ClassVar[tuple[str, ...]]

    def prepare(self, request: PrepareRequest) -> Mapping[str, torch.Tensor]:
        """What ``unlearn`` will find in ``request.prepared``."""
        ...


@runtime_checkable
class CheckedMethod(Method, Protocol):
    """A method that does not work on every model or task, and can tell without training one."""

    def check(self, model: nn.Module, task: Task) -> None:
        """Raise an InputError that says what the method cannot do on this model or task."""
        ...


M = TypeVar("M", bound=type[Any])
METHODS: Registry[type[Method]] = Registry("method", "oneshui.methods")


def register(cls: M) -> M:
    """Class decorator that makes a method known under its ``name``.

    It also has the fields checked whenever a method is made, see ``oneshui.methods.fields``,
    marks the ranges of whole numbers as such, and gives a class without ``relative_space`` an
    empty one.

    Raises:
        TypeError: The class is no frozen dataclass, a required attribute is absent, a declared
            range or value is of no hyperparameter, or the name is taken.
        InputError: ``nothing`` has a value that its hyperparameter refuses.
    """
    problems = [
        f"has no {attribute}"
        for attribute in ("name", "access", "search_space", "unlearn")
        if not hasattr(cls, attribute)
    ]
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        problems.append("is no frozen dataclass")
    if problems:
        raise TypeError(f"method {cls.__name__} {' and '.join(problems)}")
    types = field_types(cls)
    prepares = cls.access is Access.PREPARED
    if prepares != hasattr(cls, "prepare") or prepares != hasattr(cls, "prepare_fields"):
        raise TypeError(
            f"method {cls.name} must have prepare and prepare_fields if, and only if, its access "
            "is Access.PREPARED"
        )
    spaces: dict[str, Mapping[str, Range]] = {
        "search_space": cls.search_space,
        "relative_space": getattr(cls, "relative_space", {}),
    }
    prepare_fields, nothing = getattr(cls, "prepare_fields", ()), nothing_of(cls)
    unknown = set().union(*spaces.values(), prepare_fields, nothing or {}) - set(types)
    if unknown:
        raise TypeError(f"method {cls.name} declares {sorted(unknown)}, which it does not have")
    for attribute, space in spaces.items():
        marked = {
            name: dataclasses.replace(range_, integer=types[name] == "int")
            for name, range_ in space.items()
        }
        setattr(cls, attribute, marked)
    checked(cls)
    if nothing is not None:
        cls(**nothing)
    METHODS.add(cls.name, cls, cls)
    return cls


def names() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    return METHODS.names()


def get(name: str) -> type[Method]:
    """The method class of this name.

    Raises:
        InputError: There is none; lists the known ones and the nearest.
    """
    return METHODS.get(name)


def build(name: str, hyperparameters: Mapping[str, Any]) -> Method:
    """A method with these hyperparameters; those not given keep their defaults.

    Raises:
        InputError: Unknown method or hyperparameter, wrong type, or value out of range.
    """
    cls = get(name)
    types = field_types(cls)
    values = dict(hyperparameters)
    for key, value in hyperparameters.items():
        if key not in types:
            raise unknown_name(f"hyperparameter of {name}", key, types)
        if not _fits(value, types[key]):
            raise InputError(f"{name}.{key} is {value!r}, but it must be of type {types[key]}")
        if types[key] == "float":
            # A job's identity writes integral floats as integers; torch refuses large ones.
            values[key] = float(value)
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{name}.{error}") from None


def role_of(method: Method) -> Role:
    """What the method's rows stand for; methods that say nothing unlearn."""
    return Role(getattr(method, "role", Role.METHOD))


def relative_space_of(cls: type[Any]) -> Mapping[str, Range]:
    """Ranges of a method's hyperparameters that mean the same in every network; empty if none."""
    space: Mapping[str, Range] = cls.relative_space
    return space


def nothing_of(cls: type[Any]) -> Mapping[str, float | int] | None:
    """Hyperparameters at which the method does nothing, to the bit; None if none are known."""
    nothing: Mapping[str, float | int] | None = getattr(cls, "nothing", None)
    return nothing


def reference_of(cls: type[Any]) -> Mapping[str, Any]:
    """What differs from a method's defaults in the authors' code; often nothing."""
    reference: Mapping[str, Any] = getattr(cls, "reference", {})
    return reference


def field_types(cls: type[Any]) -> dict[str, str]:
    """Annotations of a method's hyperparameters by name, as text: "float", "int", "bool", ..."""
    return {
        field.name: field.type if isinstance(field.type, str) else field.type.__name__
        for field in dataclasses.fields(cls)
    }


def _fits(value: object, annotation: str) -> bool:
    match annotation:
        case "float":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case _:
            return isinstance(value, str)


def hyperparameters(method: Method) -> dict[str, Any]:
    """Field values of a method by name; of what is younger than stores only what is set."""
    return {
        field.name: getattr(method, field.name)
        for field in dataclasses.fields(method)  # type: ignore[arg-type]
        if not field.metadata.get(YOUNGER) or getattr(method, field.name) != field.default
    }


def prepare_hyperparameters(method: Method) -> dict[str, Any]:
    """The hyperparameters that the method's preparation depends on."""
    fields: tuple[str, ...] = getattr(method, "prepare_fields", ())
    return {name: getattr(method, name) for name in fields}
