"""Tables as files that spreadsheets open."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from oneshui.printable import cell


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table with its names and texts made harmless; numbers stay as they are."""
    shown = table.copy()
    for name, column in table.select_dtypes(exclude=["number", "bool"]).items():
        shown[name] = column.map(
            lambda value: cell(value) if isinstance(value, str) else value, na_action="ignore"
        )
    shown.columns = [cell(str(name)) for name in table.columns]
    shown.to_csv(path, index=False)
