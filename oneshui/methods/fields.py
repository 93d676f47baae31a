"""Which values a hyperparameter may have, said once, where its default stands.

A number says its bounds with ``number``, a choice is annotated with a ``Literal`` of strings, and
``register`` has both checked whenever a method is made. A field that says nothing may hold
anything of its type.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

from oneshui.spec import require

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, kw_only=True)
class _Bounds:
    """An interval of numbers; None is no bound, and there is a lower one."""

    above: float | None
    at_least: float | None
    below: float | None
    at_most: float | None

    def hold(self, value: float) -> bool:
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        if self.below is not None or self.at_most is not None:
            low = f"({self.above}" if self.at_least is None else f"[{self.at_least}"
            high = f"{self.at_most}]" if self.below is None else f"{self.below})"
            return f"in {low}, {high}"
        if self.above is not None:
            return f"above {self.above}"
        return "0 or more" if self.at_least == 0 else f"at least {self.at_least}"


def number(
    default: Number,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    is_younger: bool = False,
) -> Number:
    """A dataclass field that holds a number within bounds.

    Args:
        default: Its default.
        above: The number is larger than this,
        at_least: or at least this; one of the two is needed.
        below: The number is smaller than this,
        at_most: or at most this.
        is_younger: Whether results were stored before the field was there: their jobs' keys hold it
            only where it is set.
    """
    bounds = _Bounds(above=above, at_least=at_least, below=below, at_most=at_most)
    return dataclasses.field(default=default, metadata={_Bounds: bounds, YOUNGER: is_younger})


YOUNGER = "is_younger"
"""In a field's metadata: see ``number``."""


def clipping() -> float:
    """The field ``clip_norm`` of a method that takes gradient steps; 0 leaves gradients alone."""
    return number(0.0, at_least=0, is_younger=True)


def checked(cls: type[Any]) -> None:
    """Have the fields of a dataclass checked at the end of its ``__init__``.

    From then on ``__init__`` raises an InputError that names field, value and what is allowed.
    """
    fields = dataclasses.fields(cls)
    unchecked = cls.__init__

    @functools.wraps(unchecked)
    def __init__(self: Any, *args: Any, **values: Any) -> None:  # noqa: N807
        unchecked(self, *args, **values)
        for field in fields:
            value = getattr(self, field.name)
            if _Bounds in field.metadata:
                bounds = field.metadata[_Bounds]
                require(bounds.hold(value), field.name, value, str(bounds))
            if choices := _choices(field.type):
                require(value in choices, field.name, value, _in_words(choices))

    cls.__init__ = __init__


def _choices(annotation: Any) -> tuple[str, ...]:
    """What a ``Literal`` lists, whether it is written out or, as usual, a string; else nothing."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if isinstance(annotation, str) and annotation.startswith("Literal["):
        listed: tuple[str, ...] = ast.literal_eval(f"({annotation[len('Literal[') : -1]},)")
        return listed
    return ()


def _in_words(choices: tuple[str, ...]) -> str:
    *others, last = (repr(choice) for choice in choices)
    return f"{', '.join(others)} or {last}" if others else last
