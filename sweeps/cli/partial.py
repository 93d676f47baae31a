"""The report of a sweep that still runs, written by a process of its own and of low priority.

It is marked as partial, and the final one replaces it. Writing takes at most a twentieth of the
time: a pause of twenty times what the last writing took follows each. Nothing that goes wrong here
reaches the sweep; it stands in ``logs/partial-report.log``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from rich.console import Console

from sweeps.cli.finish import found_in
from sweeps.cli.locks import PARTIAL_LOCK
from sweeps.cli.written import Written
from sweeps.graph.first_look import first_look
from sweeps.graph.launch import LaunchSpec
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.schedule.scheduler import Scheduler
from sweeps.store import Entry, open_store
from sweeps.store.private import lock_of
from sweeps.store.status import scan

PAUSE = 20.0
"""Times what the last writing took, at least, pass before the next."""

LOG = "partial-report.log"
_ASSUMED_SECONDS = 6.0
"""What the first writing is taken to cost."""

_LEAST_TABLE_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_NICE, _NICER = 5, 5
"""As low a priority as that of Ray's workers until the table is there, then a lower one."""

_TOO_LONG_SECONDS = 1800.0


def needed(row: ResultRow) -> set[str]:
    """Keys of the jobs that must be done before a row can be shown whole."""
    keys = {row.score_key, *row.model_keys, row.split_key}
    return keys | {key for key in (row.prepare_key, row.choose_key) if key is not None}


class Times:
    """When the report is written anew. Pure."""

    def __init__(self) -> None:
        """Nothing was written yet."""
        self._cost = 0.0
        self._next = PAUSE * _ASSUMED_SECONDS
        self._rows = 0
        self._has_table = False

    @property
    def cost(self) -> float:
        """Seconds of the last writing, or what one is taken to cost."""
        return self._cost or _ASSUMED_SECONDS

    def is_due(self, now: float, rows: int, *, has_look: bool) -> bool:
        """Whether to write now.

        Args:
            now: Seconds since the start.
            rows: Results that are there.
            has_look: Whether all is there that is shown first.
        """
        first = has_look and not self._has_table and now >= _LEAST_TABLE_SECONDS
        return rows > self._rows and (now >= self._next or first)

    def wrote(self, began: float, ended: float, rows: int, *, has_table: bool) -> None:
        """Note a writing, whether it succeeded or not."""
        self._cost = ended - began
        self._next = ended + PAUSE * self._cost
        self._rows = rows
        self._has_table |= has_table

    @property
    def wants_table(self) -> bool:
        """Whether the table has not been shown yet."""
        return not self._has_table


