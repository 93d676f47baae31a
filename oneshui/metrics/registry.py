"""Measures that are functions of stored predictions alone: one function each, found by its key.

What ships is a function in a file of this folder, decorated with ``measure``, and the catalogue of
``sweeps.report.measures`` says where it is shown; a plugin's says that itself. Imports nothing
heavy, because plugins are imported in order to plan.

Shapes: N images, C attributes or classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from oneshui.errors import InputError, NumericalError
from oneshui.registry import Registry
from oneshui.sources import source_of
from oneshui.spec import Task

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Array: TypeAlias = npt.NDArray[Any]

Goal = Literal["higher", "lower", "retrained"]
"""What is better of a measure; "retrained" is the value nearest to the retrained models'."""
Unit = Literal["fraction", "number"]
"""Fractions are shown in percent, numbers as they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """What a model predicts on the sets of its cell, and what the retrained model does.

    Attributes:
        predictions: Of the model, as ``oneshui.predict`` gives them.
        retrained: Of the retrained model, on the same images.
        task: "multilabel" or "multiclass".
    """

    predictions: pd.DataFrame
    retrained: pd.DataFrame
    task: Task

    def logits(self, name: str, *, retrained: bool = False) -> Array:
        """Logits [N, C] on a set, of the model or of the retrained one."""
        import numpy as np

        return np.stack(self._of_set(name, "logits", retrained=retrained))

    def labels(self, name: str) -> Array:
        """Labels of a set: 0/1 [N, C], or classes [N, 1]."""
        import numpy as np

        return np.stack(self._of_set(name, "label"))

    def losses(self, name: str, *, retrained: bool = False) -> Array:
        """Loss of every image of a set, [N], of the model or of the retrained one."""
        import numpy as np

        return np.asarray(self._of_set(name, "loss", retrained=retrained))

    def _of_set(self, name: str, column: str, *, retrained: bool = False) -> list[Any]:
        frame = self.retrained if retrained else self.predictions
        return frame.loc[frame["set"] == name, column].to_list()


MeasureFunction: TypeAlias = "Callable[[Predicted], float | None]"


@dataclass(frozen=True, kw_only=True)
class Defined:
    """A measure.

    Attributes:
        function: Computes it.
        title: Over its column.
        better: Which way is better; None for what nothing is ranked by.
        unit: Of its values.
        meaning: What it is, in a sentence.
    """

    function: MeasureFunction
    title: str
    better: Goal | None
    unit: Unit
    meaning: str

    def to_json(self) -> dict[str, Any]:
        """All but the function: what a report needs to show it."""
        shown = ("title", "better", "unit", "meaning")
        return {name: getattr(self, name) for name in shown}


MEASURES: Registry[Defined] = Registry("measure", "oneshui.metrics", is_heavy=True)


def measure(
    key: str,
    *,
    title: str = "",
    better: Goal | None = None,
    unit: Unit = "fraction",
    meaning: str = "",
) -> Callable[[MeasureFunction], MeasureFunction]:
    """Decorator that adds a function to the measures of every row.

    Args:
        key: Name of its column in the results: letters a to z, digits and _.
        title: Over its column in the tables; the key by default.
        better: Which way is better, if rows shall be ranked by it.
        unit: "fraction" for what is in [0, 1] and shown in percent, "number" for the rest.
        meaning: What it is, for whoever reads the table; the function's first line by default.

    Raises:
        TypeError: The key is that of a function of another file.
        InputError: An argument is none of those.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", key):
        raise InputError(f"a measure's key is {key!r}, but it must be of a to z, digits and _")
    for name, value, allowed in (("better", better, Goal), ("unit", unit, Unit)):
        known = (*get_args(allowed), *((None,) if name == "better" else ()))
        if value not in known:
            raise InputError(
                f"{name} of the measure {key} is {value!r}, but it must be one of "
                f"{', '.join(map(repr, known))}"
            )

    def known_as(function: MeasureFunction) -> MeasureFunction:
        said = meaning or (function.__doc__ or "").strip().partition("\n")[0]
        defined = Defined(
            function=function, title=title or key, better=better, unit=unit, meaning=said
        )
        MEASURES.add(key, defined, function)
        return function

    return known_as


def further_measures() -> dict[str, str]:
    """Those that plugins have registered: the hash of each one's code, by key."""
    return {key: source_of(MEASURES.known[key].function) for key in MEASURES.added()}


def measured(outcome: Predicted, further: Collection[str] = ()) -> Mapping[str, float | None]:
    """Every measure that ships and these of plugins, by key in alphabetical order.

    Args:
        outcome: What was predicted.
        further: Keys of plugins' measures.

    Returns:
        Numbers; None is undefined.

    Raises:
        NumericalError: A plugin's is not finite.
    """
    others = set(MEASURES.added())
    found = {
        key: MEASURES.get(key).function(outcome) for key in MEASURES.names() if key not in others
    }
    return found | {key: _finite(key, MEASURES.get(key).function(outcome)) for key in further}


def _finite(key: str, value: float | None) -> float | None:
    if value is None:
        return None
    if not math.isfinite(value):
        raise NumericalError(f"the measure {key} is {value}; return None where it is undefined")
    return float(value)
