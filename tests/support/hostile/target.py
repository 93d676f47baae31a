"""Where what is deleted stands, and what a way to it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIZE = 64


@dataclass(frozen=True)
class Target:
    """Where the token stands, and what an insider would know besides."""

    root: Path
    worker: int
    number: int
    address: int
    port: int

    @property
    def file(self) -> Path:
        return self.root / "data" / "picture.bin"

    @property
    def store(self) -> Path:
        return self.root / "out" / "store" / "retrain"


Way = Callable[[Target], Any]

HELD: dict[str, bytes] = {}
"""What the process that plays a warm worker holds in a module's variable."""
