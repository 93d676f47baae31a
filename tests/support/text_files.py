"""Changes to files of text, line by line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")
