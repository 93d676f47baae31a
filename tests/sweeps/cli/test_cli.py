"""Exit statuses, and when a row is handed to the publisher; no job runs."""

from __future__ import annotations

import errno
import io
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from contracts.store_contract import publish
from rich.console import Console
from support.publishing import COMMAND, PLAN, plan_of

import sweeps.cli
from oneshui.errors import InputError
from sweeps.cli import main
from sweeps.config import load
from sweeps.graph.plan import ResultRow, expand
from sweeps.schedule.scheduler import Scheduler
from sweeps.store import DamagedEntryError, Entry, LocalStore
from sweeps.store.objects import StoreUnreachableError


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (InputError("no such thing"), 2, "launch.py: no such thing\n"),
        (StoreUnreachableError("no answer"), 1, "no answer; finished jobs are kept: run the same"),
        (OSError(errno.ENOSPC, "No space left", "/f"), 2, "nothing can be written to /f (No space"),
        (OSError(errno.EROFS, "Read-only"), 2, "nothing can be written (Read-only)"),
        (KeyboardInterrupt(), 130, "go on with: python launch.py 'sweep.seeds=[0]'\n"),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, BaseException) else "",
)
def test_what_ends_a_command_is_said_and_has_its_status(
    error: BaseException,
    status: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: Any) -> None:
        raise error

    monkeypatch.setattr("sweeps.config.load", fail)
    assert main(["sweep.seeds=[0]"]) == status
    assert says in capsys.readouterr().err


def test_a_sentence_steers_no_terminal_and_tells_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Any) -> None:
        raise InputError("no \x1b[31m\nserver at http://me:secret@host/")

    monkeypatch.setattr("sweeps.config.load", fail)
    assert main(["sweep=smoke"]) == 2
    assert capsys.readouterr().err == "launch.py: no \\x1b[31m\\nserver at http://host/\n"


def test_the_command_is_installed_too_and_says_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (command,) = entry_points(group="console_scripts", name="oneshui")
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/oneshui", "--help"])
    assert command.load()() == 0
    assert capsys.readouterr().out.startswith("usage: oneshui [key=value ...]\n")
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/oneshui", "sweep=smoek"])
    assert command.load()() == 2
    assert capsys.readouterr().err.startswith("oneshui: unknown sweep 'smoek'")


def test_an_error_that_is_nobody_s_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("sweeps.config.load", fail)
    with pytest.raises(OSError, match="Stale"):
        main(["sweep=smoke"])


@pytest.mark.parametrize(("is_complete", "status"), [(True, 0), (False, 1)])
def test_a_report_of_an_unfinished_sweep_has_another_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_complete: bool, status: int
) -> None:
    spec = load(["sweep=smoke", f"output_dir={tmp_path}", "mode=report"])
    with pytest.raises(InputError, match="there is no store at"):
        sweeps.cli.rebuild(spec, Console())
    assert not (tmp_path / "store").exists()
    LocalStore(tmp_path / "store")
    monkeypatch.setattr("sweeps.cli.finish.finish", lambda *_: is_complete)
    assert sweeps.cli.rebuild(spec, Console()) == status