class PartialReport:
    """Has the report written while the sweep runs; use it as a context manager."""

    def __init__(
        self, spec: LaunchSpec, plan: Plan, scheduler: Scheduler, console: Console, *, leads: bool
    ) -> None:
        """Start nothing yet.

        Args:
            spec: The command.
            plan: Its graph.
            scheduler: What is done.
            console: Where the first table is printed.
            leads: Whether this driver may write the report: of several, one does.
        """
        self._spec, self._plan, self._scheduler = spec, plan, scheduler
        self._needed = [needed(row) for row in plan.results]
        self._look = {key for row in first_look(plan) for key in needed(row)}
        self._console = console
        self._output = Path(spec.places.output_dir)
        self._times = Times()
        self._ended = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="partial report", daemon=True)
        self._is_wanted = leads and not is_finished(self._output)

    @property
    def cost(self) -> float:
        """Seconds that writing the report takes, about."""
        return self._times.cost

    def __enter__(self) -> PartialReport:
        if self._is_wanted:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        start = time.monotonic()
        while not self._ended.wait(_LOOK_SECONDS):
            done = set(self._scheduler.keys("done"))
            rows = sum(wanted <= done for wanted in self._needed)
            has_look = bool(self._look) and self._look <= done
            began = time.monotonic() - start
            if not self._times.is_due(began, rows, has_look=has_look):
                continue
            shows = has_look and self._times.wants_table
            self._write(self._print if shows else lambda _table: None)
            ended = time.monotonic() - start
            self._times.wrote(began, ended, rows, has_table=shows)

    def _print(self, table: str) -> None:
        if table and not self._ended.is_set():
            self._console.print(table.rstrip("\n"), highlight=False, soft_wrap=True)

    def _write(self, say: Callable[[str], None]) -> None:
        """Have it written; the table, or nothing if that failed, is said before the pages are."""
        given = {"command": self._spec.command, "width": self._width(), "driver": os.getpid()}
        try:
            with (self._output / "logs" / LOG).open("w", encoding="utf-8") as log:
                self._process = process = subprocess.Popen(
                    # -P: nothing is imported from the working folder, which is the user's.
                    [sys.executable, "-P", "-c", f"from {__name__} import main; main()"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    encoding="utf-8",
                    # Ctrl-C is for the driver, which ends this process.
                    start_new_session=True,
                    env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": _paths()},
                )
        except OSError:
            return
        if self._ended.is_set():
            process.terminate()
        late = threading.Timer(_TOO_LONG_SECONDS, process.kill)
        late.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            with process.stdout as said:
                # One that has ended already takes nothing.
                with contextlib.suppress(BrokenPipeError), process.stdin as asked:
                    json.dump(given, asked)
                say(said.read())
            process.wait()
        finally:
            late.cancel()

    def _width(self) -> int:
        return self._console.width if self._console.is_terminal else 0


def is_finished(output: Path) -> bool:
    """Whether there is a finished report: it stays until there is a finished one again."""
    there = Written.read(output)
    return there is not None and there.is_whole


def _paths() -> str:
    """Where this process found its modules, for the one that writes."""
    return os.pathsep.join(filter(None, sys.path))


def partial_note(done: int, of: int, now: datetime) -> str:
    """What a partial report says of itself."""
    return f"Partial: {done} of {of} jobs, as of {now:%Y-%m-%d %H:%M}, when the sweep still ran."


def write_partial(spec: LaunchSpec, say: Callable[[str], None], width: int) -> None:
    """Write the report of what is in the store, unless another process does.

    Args:
        spec: The command.
        say: Gets the table.
        width: Of the terminal; 0 for a log.
    """
    from filelock import Timeout

    from sweeps.report.formats import tables_text
    from sweeps.report.page import write_report
    from sweeps.report.studies.results import study_results

    output = Path(spec.places.output_dir)
    plan = expand(spec.sweep)
    entries = _entries(spec, plan)
    frame, evidence, summary = found_in(spec, plan, entries)
    note = partial_note(len(entries), len(plan.jobs), datetime.now().astimezone())
    say("\n".join([*tables_text(summary, width), note]))
    studies = study_results(plan, entries) if plan.studies else []
    with contextlib.suppress(Timeout), lock_of(output / PARTIAL_LOCK).acquire(timeout=0):
        if is_finished(output):
            return
        known = (plan, frame, summary, evidence, entries, (), (), output, spec.command)
        write_report(
            *known,
            studies=studies,
            show_faces=spec.show_faces,
            tracking_uri=spec.places.tracking_uri,
            partial=note,
        )


def _entries(spec: LaunchSpec, plan: Plan) -> dict[str, Entry]:
    store = open_store(spec.places.store_uri, writes=False)
    return dict(scan(plan, store, discard=False).entries)


def _end_with(driver: int) -> None:
    """End this process when its driver is gone: another one may have finished the report."""
    while os.getppid() == driver:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def main() -> None:
    """Write one partial report; what to write stands on standard input."""
    from sweeps.config import load

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _be_nicer(_NICE)
    given = json.load(sys.stdin)
    watch = threading.Thread(target=_end_with, args=(given["driver"],), daemon=True)
    watch.start()
    # Nothing else may print there, and who reads it waits for its end.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(table: str) -> None:
        with out:
            print(table, file=out)
        _be_nicer(_NICER)

    write_partial(load(given["command"]), say, given["width"])


def _be_nicer(by: int) -> None:
    if hasattr(os, "nice"):
        os.nice(by)
