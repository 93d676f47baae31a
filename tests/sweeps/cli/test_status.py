"""``mode=status``: from the store and its leases alone, and without writing."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console
from support.publishing import COMMAND, PLAN

from oneshui.errors import InputError
from sweeps.cli import main
from sweeps.cli.status import look, show_status
from sweeps.config import load
from sweeps.graph.job import Job
from sweeps.store import LocalStore, open_store


def publish(store: LocalStore, *stages: str) -> None:
    """Made-up results of these stages' jobs, made from one another; of all if none is named."""
    contents: dict[str, str] = {}
    for key, job in PLAN.jobs.items():
        if not stages or job.stage in stages:
            with store.work(job) as work:
                inputs = {name: contents[needed] for name, needed in job.needed.items()}
                contents[key] = work.publish({}, inputs, {"seconds": 1.0}).content


def first(stage: str) -> Job:
    return next(job for job in PLAN.jobs.values() if job.stage == stage)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Data and splits are done; nobody is at it."""
    made = LocalStore(tmp_path / "store")
    publish(made, "index", "cache", "split")
    return made


def said(tmp_path: Path, width: int = 80, *, is_terminal: bool = True) -> str:
    spec = load([*COMMAND, f"output_dir={tmp_path}", "mode=status"])
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=is_terminal, color_system=None)
    show_status(spec, open_store(spec.places.store_uri, writes=False), console)
    return stream.getvalue()


def everything(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_jobs_at_work_are_those_with_a_lease(tmp_path: Path, store: LocalStore) -> None:
    leases = [store.leases.acquire(first(stage)) for stage in ("pretrain", "retrain")]
    assert all(leases)
    seen = look(PLAN, store, lambda: time.time() + 34)
    assert seen.workers == 1, "both leases are this process's"
    assert [one.spent for one in seen.snapshot.running] == [pytest.approx(34, abs=2)] * 2
    assert seen.snapshot.total("running") == 2
    text = said(tmp_path)
    assert "1 worker, left: " in text
    assert first("pretrain").label in text
    assert all(len(line) <= 80 for line in text.splitlines())
    line = said(tmp_path, is_terminal=False)
    assert line.startswith(f"{len(PLAN.jobs)} jobs: 4 done 2 running")
    assert len(line.splitlines()) == 1


def test_nothing_is_written_and_nothing_is_made(tmp_path: Path, store: LocalStore) -> None:
    store.leases.acquire(first("pretrain"))
    before = everything(tmp_path)
    said(tmp_path)
    assert everything(tmp_path) == before


def test_who_has_ended_is_not_at_work(tmp_path: Path, store: LocalStore) -> None:
    lease = store.leases.acquire(first("pretrain"))
    assert lease is not None
    (path,) = (tmp_path / "store" / ".leases").iterdir()
    own = '"started": "'
    path.write_text(path.read_text().replace(own, f"{own}9"))
    assert look(PLAN, store).given_up == 1
    text = said(tmp_path)
    assert "nobody is at it, " in text
    assert "of work left" in text
    assert "1 job had begun in a process that has ended" in text
    assert "mode=status" not in text.partition("go on with: ")[2]


def test_a_finished_sweep_says_so(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    publish(store)
    assert look(PLAN, store).snapshot.share == 1.0
    text = said(tmp_path)
    assert "finished" in text
    assert "go on with" not in text


def test_without_a_store_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, f"output_dir={tmp_path / 'x'}", "mode=status"]) == 2
    assert "there is no store at" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_only_looked_at_is_not_made(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "none"), writes=False)
    assert store.leases.holders() == {}
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="cannot be written"):
        open_store("/proc/none")
