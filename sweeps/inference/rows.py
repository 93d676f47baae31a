"""Which rows of the results compete, and their values side by side.

Pure functions of frames. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import pandas as pd

from oneshui.spec import Access, Role
from sweeps.graph.spec import BEYOND_SUPPORT

CELL = ["dataset", "num_forget", "seed"]
BLOCK = CELL[:2]
"""Seeds of one dataset and forget size are exchangeable; datasets are not."""


def is_ranked(rows: pd.DataFrame) -> pd.Series[bool]:
    """Which rows compete, of the results or of the summary.

    Doing nothing and rows with full access are references, and so are rows whose hyperparameters
    were chosen by more than S.
    """
    unlearns = (rows["role"] == Role.METHOD) & (rows["access"] != Access.FULL)
    return unlearns & ~rows["tuning"].isin(BEYOND_SUPPORT)


def names(rows: pd.DataFrame) -> list[str]:
    """The rows' names, each once, in their order."""
    return [str(name) for name in rows["method"].unique()]


def of_role(rows: pd.DataFrame, role: Role) -> str | None:
    """Name of the first row with this role that has a ToW; None without one."""
    found = names(rows[(rows["role"] == role) & rows["tow"].notna()])
    return found[0] if found else None


def by_seed(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Values of one dataset and forget size, seeds by methods; NaN is missing."""
    return rows.pivot(index="seed", columns="method", values=measure)


def gains_over_nothing(rows: pd.DataFrame) -> pd.DataFrame:
    """ToW of every ranked row minus that of doing nothing, of one dataset and forget size.

    Returns:
        Seeds by methods, fractions; NaN is missing. Without columns if nothing did nothing.
    """
    nothing = of_role(rows, Role.PRETRAIN)
    if nothing is None:
        return pd.DataFrame()
    tow = by_seed(rows, "tow")
    return tow[names(rows[is_ranked(rows)])].sub(tow[nothing], axis=0)
