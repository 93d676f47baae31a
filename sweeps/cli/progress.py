"""What a person sees while a sweep runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sweeps.cli.words import bar, duration, eta
from sweeps.graph.job import stage_title
from sweeps.schedule.scheduler import Running, Snapshot, State

PLAIN_SECONDS = 15.0
_LOOK_SECONDS = 0.25
_STATES: tuple[State, ...] = ("done", "running", "waiting", "failed", "blocked")
_ALWAYS: tuple[State, ...] = ("done", "running", "waiting")
_STAGE_BAR = 24
_OTHER_LINES = 8
"""Of the live view, beside a line per stage and worker: what else a low terminal must hold."""

_FEWEST_WORKERS = 4


def _count(snapshot: Snapshot, state: State) -> int:
    ready = snapshot.total("ready") if state == "waiting" else 0
    # Held jobs are at work elsewhere: another run of the same sweep has them.
    held = snapshot.total("held") if state == "running" else 0
    return snapshot.total(state) + ready + held


def _num_jobs(snapshot: Snapshot) -> int:
    return sum(sum(stage.values()) for stage in snapshot.stages.values())


def plain_line(snapshot: Snapshot, note: str = "") -> str:
    """One line for logs: counts, elapsed, ETA, or a note in place of these two."""
    counts = " ".join(
        f"{_count(snapshot, state)} {state}"
        for state in _STATES
        if _count(snapshot, state) or state in _ALWAYS
    )
    running = ", ".join(
        f"{count} {stage_title(stage)}"
        for stage, states in snapshot.stages.items()
        if (count := states.get("running", 0))
    )
    jobs = f"{_num_jobs(snapshot)} jobs: {counts}{f' ({running})' if running else ''}"
    if note:
        return f"{jobs}; {note}"
    return f"[{duration(snapshot.elapsed)}] {jobs}, ETA {eta(snapshot.left)}"


def live_view(snapshot: Snapshot, title: str, note: str, console: Console) -> Group:
    """A bar over all work, the stages and what every worker does; as wide as the console.

    Args:
        snapshot: What is shown.
        title: Name of the sweep.
        note: The line below the bar.
        console: Where it is shown: its width, height and encoding count.
    """
    width = console.width
    ends = f"  {snapshot.share:4.0%}  {_count(snapshot, 'done')} of {_num_jobs(snapshot)} jobs"
    room = max(10, width - len(title) - len(ends) - 2)
    plain = console.options.ascii_only
    head = Text.assemble((title, "bold"), "  ", bar(snapshot.share, room, plain=plain), ends)
    parts: list[RenderableType] = [head, Text(note), Text(""), _stages(snapshot, width, plain)]
    if snapshot.running:
        parts += [Text(""), *_workers(snapshot, console)]
    for part in parts:
        if isinstance(part, Text):
            part.no_wrap, part.overflow = True, "ellipsis"
    return Group(*parts)


def _stages(snapshot: Snapshot, width: int, plain: bool) -> Table:
    """Jobs by stage and state."""
    shown = [s for s in _STATES if s in _ALWAYS or _count(snapshot, s)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    if width >= 80:
        table.add_column("", no_wrap=True, width=_STAGE_BAR)
    for state in shown:
        table.add_column(state, justify="right", no_wrap=True)
    for stage, states in snapshot.stages.items():
        here = Snapshot(stages={stage: states}, elapsed=0.0, left=snapshot.left)
        share = _count(here, "done") / max(1, _num_jobs(here))
        bars = [bar(share, _STAGE_BAR, plain=plain)] if width >= 80 else []
        table.add_row(
            stage_title(stage),
            *bars,
            *(
                Text(str(_count(here, s) or ""), style="bold red" if s == "failed" else "")
                for s in shown
            ),
        )
    return table


def _workers(snapshot: Snapshot, console: Console) -> list[Text]:
    """What each worker does and for how long, as many as there is room for."""
    room = console.height - len(snapshot.stages) - _OTHER_LINES
    first = snapshot.running[: max(_FEWEST_WORKERS, room)]
    lines = [Text("at work", style="bold")]
    lines += [_worker(one, console.width) for one in first]
    more = len(snapshot.running) - len(first)
    return [*lines, *([Text(f"and {more} more")] if more else [])]


def _worker(one: Running, width: int) -> Text:
    expected = "" if one.is_guess else f" of about {duration(one.expected)}"
    late = " (takes longer than others did)" if one.spent > 2 * max(one.expected, 5.0) else ""
    took = f"{duration(one.spent)}{'' if one.is_guess else late or expected}"
    name = f"{one.label}  {one.worker}" if one.worker else one.label
    label = Text(name, no_wrap=True, overflow="ellipsis")
    label.truncate(max(10, width - len(took) - 2), overflow="ellipsis", pad=True)
    return Text.assemble(label, "  ", took)


class SweepProgress:
    """Shows snapshots until it is closed; use it as a context manager."""

    def __init__(self, console: Console, take: Callable[[], Snapshot], title: str = "") -> None:
        """Show what ``take`` returns, about four times a second on a terminal."""
        self._console = console
        self._take = take
        self._title = title
        self._said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def say(self, line: str) -> None:
        """Print a line at once; may be called from the handler of a signal."""
        self._said.put(line)

    def _over(self, seconds: float) -> bool:
        """Print what is to be said; whether all is over after so many seconds or sooner."""
        try:
            line = self._said.get(timeout=seconds)
        except queue.Empty:
            return False
        if line is not None:
            self._console.print(line, highlight=False, soft_wrap=True)
        return line is None

    def _run(self) -> None:
        if self._console.is_terminal:
            with Live(console=self._console, auto_refresh=False, transient=True) as live:
                while not self._over(_LOOK_SECONDS):
                    live.update(self._view(self._take()), refresh=True)
            return
        shown = time.monotonic()
        while not self._over(_LOOK_SECONDS):
            if time.monotonic() - shown >= PLAIN_SECONDS:
                shown = time.monotonic()
                self._console.print(plain_line(self._take()), highlight=False, soft_wrap=True)

    def _view(self, snapshot: Snapshot) -> Group:
        note = f"{duration(snapshot.elapsed)} so far, left: {eta(snapshot.left)}"
        if not snapshot.running:
            note += "; waiting for workers"
        return live_view(snapshot, self._title, note, self._console)

    def __enter__(self) -> SweepProgress:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._said.put(None)
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
