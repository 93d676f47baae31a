"""What a person sees while a sweep runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sweeps.schedule.scheduler import Snapshot, State

PLAIN_SECONDS = 15.0
_STATES: tuple[State, ...] = ("done", "running", "waiting", "failed", "blocked")


def duration(seconds: float) -> str:
    """Seconds as people say them: 8s, 2m05s, 1h02m, 3d04h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 48 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def _count(snapshot: Snapshot, state: State) -> int:
    ready = snapshot.total("ready") if state == "waiting" else 0
    return snapshot.total(state) + ready


def plain_line(snapshot: Snapshot) -> str:
    """One line for logs: counts, elapsed, ETA."""
    counts = " ".join(
        f"{_count(snapshot, state)} {state}"
        for state in _STATES
        if _count(snapshot, state) or state in ("done", "running", "waiting")
    )
    total = sum(sum(stage.values()) for stage in snapshot.stages.values())
    running = ", ".join(
        f"{count} {stage}"
        for stage, states in snapshot.stages.items()
        if (count := states.get("running", 0))
    )
    return (
        f"[{duration(snapshot.elapsed)}] {total} jobs: {counts}"
        f"{f' ({running})' if running else ''}, ETA {duration(snapshot.remaining)}"
    )


def live_table(snapshot: Snapshot) -> Table:
    """Jobs by stage and state."""
    table = Table(
        title=f"elapsed {duration(snapshot.elapsed)}   ETA {duration(snapshot.remaining)}",
        title_justify="left",
    )
    table.add_column("stage")
    for state in _STATES:
        table.add_column(state, justify="right")
    for stage, states in snapshot.stages.items():
        waiting = states.get("waiting", 0) + states.get("ready", 0)
        values = {**states, "waiting": waiting}
        table.add_row(
            stage,
            *(
                Text(str(values.get(state, 0) or ""), style="red" if state == "failed" else "")
                for state in _STATES
            ),
        )
    return table


class SweepProgress:
    """Shows snapshots until it is closed; use it as a context manager."""

    def __init__(self, console: Console, take: Callable[[], Snapshot]) -> None:
        """Show what ``take`` returns, about four times a second on a terminal."""
        self._console = console
        self._take = take
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def _run(self) -> None:
        if self._console.is_terminal:
            with Live(console=self._console, refresh_per_second=4, transient=True) as live:
                while not self._stop.wait(0.25):
                    live.update(live_table(self._take()))
            return
        shown = time.monotonic()
        while not self._stop.wait(0.25):
            if time.monotonic() - shown >= PLAIN_SECONDS:
                shown = time.monotonic()
                self._console.print(plain_line(self._take()), highlight=False, soft_wrap=True)

    def __enter__(self) -> SweepProgress:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._console.print(plain_line(self._take()), highlight=False, soft_wrap=True)


class Bar:
    """A bar for one long step, for example drawing faces; use it as a context manager."""

    def __init__(self, console: Console, what: str) -> None:
        """Describe the step by ``what``."""
        self._console = console
        self._what = what
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(what, total=None)
        self._start = time.monotonic()
        self._shown = 0.0

    def __enter__(self) -> Bar:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show ``done`` of ``total``."""
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, total=total)
            return
        now = time.monotonic()
        if done == total or now - self._shown > 5:
            self._shown = now
            spent = now - self._start
            left = spent / done * (total - done) if done else 0.0
            self._console.print(
                f"{self._what}: {done}/{total}, {duration(spent)} elapsed, ETA {duration(left)}",
                highlight=False,
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
