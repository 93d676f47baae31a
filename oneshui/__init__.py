"""oneshui: which unlearning method really forgets a person when all that is left is one picture.

The benchmark as a library: data, splits, models, methods, measures and attacks, without Ray or
MLflow. The engine that runs all of it is the package ``sweeps`` and the command ``launch.py``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneshui import methods, metrics
    from oneshui.data.registry import load_dataset
    from oneshui.data.splits import make_split
    from oneshui.measures import measure
    from oneshui.training.predict import evaluate, predict

__version__ = "0.1.0"
__all__ = ["evaluate", "load_dataset", "make_split", "measure", "methods", "metrics", "predict"]

_HOME = {
    "load_dataset": "oneshui.data.registry",
    "make_split": "oneshui.data.splits",
    "measure": "oneshui.measures",
    "evaluate": "oneshui.training.predict",
    "predict": "oneshui.training.predict",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that planning a sweep does not wait for torch."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in __all__:
        return importlib.import_module(f"oneshui.{name}")
    raise AttributeError(f"module 'oneshui' has no attribute {name!r}")
