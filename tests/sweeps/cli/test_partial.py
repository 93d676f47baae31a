"""The report of a sweep that still runs: when it is written, by whom, and what it says."""

from __future__ import annotations

import io
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from contracts.store_contract import publish
from rich.console import Console
from support.publishing import COMMAND, PLAN

from sweeps.cli import partial
from sweeps.cli.locks import PARTIAL_LOCK
from sweeps.cli.partial import PAUSE, PartialReport, Times, needed, partial_note, write_partial
from sweeps.cli.written import Written
from sweeps.config import load
from sweeps.schedule.scheduler import Scheduler
from sweeps.store import LocalStore


def test_it_takes_a_twentieth_of_the_time_at_most() -> None:
    times, spent, now, cost = Times(), 0.0, 0.0, 3.0
    while now < 3600:
        now += 1.0
        if times.is_due(now, rows=int(now), has_look=False):
            times.wrote(now, now + cost, int(now), has_table=False)
            spent += cost
            now += cost
            cost += 2.0
    assert 0.02 < spent / now <= 1 / (PAUSE + 1) + 0.005


def test_nothing_new_is_not_written() -> None:
    times = Times()
    assert not times.is_due(1e6, rows=0, has_look=False)
    assert times.is_due(1e6, rows=1, has_look=False)
    times.wrote(0.0, 1.0, 1, has_table=False)
    assert not times.is_due(1e6, rows=1, has_look=False)
    assert times.is_due(1e6, rows=2, has_look=False)


def test_the_first_look_does_not_wait_for_the_pause_unless_the_sweep_is_short() -> None:
    times = Times()
    assert not times.is_due(30.0, rows=3, has_look=True)
    assert times.is_due(61.0, rows=3, has_look=True)
    assert not times.is_due(61.0, rows=3, has_look=False)
    times.wrote(61.0, 64.0, 3, has_table=True)
    assert not times.wants_table
    assert times.cost == 3.0
    assert not times.is_due(70.0, rows=4, has_look=True)


def test_the_note_says_how_much_and_as_of_when() -> None:
    said = partial_note(7, 12, datetime(2026, 11, 30, 9, 5))
    assert said == "Partial: 7 of 12 jobs, as of 2026-11-30 09:05, when the sweep still ran."


def half_done(tmp_path: Path) -> Scheduler:
    """Seed 0 has all its results."""
    store = LocalStore(tmp_path / "store")
    (tmp_path / "logs").mkdir()
    done = {key for row in PLAN.results if row.cell.seed == 0 for key in needed(row)}
    for key in done:
        publish(store, PLAN.jobs[key])
    return Scheduler(PLAN.jobs, done)


def reports(
    tmp_path: Path, scheduler: Scheduler, stream: io.StringIO, *, leads: bool = True
) -> PartialReport:
    spec = load([*COMMAND, f"output_dir={tmp_path}"])
    console = Console(file=stream, width=100)
    return PartialReport(spec, PLAN, scheduler, console, leads=leads)


def test_a_writer_that_fails_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "_LEAST_TABLE_SECONDS", 0.0)
    monkeypatch.setattr(partial, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no such program"))
    stream = io.StringIO()
    report = reports(tmp_path, half_done(tmp_path), stream)
    with report:
        time.sleep(0.2)
    assert not stream.getvalue()
    assert not (tmp_path / "report").exists()


def test_of_several_drivers_one_writes_and_a_finished_report_stays(tmp_path: Path) -> None:
    stream, scheduler = io.StringIO(), half_done(tmp_path)
    with reports(tmp_path, scheduler, stream, leads=False) as other:
        assert not other._thread.is_alive()
    (tmp_path / "report").mkdir()
    Written(sweep="smoke", plan="p", contents="c", is_whole=True).write(tmp_path)
    with reports(tmp_path, scheduler, stream) as later:
        assert not later._thread.is_alive()


def test_another_process_that_writes_is_left_alone(tmp_path: Path) -> None:
    from sweeps.store.private import lock_of

    half_done(tmp_path)
    said: list[str] = []
    spec = load([*COMMAND, f"output_dir={tmp_path}"])
    with lock_of(tmp_path / PARTIAL_LOCK):
        write_partial(spec, said.append, 80)
    assert not (tmp_path / "report").exists()


def test_the_table_is_said_before_the_pages_and_even_if_they_fail(tmp_path: Path) -> None:
    report = reports(tmp_path, half_done(tmp_path), io.StringIO())
    said: list[str] = []
    report._write(said.append)
    log = (tmp_path / "logs" / partial.LOG).read_text()
    assert "Partial: " in said[0], log
    assert "write_report" in log, "these results are made up, and no page can be made of them"
