"""Results tables made by hand, for tests of what is computed from them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sweeps.report.results import BYTES, COLUMNS, FURTHER, LOSSES, MEASURES, SCORES, SECONDS

ACCESS = {"ssd": "prepared", "retrain": "full", "retrain_again": "full", "scrub": "full"}


def row(method: str, seed: int, tow: float | None, **values: Any) -> dict[str, Any]:
    """One row whose scores, ToW and loss attack all have the same value."""
    measured = {} if tow is None else dict.fromkeys(SCORES, tow) | {"tow": tow, "mia_auc": tow}
    return {
        **dict.fromkeys(COLUMNS),
        "dataset": "synthetic",
        "num_forget": 20,
        "seed": seed,
        "method": method,
        "access": ACCESS.get(method, "support"),
        **measured,
        **values,
    }


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = [*SCORES, *LOSSES, *MEASURES, *SECONDS, *FURTHER, *BYTES]
    return frame.astype(dict.fromkeys(numbers, "float64"))
