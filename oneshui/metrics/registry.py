"""Measures that are functions of stored predictions alone: one function each, found by its key.

A further one is a function in a file of this folder, decorated with ``measure``; the catalogue of
``sweeps.report.measures`` says where it is shown.

Shapes: N images, C attributes or classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.registry import Registry
from oneshui.spec import Task

Array: TypeAlias = npt.NDArray[Any]


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
        return np.stack(self._of_set(name, "logits", retrained=retrained))

    def labels(self, name: str) -> Array:
        """Labels of a set: 0/1 [N, C], or classes [N, 1]."""
        return np.stack(self._of_set(name, "label"))

    def losses(self, name: str, *, retrained: bool = False) -> Array:
        """Loss of every image of a set, [N], of the model or of the retrained one."""
        return np.asarray(self._of_set(name, "loss", retrained=retrained))

    def _of_set(self, name: str, column: str, *, retrained: bool = False) -> list[Any]:
        frame = self.retrained if retrained else self.predictions
        return frame.loc[frame["set"] == name, column].to_list()


MeasureFunction: TypeAlias = Callable[[Predicted], float | None]
MEASURES: Registry[MeasureFunction] = Registry("measure", "oneshui.metrics")


def measure(key: str) -> Callable[[MeasureFunction], MeasureFunction]:
    """Decorator that adds a function to the measures of every row.

    Args:
        key: Name of its column in the results.

    Raises:
        TypeError: The key is that of a function of another file.
    """

    def known(function: MeasureFunction) -> MeasureFunction:
        MEASURES.add(key, function, function)
        return function

    return known


def measured(outcome: Predicted) -> Mapping[str, float | None]:
    """Every registered measure of an outcome, by key in alphabetical order; None is undefined."""
    return {key: MEASURES.get(key)(outcome) for key in MEASURES.names()}
