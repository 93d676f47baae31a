"""Results tables made by hand, for tests of what is computed from them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from oneshui.spec import Role
from sweeps.report.measures import CATALOGUE
from sweeps.report.results import COLUMNS

ACCESS = {"ssd": "prepared", "retrain": "full", "retrain_again": "full", "scrub": "full"}

ROLES: dict[str, str] = {role.value: role.value for role in Role if role is not Role.METHOD}
"""Of rows that are called after their role; the others are methods unless they say otherwise."""


def row(method: str, seed: int, tow: float | None, **values: Any) -> dict[str, Any]:
    """One row whose scores, ToW and loss attack all have the same value."""
    scores = [name for name in COLUMNS if name.endswith("_score")]
    measured = {} if tow is None else dict.fromkeys(scores, tow) | {"tow": tow, "mia_auc": tow}
    return {
        **dict.fromkeys(COLUMNS),
        "dataset": "synthetic",
        "num_forget": 20,
        "requests": 1,
        "seed": seed,
        "method": method,
        "role": ROLES.get(method, Role.METHOD.value),
        "access": ACCESS.get(method, "support"),
        **measured,
        **values,
    }


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(CATALOGUE, "float64"))
