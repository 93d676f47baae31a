"""Says why nobody works on a sweep whose machines come when needed: the provider gives none."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger("oneshui.machines")

PATIENCE_SECONDS = 600.0
_STALE_SECONDS = 900.0


def refusal(path: Path, now: Callable[[], float] = time.time) -> str:
    """What the provider last said, if that is not long ago; "" where it said nothing.

    Args:
        path: Where ``sweeps.executor.spot`` writes it, on the head.
        now: Seconds since 1970.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        return f"what the provider said cannot be read: {error}"
    return str(told["reason"]) if now() - told["at"] < _STALE_SECONDS else ""


@dataclass
class MachineWatch:
    """Warns when jobs have waited long and there was no machine at all.

    Attributes:
        why: What the provider says, or "".
        patience: Seconds without a machine before the first warning, and between two.
        clock: Seconds.
    """

    why: Callable[[], str]
    patience: float = PATIENCE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _since: float | None = field(default=None, init=False)

    def look(self, machines: int, waiting: int) -> None:
        """Note how many machines there are for jobs, and how many jobs wait or run."""
        now = self.clock()
        if machines or not waiting or self._since is None:
            self._since = now if waiting and not machines else None
            return
        if now - self._since < self.patience:
            return
        self._since = now
        reason = self.why() or (
            "the provider gives no reason here: ask `ray status` on the head, or "
            "`kubectl describe pod` for pods that are pending"
        )
        logger.warning(
            "no machine for %g minutes: quota, capacity or role? %s", self.patience / 60, reason
        )
