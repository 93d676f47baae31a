"""Ways for a method to what is deleted: each tries to bring back a token that stands there."""

from __future__ import annotations

from support.hostile.leaving import LATER
from support.hostile.reaching import BY_PATH, OTHERWISE
from support.hostile.target import Way

__all__ = ["BY_PATH", "REACHED", "WAYS"]

REACHED = "reached"
WAYS: dict[str, Way] = {
    **BY_PATH,
    **OTHERWISE,
    **{name: fetch for name, (_, fetch) in LATER.items()},
}
