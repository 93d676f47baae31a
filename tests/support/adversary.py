"""Kills a sweep's processes again and again, and what must be true all the while."""

from __future__ import annotations

import io
import os
import random
import signal
import time
from collections.abc import Callable, Mapping

import pandas as pd
from support.commands import start
from support.processes import children, kill_tree


def as_bytes(frame: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.to_parquet(stream, index=False)
    return stream.getvalue()


def workers_of(pid: int) -> list[int]:
    return [child for child, name in children(pid) if "Trainable" in name]


class Adversary:
    """Kills workers, drivers and whole machines at moments that its seed decides."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.kills = 0
        self.driver_kills = 0

    def attack(self, pid: int) -> bool:
        """One kill; whether the driver is gone."""
        time.sleep(self._random.uniform(0.3, 4.0))
        workers = workers_of(pid)
        choice = self._random.random()
        self.kills += 1
        if choice < 0.65 and workers:
            for victim in self._random.sample(workers, self._random.randint(1, len(workers))):
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            return False
        self.driver_kills += 1
        if choice < 0.85:
            kill_tree(pid)
        else:
            os.kill(pid, signal.SIGKILL)
        return True

    def disturb(
        self,
        command: tuple[str, ...],
        kills: int,
        manifests: Callable[[], dict[str, str]],
        take_away: Callable[[str], None],
        *,
        env: Mapping[str, str] | None = None,
        on_death: Callable[[], None] = lambda: None,
    ) -> dict[str, str]:
        """Start a sweep as often as it takes to kill something so many times.

        Args:
            command: Arguments of ``launch.py``.
            kills: How often to kill.
            manifests: What every committed job left behind, by stage and key.
            take_away: Removes the manifest of a job.
            env: Of the driver, besides this process's.
            on_death: Called when a driver has been killed.

        Returns:
            What was committed in the end.
        """
        committed: dict[str, str] = {}
        while self.kills < kills:
            with start(*command, env=env) as driver:
                while driver.poll() is None and self.kills < kills:
                    gone = self.attack(driver.pid)
                    now = manifests()
                    assert committed.items() <= now.items(), "a committed job was computed again"
                    committed = now
                    if gone:
                        break
                else:
                    kill_tree(driver.pid)
            on_death()
            if len(committed) > 50:
                # The adversary was too slow for a sweep that is nearly done: it takes some results
                # away, so that there is something left to disturb.
                for stage in ("score", "evaluate"):
                    for key in [name for name in committed if name.startswith(f"{stage}/")]:
                        take_away(key)
                        del committed[key]
        return committed