class Offered:
    """Notes the rows that it is offered, with the entries."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], Mapping[str, Entry]] = {}

    def offer(self, row: ResultRow, entries: Mapping[str, Entry]) -> None:
        self.rows[row.row.name, row.cell.seed] = entries


@pytest.mark.parametrize("role", ["score_key", "model_key", "prepare_key", "split"])
def test_a_row_is_offered_once_all_that_it_shows_is_done(tmp_path: Path, role: str) -> None:
    store = LocalStore(tmp_path)
    for job in PLAN.jobs.values():
        publish(store, job)
    (row,) = [one for one in PLAN.results if (one.row.name, one.cell.seed) == ("ssd", 0)]
    split = PLAN.jobs[row.evaluate_key].inputs["split"]
    last = split if role == "split" else getattr(row, role)
    scheduler, offered = Scheduler(PLAN.jobs, PLAN.jobs.keys() - {last}), Offered()
    feed = sweeps.cli._Feed(PLAN, store, scheduler, offered)  # type: ignore[arg-type]
    feed._offer()
    assert ("ssd", 0) not in offered.rows
    assert ("ssd", 1) in offered.rows
    scheduler.succeed(last)
    feed._offer()
    entries = offered.rows["ssd", 0]
    assert {row.score_key, row.model_key, row.prepare_key, split} == entries.keys()


def test_a_row_of_several_requests_is_offered_when_the_last_has_its_model(tmp_path: Path) -> None:
    plan = plan_of("sweep.seeds=[0]", "sweep.forget_sizes=[1]", "sweep.requests=2")
    store = LocalStore(tmp_path)
    for job in plan.jobs.values():
        publish(store, job)
    (row,) = [one for one in plan.results if one.row.name == "ssd"]
    scheduler = Scheduler(plan.jobs, plan.jobs.keys() - {row.model_keys[-1]})
    offered = Offered()
    feed = sweeps.cli._Feed(plan, store, scheduler, offered)  # type: ignore[arg-type]
    feed._offer()
    assert ("ssd", 0) not in offered.rows
    assert ("retrain", 0) in offered.rows
    scheduler.succeed(row.model_keys[-1])
    feed._offer()
    shown = {row.score_key, *row.model_keys, row.prepare_key, row.split_key}
    assert offered.rows["ssd", 0].keys() == shown


def kept(folder: Path) -> LocalStore:
    """A store with a result of every job of the plan."""
    store = LocalStore(folder / "store")
    contents: dict[str, str] = {}
    for key, job in PLAN.jobs.items():
        with store.work(job) as work:
            (work.folder / "data.txt").write_text("hello")
            inputs = {name: contents[needed] for name, needed in job.needed.items()}
            contents[key] = work.publish({}, inputs, {}).content
    return store


@pytest.mark.parametrize("mode", ["run", "report"])
def test_what_cannot_be_read_is_named_taken_out_and_computed_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mode: str,
) -> None:
    store = kept(tmp_path)
    scores = [key for key, job in PLAN.jobs.items() if job.stage == "score"]
    for key in scores[:3]:
        (store.root / "score" / key / "data.txt").write_text("hellp")
    calls: list[set[str]] = []

    def read_all(_spec: Any, _console: Any) -> int:
        calls.append(store.keys("score"))
        for key in scores:
            entry = store.find("score", key)
            if entry is not None:
                entry.file("data.txt")
        return 0

    monkeypatch.setattr(sweeps.cli, "run" if mode == "run" else "rebuild", read_all)
    assert main([*COMMAND, f"output_dir={tmp_path}", f"mode={mode}"]) == 0
    said = capsys.readouterr().out
    # One is met, and the others are looked for at once.
    assert calls == [set(scores), set(scores[3:])]
    for key in scores[:3]:
        assert f"store entry score/{key} is damaged: data.txt has changed" in said
    assert said.count("computed again") == 3


def test_what_is_damaged_again_at_once_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path)

    def never(_spec: Any, _console: Any) -> int:
        raise DamagedEntryError("score", "0" * 16, "it is always so")

    monkeypatch.setattr(sweeps.cli, "run", never)
    assert main([*COMMAND, f"output_dir={tmp_path}"]) == 1
    assert "though it was just computed again; is the disk sound?" in capsys.readouterr().err


def test_a_file_in_the_journal_s_place_is_kept_and_does_not_stop_a_sweep(tmp_path: Path) -> None:
    plan = expand(load([*COMMAND, "profile=tuned"]).sweep)
    assert plan.studies
    (tmp_path / "studies.journal").write_bytes(b'{"op_code": 99}\n')
    stream = io.StringIO()
    sweeps.cli._check_journal(plan, tmp_path, Console(file=stream, width=500))
    assert "kept as studies.journal.unreadable-1 and written again" in stream.getvalue()
    assert [path.name for path in tmp_path.iterdir()] == ["studies.journal.unreadable-1"]
