"""The whole product at toy size, by its command: the path that ``sweep=demo`` takes."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import signal
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from support.commands import ONE, contents, finished, half, launch, results, start
from support.inline_sweep import inline_sweep
from support.processes import wait_for

from sweeps.cli import partial
from sweeps.cli.partial import PartialReport
from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.report.results import COLUMNS, results_frame
from sweeps.schedule.scheduler import Scheduler
from sweeps.store.status import scan

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def test_leaves_what_the_contract_says(undisturbed: Path) -> None:
    report = undisturbed / "report"
    frame = pd.read_parquet(report / "results.parquet")
    assert list(frame.columns) == list(COLUMNS)
    sweep = load(["sweep=smoke"]).sweep
    expected = [(c.seed, row.name) for c in sweep.cells for row in sweep.rows[c]]
    assert list(zip(frame["seed"], frame["method"], strict=True)) == expected
    measured = ["retain_score", "forget_score", "test_score", "tow", "mia_auc", "mia_acc"]
    assert frame[measured].notna().all(axis=None)
    assert frame[measured].apply(lambda column: column.between(0, 1)).all(axis=None)
    assert (frame.loc[frame["method"] == "retrain", "tow"] == 1.0).all()
    attacked = frame[frame["method"] != "retrain"]
    assert attacked["rmia_auc"].between(0, 1).all()
    assert frame.loc[frame["method"] == "retrain", "rmia_auc"].isna().all()
    assert (frame.loc[frame["method"] == "pretrain", "tow_normalised"].dropna() == 0).all()
    assert (frame["nomus"].notna() == (frame["task"] == "multiclass")).all()
    assert (frame.loc[frame["method"] == "retrain", "weight_distance"] == 0).all()
    for name in ("results.csv", "summary.md", "summary.csv", "summary.tex", "index.html"):
        assert (report / name).stat().st_size > 100
    assert list((report / "figures").glob("*.png"))
    logs = {path.stem for path in (undisturbed / "logs").glob("*.log")}
    assert set(frame["job_key"]) <= logs


def test_prints_progress_and_the_table(undisturbed: Path) -> None:
    printed = (undisturbed / "printed.txt").read_text()
    assert "\x1b" not in printed
    assert "ETA" in printed
    for name in load(["sweep=smoke"]).sweep.rows[load(["sweep=smoke"]).sweep.cells[0]]:
        assert name.name in printed
    assert "mode=ui" in printed
    assert "viewStateShareKey=oneshui-table" in printed
    assert str(undisturbed / "report" / "index.html") in printed


def test_mlflow_has_a_parent_and_one_finished_run_per_model(undisturbed: Path) -> None:
    with sqlite3.connect(undisturbed / "mlflow.db") as database:
        statuses = database.execute(
            "select runs.status, count(*) from runs join experiments using (experiment_id) "
            "where experiments.name = 'smoke' group by runs.status"
        ).fetchall()
        parents = database.execute(
            "select count(distinct value) from tags where key = 'mlflow.parentRunId'"
        ).fetchone()
    rows = len(pd.read_parquet(undisturbed / "report" / "results.parquet"))
    assert statuses == [("FINISHED", rows + 1)]
    assert parents == (1,)


def test_a_second_run_does_nothing_and_says_so_within_seconds(undisturbed: Path) -> None:
    def times() -> dict[Path, int]:
        files = [p for p in undisturbed.rglob("*") if p.is_file()]
        # SQLite's own side files come and go with whoever reads the database, and what pictures
        # contain is remembered when they are some seconds old.
        kept = (p for p in files if p.parent.name != ".pictures")
        return {p: p.stat().st_mtime_ns for p in kept if not p.name.startswith("mlflow.db-")}

    before = times()
    done = launch("sweep=smoke", f"output_dir={undisturbed}")
    assert done.status == 0
    assert "nothing to do" in done.out
    assert done.seconds < 30
    assert times() == before


def test_the_plan_of_a_finished_sweep_has_nothing_to_run(undisturbed: Path) -> None:
    done = launch("sweep=smoke", f"output_dir={undisturbed}", "mode=plan")
    assert done.status == 0
    assert not re.search(r"\d (new|input changed|method changed|version bumped|damaged)", done.out)
    assert re.search(r"score +\d+ +\d+", done.out)


def test_results_are_those_of_one_process_without_ray(undisturbed: Path, tmp_path: Path) -> None:
    alone = inline_sweep(tmp_path, "sweep=smoke")
    assert contents(tmp_path) == contents(undisturbed)
    frame = results_frame(alone.plan, scan(alone.plan, alone.store, discard=False).entries)
    (tmp_path / "report").mkdir()
    frame.to_parquet(tmp_path / "report" / "results.parquet", index=False)
    assert results(tmp_path).equals(results(undisturbed))


def test_a_partial_report_is_written_beside_the_sweep_and_says_so(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load(["sweep=smoke", f"output_dir={tmp_path}"])
    plan = expand(spec.sweep)
    shutil.copytree(undisturbed / "store", tmp_path / "store")
    (tmp_path / "logs").mkdir()
    missing = {row.score_key for row in plan.results if row.cell.seed == 1}
    for key in missing:
        shutil.rmtree(tmp_path / "store" / "score" / key)
    monkeypatch.setattr(partial, "_LEAST_TABLE_SECONDS", 0.0)
    stream = io.StringIO()
    scheduler = Scheduler(plan.jobs, plan.jobs.keys() - missing)
    console = Console(file=stream, width=100)
    page = tmp_path / "report" / "index.html"
    with PartialReport(spec, plan, scheduler, console, leads=True):
        wait_for(lambda: page.exists() and "Partial: " in stream.getvalue())
    done = len(plan.jobs) - len(missing)
    said = f"Partial: {done} of {len(plan.jobs)} jobs, as of "
    assert said in page.read_text()
    assert said in stream.getvalue()
    assert "gradient_ascent" in stream.getvalue(), "the table of the first complete seed"
    assert not list(tmp_path.glob(".report-*"))
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.long
def test_ctrl_c_says_how_to_go_on_and_keeps_what_is_done(undisturbed: Path, tmp_path: Path) -> None:
    with start("sweep=smoke", ONE, f"output_dir={tmp_path}") as driver:
        wait_for(lambda: finished(tmp_path, "pretrain") >= 1)
        os.kill(driver.pid, signal.SIGINT)
        _, err = driver.communicate(timeout=120)
    assert driver.returncode == 130
    again = shlex.split(err.partition("go on with: ")[2])
    assert again[-3:] == ["sweep=smoke", ONE, f"output_dir={tmp_path}"]
    assert Path(again[-4]).name == "launch.py"
    assert "Traceback" not in err
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").glob("[a-z]*/*/result.json")}
    # Four go on where one per processor had begun: results do not depend on their number.
    done = launch("sweep=smoke", ONE, f"output_dir={tmp_path}", "cluster.workers=4")
    assert done.status == 0, done.err
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert results(tmp_path).equals(half(undisturbed))


@pytest.mark.long
def test_a_job_that_fails_leaves_the_rest_and_status_1(undisturbed: Path, tmp_path: Path) -> None:
    done = launch(
        "sweep=smoke",
        ONE,
        f"output_dir={tmp_path}",
        "sweep.methods=[pretrain,retrain,gradient_ascent]",
        "sweep.rows.gradient_ascent.learning_rate=1e30",
    )
    assert done.status == 1, done.out + done.err
    assert "Traceback" not in done.out + done.err
    failed = [line for line in done.out.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1, "two jobs, one cause"
    assert "and 1 more jobs" in failed[0]
    assert "not finite" in failed[0]
    logs = [Path(line.split("log ", 1)[1]) for line in done.out.splitlines() if " log /" in line]
    assert "Traceback" in logs[0].read_text()
    again = next(line.split("again: ")[1] for line in done.out.splitlines() if "again: " in line)
    assert "sweep.seeds=[0]" in again
    assert "'sweep.methods=[gradient_ascent]'" in again
    words = shlex.split(again)
    small = launch(*words[words.index("sweep=smoke") :])
    assert small.status == 1
    assert "not finite" in small.out
    ours, theirs = results(tmp_path), half(undisturbed)
    assert ours.loc[ours["method"] == "gradient_ascent", "tow"].isna().all()
    for method in ("pretrain", "retrain"):
        left, right = (
            frame[frame["method"] == method].reset_index(drop=True) for frame in (ours, theirs)
        )
        assert left.equals(right)


@pytest.mark.long
def test_a_damaged_result_is_reported_and_computed_again(undisturbed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(undisturbed, copy)
    entry = next((copy / "store" / "evaluate").iterdir())
    (entry / "predictions.parquet").write_bytes(b"damaged")
    flipped = next((copy / "store" / "unlearn").iterdir())
    weights = bytearray((flipped / "weights.safetensors").read_bytes())
    weights[-5] ^= 1
    (flipped / "weights.safetensors").write_bytes(bytes(weights))
    done = launch("sweep=smoke", f"output_dir={copy}")
    assert done.status == 0, done.out + done.err
    assert f"store entry evaluate/{entry.name} is damaged" in done.out
    assert "1 to run (1 damaged)" in done.out
    assert contents(copy) == contents(undisturbed)
