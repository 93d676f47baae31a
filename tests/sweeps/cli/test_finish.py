"""How a run ends: what is raised, what is returned, and the status that MLflow is told."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.publishing import COMMAND, PLAN

from oneshui.errors import InputError
from sweeps.cli.finish import finish
from sweeps.cli.written import Written
from sweeps.config import load
from sweeps.graph.job import digest
from sweeps.schedule.failure import Failure, FailureKind
from sweeps.schedule.scheduler import Scheduler
from sweeps.store import LocalStore


class Closed:
    """In place of a publisher: notes how it is closed."""

    def __init__(self) -> None:
        self.status: list[str] = []

    def start(self) -> None:
        """Nothing to start."""

    def offer(self, *_: Any) -> None:
        raise AssertionError("no row is finished")

    def close(self, status: str, *_: Any) -> list[str]:
        self.status.append(status)
        return []

    def lost(self) -> list[Path]:
        return []

    def hints(self) -> list[str]:
        return ["see there"]


def end(
    tmp_path: Path,
    scheduler: Scheduler | None,
    mode: str = "run",
    further: tuple[str, ...] = (),
) -> tuple[bool, Closed, str]:
    spec = load([*COMMAND, f"output_dir={tmp_path}", f"mode={mode}", *further])
    store, publisher, stream = LocalStore(tmp_path / "store"), Closed(), io.StringIO()
    console = Console(file=stream, width=200)
    done = finish(spec, console, PLAN, store, scheduler, publisher)  # type: ignore[arg-type]
    return done, publisher, stream.getvalue()


def is_published(tmp_path: Path) -> None:
    """Say that the report of an empty store is written."""
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "results.csv").write_text("of an empty store\n")
    STATE.write(tmp_path)


SAID = {"margin": 0.02, "show_faces": False, "reference": "", "models": False}
NOTHING = digest({**SAID, "entries": {}})
STATE = Written(sweep="smoke", plan=digest(sorted(PLAN.jobs)), contents=NOTHING, is_whole=False)


def failed(kind: FailureKind) -> Scheduler:
    scheduler = Scheduler(PLAN.jobs)
    while not scheduler.failures():
        job = scheduler.next()
        assert job is not None
        scheduler.fail(job.key, Failure(kind=kind, message="what happened"))
    return scheduler


@pytest.mark.parametrize("kind", ["disk", "input"])
def test_what_is_for_the_user_to_mend_ends_the_command(tmp_path: Path, kind: FailureKind) -> None:
    scheduler = failed(kind)
    store, publisher = LocalStore(tmp_path / "store"), Closed()
    spec = load([*COMMAND, f"output_dir={tmp_path}"])
    with pytest.raises(InputError, match="what happened"):
        finish(spec, Console(), PLAN, store, scheduler, publisher)  # type: ignore[arg-type]
    assert publisher.status == ["FAILED"]
    assert not (tmp_path / "report").exists()


def test_jobs_without_a_result_make_a_run_incomplete_though_none_failed(tmp_path: Path) -> None:
    is_published(tmp_path)
    done, publisher, said = end(tmp_path, Scheduler(PLAN.jobs))
    assert not done
    count = len(PLAN.jobs)
    assert f"{count} of {count} jobs have no result; run again to retry" in said
    assert "see there" in said
    # Nothing has changed since the report was written.
    assert publisher.status == []


def test_a_report_that_is_asked_for_is_written_and_says_that_the_sweep_is_not_whole(
    tmp_path: Path,
) -> None:
    is_published(tmp_path)
    done, publisher, said = end(tmp_path, None, mode="report")
    assert not done
    assert publisher.status == ["FAILED"]
    assert (tmp_path / "report" / "index.html").is_file()
    assert "report: " in said
    assert Written.read(tmp_path) == STATE


@pytest.mark.parametrize("damage", ["a bit", "its place"])
def test_a_report_that_is_not_as_it_was_written_is_named_and_written_again(
    tmp_path: Path, damage: str
) -> None:
    is_published(tmp_path)
    path = tmp_path / "report" / "results.csv"
    if damage == "a bit":
        path.write_text("of an empty storf\n")
    else:
        path.unlink()
        path.mkdir()
    _, publisher, said = end(tmp_path, Scheduler(PLAN.jobs))
    assert f"{path} is not as it was written; it is written again" in said
    assert publisher.status == ["FAILED"]
    assert path.read_text().startswith("dataset,")
    assert end(tmp_path, Scheduler(PLAN.jobs))[1].status == []


def test_a_person_s_table_may_change_without_a_new_report(tmp_path: Path) -> None:
    is_published(tmp_path)
    (tmp_path / "report" / "paper_numbers.csv").write_text("filled\n")
    assert end(tmp_path, Scheduler(PLAN.jobs))[1].status == []


def test_the_note_is_believed_only_as_it_was_written(tmp_path: Path) -> None:
    is_published(tmp_path)
    note = tmp_path / "report" / ".state"
    assert Written.read(tmp_path) == STATE
    note.write_text(note.read_text().replace('"smoke"', '"smokf"'))
    assert Written.read(tmp_path) is None


def test_what_a_command_names_as_damaged_is_computed_by_the_next_run(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    job = next(job for job in PLAN.jobs.values() if job.stage == "index")
    with store.work(job) as work:
        work.publish({}, {}, {})
    (tmp_path / "store" / "index" / job.key / "result.json").write_bytes(b"\xff")
    _, _, said = end(tmp_path, None, mode="report")
    assert f"store entry index/{job.key} is damaged: " in said
    assert "; the next run has it computed again" in said


@pytest.mark.parametrize("found", [b"", b"\xff\xfe", b"{}", b"[1]", b"[" * 100_000])
def test_a_note_about_the_report_that_says_nothing_counts_as_none(
    tmp_path: Path, found: bytes
) -> None:
    is_published(tmp_path)
    (tmp_path / "report" / ".state").write_bytes(found)
    _, publisher, _ = end(tmp_path, Scheduler(PLAN.jobs))
    assert publisher.status == ["FAILED"]
    assert Written.read(tmp_path) == STATE


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (
            {"sweep": "demo"},
            "is of sweep 'demo', and .* \\('smoke'\\) is another sweep; say sweep=demo",
        ),
        (
            {"plan": "another"},
            "is of sweep 'smoke', and .* is only in part finished; .*replace=true",
        ),
    ],
)
def test_a_finished_report_is_replaced_by_another_sweep_s_only_if_that_is_asked_for(
    tmp_path: Path, there: dict[str, Any], says: str
) -> None:
    is_published(tmp_path)
    replace(STATE, is_whole=True, **there).write(tmp_path)
    text = (tmp_path / "report" / ".state").read_text()
    with pytest.raises(InputError, match=says):
        end(tmp_path, None, mode="report")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {".state", "results.csv"}
    assert (tmp_path / "report" / ".state").read_text() == text
    done, _, _ = end(tmp_path, None, mode="report", further=("replace=true",))
    assert not done
    assert Written.read(tmp_path) == STATE


def test_a_cause_of_failures_is_told_with_its_command(tmp_path: Path) -> None:
    _, publisher, said = end(tmp_path, failed("error"))
    assert publisher.status == ["FAILED"]
    assert "what happened" in said
    assert "again: python launch.py sweep=smoke" in said
