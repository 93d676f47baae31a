"""``mode=plan``: what it says, and that it says so without anything heavy."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sweeps.cli.plan import show_plan
from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.store import LocalStore

PROJECT = Path(__file__).parents[3]


def said(tmp_path: Path, *overrides: str) -> str:
    stream = io.StringIO()
    spec = load([*overrides, f"output_dir={tmp_path}", "mode=plan"])
    show_plan(spec, Console(file=stream, width=400))
    return stream.getvalue()


def test_the_whole_grid_is_planned_without_torch_ray_or_the_data(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from sweeps.cli import main\n"
        f"assert main(['sweep=full', 'mode=plan', 'output_dir={tmp_path}']) == 0\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'sklearn', 'numpy', 'PIL'}\n"
        "heavy |= {'matplotlib', 'jinja2', 'scipy', 'timm', 'asyncio', 'filelock', 'obstore'}\n"
        "heavy |= {'rich.progress', 'rich.live', 'sweeps.cli.finish', 'sweeps.store.bucket'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
        "assert 'oneshui.faces' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for stage in ("simulate", "trial", "choose", "true ToW"):
        assert f"  {stage} " in done.stdout
    assert not list(tmp_path.iterdir())


def test_hours_cost_chain_and_useful_workers(tmp_path: Path) -> None:
    text = said(
        tmp_path, "sweep=full", "cluster.gpus_per_worker=0.5", "cluster.price_per_gpu_hour=2.0"
    )
    jobs = expand(load(["sweep=full"]).sweep).jobs
    assert f"{len(jobs)} jobs" in text
    assert f"guessed for {len(jobs)} of {len(jobs)} jobs" in text
    assert "GPU-hours" in text
    hours = float(text.split("work: about ")[1].split(" GPU-hours")[0].replace(",", ""))
    cost = float(text.split("cost: about ")[1].split(" at")[0])
    assert cost == pytest.approx(2.0 * hours, abs=1.5)
    assert "longest chain" in text
    assert "do not help" in text


def test_clusters_of_1_to_256_gpus_are_simulated_with_their_assumptions(tmp_path: Path) -> None:
    text = said(
        tmp_path,
        "sweep=full",
        "cluster.gpus_per_worker=0.5",
        "cluster.price_per_gpu_hour=2.0",
        "cluster.interruptions_per_hour=0.5",
    )
    assert "one GPU and 2 jobs a machine" in text
    assert "0.5 taken back an hour" in text
    assert "come 4 min after they are asked for" in text
    lines = [re.split(r" {2,}", line.strip()) for line in text.split("simulated")[1].splitlines()]
    rows = {int(cells[0]): cells for cells in lines if cells[0].isdigit()}
    assert sorted(rows) == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    cost = {most: float(cells[2].replace(",", "")) for most, cells in rows.items()}
    assert cost[1] <= cost[16] <= cost[256]
    assert all(int(cells[-1]) > 0 for cells in rows.values())


def test_a_sweep_that_needs_gpus_says_so_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    text = said(tmp_path, "sweep=full")
    assert "this sweep needs GPUs, and there is none here: one processor would take" in text
    assert "years" in text
    assert "CPU-hours" not in text
    assert "0.5" in text.split("GPU-hours")[0]
    assert "needs GPUs" not in said(tmp_path, "sweep=full", "cluster.gpus_per_worker=0.5")
    assert "needs GPUs" not in said(tmp_path, "sweep=demo")


def test_disk_and_memory_are_said_and_that_they_are_guessed(tmp_path: Path) -> None:
    text = said(tmp_path, "sweep=full", "cluster.gpus_per_worker=0.5")
    (room,) = [line for line in text.splitlines() if line.startswith("  room: ")]
    assert "GB of disk, " in room
    assert "of memory a worker" in room
    assert "of GPU memory a job" in room
    assert "(guessed, within a factor of 10)" in room
    assert "GPU memory" not in said(tmp_path, "sweep=smoke", "cluster.gpus_per_worker=0.0")


@pytest.mark.parametrize("columns", [80, 160])
def test_no_word_is_broken_on_a_terminal(tmp_path: Path, columns: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=columns, force_terminal=True, color_system=None)
    show_plan(load(["sweep=full", f"output_dir={tmp_path}", "mode=plan"]), console)
    lines = stream.getvalue().splitlines()
    assert all(len(line) <= columns for line in lines)
    words = " ".join(stream.getvalue().split())
    assert "a machine that is taken back costs a training its epoch" in words
    assert "-0.0" not in words
    assert not re.search(r"\de[+-]\d", words)


def test_without_gpus_it_counts_processors(tmp_path: Path) -> None:
    text = said(tmp_path, "sweep=smoke", "cluster.gpus_per_worker=0.0")
    assert "CPU-hours" in text
    assert "cost" not in text
    assert "simulated" not in text


def test_counting_leaves_damaged_results_where_they_are(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    jobs = expand(load(["sweep=smoke"]).sweep).jobs.values()
    split = next(job for job in jobs if job.stage == "split")
    with store.work(split) as work:
        entry = work.publish({}, {}, {})
    (entry.folder / "result.json").write_text("{")
    text = said(tmp_path, "sweep=smoke")
    assert "1 damaged" in text
    assert (entry.folder / "result.json").read_text() == "{"
    assert not list((tmp_path / "store" / ".discarded").iterdir())


def test_a_plan_says_what_studies_run_on(tmp_path: Path) -> None:
    tuned = ("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "profile=tuned", "tuning.trials=2")
    rows = ("tuning.rows=[ssd,jit]", "tuning.studies=2")
    assert said(tmp_path, *tuned, *rows).splitlines()[1] == (
        "  tuning: 4 studies; seeds 1000, 1001, never reported, in 2 independent studies"
    )
    assert "tuning:" not in said(tmp_path, *tuned[:2])


def test_what_audits_add_has_its_price(tmp_path: Path) -> None:
    pool = "++sweep.audit={probes: false, pool: 64, models: 32}"
    text = said(tmp_path, "sweep=full", pool, "cluster.gpus_per_worker=0.5")
    plan, plain = (expand(load(["sweep=full", *more]).sweep) for more in ((pool,), ()))
    datasets = len(plan.sweep.datasets)
    assert plan.counts()["pretrain"] - plain.counts()["pretrain"] == 32 * datasets
    own = len(plan.jobs) - len(plain.jobs)
    line = text.split("audits: ")[1].splitlines()[0]
    assert line.startswith(f"{own} of these jobs, 0 of them done; 32 trainings for each dataset")
    hours = {
        name: float(part.split("about ")[1].split(" GPU-hours")[0].replace(",", ""))
        for name, part in (("audits", line), ("all", text.split("work: ")[1]))
    }
    without = said(tmp_path, "sweep=full", "cluster.gpus_per_worker=0.5")
    assert "audits: " not in without
    others = float(without.split("work: about ")[1].split(" GPU-hours")[0].replace(",", ""))
    assert hours["audits"] + others == pytest.approx(hours["all"], abs=1.1)


def test_a_note_stands_in_the_plan_and_in_no_key(tmp_path: Path) -> None:
    command = ("sweep=smoke", "sweep.seeds=[0]")
    noted = said(tmp_path, *command, "sweep.note=second try, after the move")
    assert "  note: second try, after the move\n" in noted
    assert "note:" not in said(tmp_path, *command)
    with_note, without = (
        expand(load([*command, *more]).sweep).jobs for more in (["sweep.note=x"], [])
    )
    assert with_note.keys() == without.keys()


def test_the_whole_paper_has_one_plan_with_its_price(tmp_path: Path) -> None:
    text = said(
        tmp_path,
        "sweep=paper",
        "sweep.seeds=[0]",
        "cluster=existing",
        "cluster.machines={gpu: {cpus: 8, gpus: 1, most: 8}}",
        "cluster.price_per_gpu_hour=2",
    )
    assert "sweep paper: " in text
    assert re.search(r"  cost: about [\d,.]+ at the prices of the cluster", text)
