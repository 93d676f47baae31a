"""MLflow's view, in a real database: one run per row however often it is published."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.publishing import COMMAND, PLAN, entries_of, plan_of

from sweeps.graph.plan import Plan
from sweeps.report.measures import CATALOGUE
from sweeps.store import Entry
from sweeps.tracking import Publisher
from sweeps.tracking.client import database, is_lost, settle, tracking_uri
from sweeps.tracking.publisher import Status, links
from sweeps.tracking.rows import wanted_run

if TYPE_CHECKING:
    from mlflow.entities import Run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def renamed(plan: Plan, name: str) -> Plan:
    return dataclasses.replace(plan, sweep=dataclasses.replace(plan.sweep, name=name))


def publish(
    output: Path,
    status: Status = "FINISHED",
    plan: Plan = PLAN,
    entries: Mapping[str, Entry] | None = None,
    report: Path | None = None,
) -> None:
    publisher = Publisher("", plan, output, COMMAND)
    publisher.start()
    for row in plan.results:
        publisher.offer(row, entries_of(plan) if entries is None else entries)
    assert publisher.close(status, report) == []


def runs_of(output: Path, name: str = "smoke") -> list[Run]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def parents(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.data.tags["kind"] == "sweep"]


def children(runs: list[Run]) -> dict[str, Run]:
    return {run.info.run_name: run for run in runs if run.data.tags["kind"] == "cell"}


def content(runs: list[Run]) -> dict[str, Any]:
    """All that a run says, but for times of the parent."""
    return {
        run.info.run_id: (run.info.run_name, run.info.status, run.data.to_dictionary())
        for run in runs
    }


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space in its name, in which one sweep was published."""
    folder = tmp_path_factory.mktemp("published") / "my runs"
    report = folder / "report" / "index.html"
    (report.parent / "figures").mkdir(parents=True)
    report.write_text("<p>page</p>")
    (report.parent / "summary.md").write_text("| a table |")
    (report.parent / "figures" / "tow.png").write_bytes(b"png")
    publish(folder, report=report)
    return folder


def test_one_child_per_row_under_one_parent(output: Path) -> None:
    runs = runs_of(output)
    (parent,) = parents(runs)
    assert parent.info.run_name == "sweep smoke"
    params = {"seeds": "0, 1", "methods": "pretrain, retrain, ssd", "training.epochs": "2"}
    assert params.items() <= parent.data.params.items()
    assert parent.data.params["results"] == "6"
    assert parent.data.tags["mlflow.source.name"] == "launch.py"
    assert parent.info.status == "FINISHED"
    found = children(runs)
    assert set(found) == {
        f"{method} synthetic_tiny n4 s{seed}"
        for method in ("pretrain", "retrain", "ssd")
        for seed in (0, 1)
    }
    assert len(runs) == 1 + len(found)
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {parent.info.run_id}
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_a_child_has_the_params_metrics_and_tags_of_its_row(output: Path) -> None:
    run = children(runs_of(output))["ssd synthetic_tiny n4 s1"]
    row = next(r for r in PLAN.results if (r.row.name, r.cell.seed) == ("ssd", 1))
    assert run.data.params == {
        "method": "ssd",
        "dataset": "synthetic_tiny",
        "num_forget": "4",
        "requests": "1",
        "seed": "1",
        "role": "method",
        "access": "prepared",
        "data_seen": "S + own preparation",
        "tuning": "no",
        "hyperparameters_from": "given",
        **{f"hp.{name}": str(value) for name, value in row.row.hyperparameters.items()},
    }
    assert run.data.metrics == {
        "tow": 0.8,
        "forget/score": 0.7,
        "cost/unlearn_seconds": 1.5,
        "cost/prepare_seconds": 1.5,
    }
    tags = {
        "kind": "cell",
        "method": "ssd",
        "dataset": "synthetic_tiny",
        "num_forget": "4",
        "seed": "1",
        "access": "prepared",
        "grid": "latest",
        "oneshui.weights": f"unlearn/{row.model_key}",
        "data_seen": "S + own preparation",
        "oneshui.job_key": row.score_key,
    }
    assert tags.items() <= run.data.tags.items()


def test_a_child_names_the_split_that_its_numbers_are_of(output: Path) -> None:
    run = children(runs_of(output))["ssd synthetic_tiny n4 s1"]
    assert run.inputs is not None
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == "synthetic_tiny n4 s1"
    assert used.dataset.digest == "split-1"
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "split")]


def test_what_is_offered_twice_is_counted_once_and_curves_have_steps(tmp_path: Path) -> None:
    entries = entries_of(PLAN)
    row = next(row for row in PLAN.results if row.row.name == "retrain")
    epochs = [{"number": n, "loss": 2.0 / n, "val_score": 0.1 * n} for n in (1, 2)]
    entries[row.model_key].value["epochs"] = epochs  # type: ignore[index]
    entries[row.split_key].value["num_images"] = {"forget": 20, "retain": 188}  # type: ignore[index]
    report = tmp_path / "report" / "index.html"
    report.parent.mkdir()
    report.write_text("<p>page</p>")
    (report.parent / "summary.md").write_text("| a table |")
    publisher = Publisher("", PLAN, tmp_path, COMMAND)
    publisher.start()
    for one in (*PLAN.results, *PLAN.results):
        publisher.offer(one, entries)
    assert publisher.close("FINISHED", report) == []
    runs = runs_of(tmp_path)
    (parent,) = parents(runs)
    assert parent.data.metrics == {"results/finished": 6, "results/planned": 6}
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = children(runs)[f"retrain synthetic_tiny n4 s{row.cell.seed}"]
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    assert run.data.metrics["train/val_score"] == 0.2
    assert {f"train/{n}" for n in ("loss", "val_score", "learning_rate")} <= run.data.metrics.keys()


def test_a_copied_folder_has_its_own_links_and_artefacts(output: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    copy = tmp_path / "a copy"
    # A database in use may have its newest pages in the log beside it.
    shutil.copytree(output, copy)
    uri = tracking_uri("", copy)
    assert links(copy, uri) == links(output, tracking_uri("", output)) != {}
    (parent,) = parents(runs_of(copy))
    assert parent.info.artifact_uri.startswith(output.as_uri())
    settle(copy / "mlflow.db", copy / "mlartifacts")
    (parent,) = parents(runs_of(copy))
    assert parent.info.artifact_uri.startswith(copy.as_uri() + "/mlartifacts/")
    page = download_artifacts(
        run_id=parent.info.run_id,
        artifact_path="report/index.html",
        dst_path=str(tmp_path / "got"),
        tracking_uri=uri,
    )
    assert Path(page).read_text() == "<p>page</p>"
    places = [e.artifact_location for e in MlflowClient(uri).search_experiments()]
    assert places.count((copy / "mlartifacts").as_uri()) == 2
    assert not any(place.startswith(output.as_uri()) for place in places)


def test_the_report_hangs_on_the_parent(output: Path) -> None:
    (parent,) = parents(runs_of(output))
    assert parent.data.tags["mlflow.note.content"] == "| a table |"
    place = next((output / "mlartifacts").glob(f"**/{parent.info.run_id}/artifacts/report"))
    names = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert names == {"index.html", "summary.md", "figures/tow.png"}


def test_the_database_is_whole_and_in_wal_mode(output: Path) -> None:
    with contextlib.closing(sqlite3.connect(output / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert not list(output.glob(".mlflow-*/"))
    assert not Path("mlruns").exists()


def test_publishing_twice_changes_nothing(output: Path) -> None:
    before = content(runs_of(output))
    publish(output)
    assert content(runs_of(output)) == before


def test_killed_then_finished_ends_finished(output: Path) -> None:
    publish(output, "KILLED")
    assert [run.info.status for run in parents(runs_of(output))] == ["KILLED"]
    publish(output, "FINISHED")
    assert [run.info.status for run in parents(runs_of(output))] == ["FINISHED"]


def test_a_child_that_a_crash_left_behind_is_completed(output: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{output / 'mlflow.db'}")
    before = children(runs_of(output))
    victim = before["pretrain synthetic_tiny n4 s0"]
    client.update_run(victim.info.run_id, status="RUNNING")
    client.delete_tag(victim.info.run_id, "oneshui.content")
    publish(output)
    after = children(runs_of(output))
    assert content(list(after.values())) == content(list(before.values()))


def test_a_recomputed_result_replaces_the_numbers(output: Path) -> None:
    before = children(runs_of(output))
    publish(output, entries=entries_of(PLAN, tow=0.4))
    after = children(runs_of(output))
    assert {run.data.metrics["tow"] for run in after.values()} == {0.4}
    assert {r.info.run_id for r in after.values()} == {r.info.run_id for r in before.values()}
    publish(output)


def test_a_part_of_the_grid_shares_its_runs_with_the_whole(output: Path) -> None:
    whole, part = renamed(PLAN, "grid"), renamed(plan_of("sweep.methods=[pretrain,ssd]"), "grid")
    publish(output, plan=whole)
    before = children(runs_of(output, "grid"))
    publish(output, plan=part)
    runs = runs_of(output, "grid")
    assert len(parents(runs)) == 2
    ids = {name: run.info.run_id for name, run in children(runs).items()}
    assert ids == {name: run.info.run_id for name, run in before.items()}
    assert len(runs) == 2 + len(ids)
    assert len(_parent_ids(children(runs))) == 2
    publish(output, plan=whole)
    assert _parent_ids(children(runs_of(output, "grid"))) == _parent_ids(before)


def _parent_ids(runs: Mapping[str, Run]) -> set[str]:
    return {run.data.tags["mlflow.parentRunId"] for run in runs.values()}


def test_rows_that_the_last_grid_does_not_have_are_marked_as_earlier(output: Path) -> None:
    whole, part = renamed(PLAN, "grids"), renamed(plan_of("sweep.methods=[pretrain]"), "grids")
    publish(output, plan=whole)
    publish(output, plan=part)
    grids = {n: r.data.tags["grid"] for n, r in children(runs_of(output, "grids")).items()}
    assert {name for name, grid in grids.items() if grid == "latest"} == {
        f"pretrain synthetic_tiny n4 s{seed}" for seed in (0, 1)
    }
    assert len(grids) == len(PLAN.results)
    publish(output, plan=whole)
    found = children(runs_of(output, "grids")).values()
    assert {run.data.tags["grid"] for run in found} == {"latest"}


def test_of_two_runs_that_are_the_same_one_goes(output: Path) -> None:
    from mlflow import MlflowClient

    twins = renamed(PLAN, "doubled")
    publish(output, plan=twins)
    before = children(runs_of(output, "doubled"))
    victim = before["ssd synthetic_tiny n4 s0"]
    client = MlflowClient(tracking_uri=f"sqlite:///{output / 'mlflow.db'}")
    client.create_run(
        victim.info.experiment_id, tags=victim.data.tags, run_name=victim.info.run_name
    )
    publish(output, plan=twins)
    runs = runs_of(output, "doubled")
    assert len(runs) == 1 + len(PLAN.results)
    assert content(runs).keys() == {
        *(run.info.run_id for run in before.values()),
        parents(runs)[0].info.run_id,
    }


def test_a_metric_that_is_no_longer_measured_disappears(output: Path) -> None:
    plan = renamed(PLAN, "fewer")
    publish(output, plan=plan)
    entries = entries_of(PLAN, tow=0.5)
    for key, entry in entries.items():
        value = {k: v for k, v in entry.value.items() if k != "forget_score"}
        entries[key] = dataclasses.replace(entry, value=value)
    publish(output, plan=plan, entries=entries)
    found = children(runs_of(output, "fewer"))
    assert len(found) == len(PLAN.results)
    assert all("forget/score" not in run.data.metrics for run in found.values())


def test_an_experiment_that_was_deleted_comes_back(output: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("smoke")
    assert experiment is not None
    before = content(runs_of(output))
    client.delete_experiment(experiment.experiment_id)
    publish(output)
    assert content(runs_of(output)) == before


def test_rows_with_equal_jobs_stay_two_runs(output: Path) -> None:
    twins = plan_of("sweep.methods=[pretrain,twin]", "+sweep.rows.twin={method: pretrain}")
    publish(output, plan=renamed(twins, "twins"))
    publish(output, plan=renamed(twins, "twins"))
    names = sorted(children(runs_of(output, "twins")))
    assert names == [f"{m} synthetic_tiny n4 s{s}" for m in ("pretrain", "twin") for s in (0, 1)]


def test_one_bad_row_does_not_take_the_others_with_it(output: Path) -> None:
    odd = renamed(PLAN, "odd")
    entries = entries_of(PLAN)
    del entries[PLAN.results[0].score_key]
    publisher = Publisher("", odd, output, COMMAND)
    publisher.start()
    for row in odd.results:
        publisher.offer(row, entries)
    (problem,) = publisher.close("FINISHED")
    assert "mode=report" in problem
    runs = runs_of(output, "odd")
    assert len(children(runs)) == len(odd.results) - 1
    assert parents(runs)[0].info.status == "FINISHED"


def test_nothing_is_printed(output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    publish(output)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_hints_name_the_command_and_the_pages(output: Path) -> None:
    command, *pages = Publisher("", PLAN, output, [*COMMAND, "mode=report"]).hints()
    quoted = "'sweep.datasets=[synthetic_tiny]' 'sweep.methods=[pretrain,retrain,ssd]'"
    assert command == f"MLflow: python launch.py sweep=smoke {quoted} mode=ui"
    assert [page.split(":")[0].strip() for page in pages] == [
        "leaderboard",
        "mean, spread and n of each number",
        "charts of the ranked rows",
        "all seeds",
        "this sweep, tables and figures",
    ]
    assert all("workflowType=machine_learning" in page for page in pages)
    assert all(" http://127.0.0.1:5000/#/experiments/" in page for page in pages)


def test_without_start_nothing_happens(tmp_path: Path) -> None:
    publisher = Publisher("", PLAN, tmp_path / "output", COMMAND)
    publisher.offer(PLAN.results[0], {})
    assert publisher.close("FINISHED") == []
    assert "mode=ui" in publisher.hints()[0]
    assert publisher.hints()[1].endswith("/#/experiments")
    assert list(tmp_path.iterdir()) == []


def test_killed_while_the_database_is_made_it_is_made_again(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from sweeps.config import load\n"
        "from sweeps.graph.plan import expand; from sweeps.tracking import Publisher\n"
        "plan = expand(load(sys.argv[2:]).sweep)\n"
        "Publisher('', plan, Path(sys.argv[1]), []).start(); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *COMMAND])
    try:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in tmp_path.glob(".mlflow-*/scratch.db")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not (tmp_path / "mlflow.db").exists()
    publish(tmp_path)
    assert len(runs_of(tmp_path)) == 1 + len(PLAN.results)


@contextlib.contextmanager
def _refusing_server(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"no")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def _refused(address: str, output: Path) -> list[str]:
    output.mkdir()
    publisher = Publisher(f"http://me:secret@{address}", PLAN, output, COMMAND)
    start = time.monotonic()
    publisher.start()
    for row in PLAN.results:
        publisher.offer(row, entries_of(PLAN))
    problems = publisher.close("FINISHED")
    assert time.monotonic() - start < 20
    assert "secret" not in "".join([*problems, *publisher.hints()])
    return problems


def test_a_server_that_is_not_there_costs_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (problem,) = _refused(address, tmp_path / "output")
    assert "the tracking server does not answer" in problem
    assert "nothing is lost" in problem
    assert "\n" not in problem
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_a_server_that_refuses_costs_one_line(tmp_path: Path) -> None:
    with _refusing_server(403) as address:
        (problem,) = _refused(address, tmp_path / "output")
    assert "403" in problem


def test_no_run_holds_the_password_of_a_server(output: Path) -> None:
    address = "tracking.uri=http://me:s3cr3t@host/?token=s3cr3t"
    publisher = Publisher("", renamed(PLAN, "closed"), output, [*COMMAND, address])
    publisher.start()
    assert publisher.close("FINISHED") == []
    (parent,) = runs_of(output, "closed")
    assert "'tracking.uri=http://host/?token=***'" in parent.data.tags["oneshui.command"]
    assert not [p for p in output.rglob("*") if p.is_file() and b"s3cr3t" in p.read_bytes()]
    assert "s3cr3t" not in "".join(publisher.hints())


def test_metric_names_are_those_that_mlflow_allows() -> None:
    names = [measure.mlflow for measure in CATALOGUE.values()]
    assert len(set(names)) == len(names)
    assert all(name.replace("/", "").replace("_", "").isalnum() for name in names)


def test_what_is_not_a_finite_number_is_not_published() -> None:
    row = PLAN.results[0]
    entries = entries_of(PLAN)
    value = {"tow": math.nan, "forget_score": math.inf, "test_score": 0.25, "mia_auc": None}
    broken = dataclasses.replace(entries[row.score_key], value=value)
    published = wanted_run(PLAN, row, {**entries, row.score_key: broken}, "parent")
    assert {n: v for n, v in published.metrics.items() if not n.startswith("cost/")} == {
        "test/score": 0.25
    }


def spoil(database: Path, how: str) -> None:
    """An older version's, a damaged one, or no database at all."""
    if how == "text":
        database.write_text("this is no database")
        return
    if how == "a folder":
        database.unlink()
        database.mkdir()
        return
    if how == "older":
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        return
    content = bytearray(database.read_bytes())
    content[4096 : 4096 * 3] = b"\0" * 4096 * 2
    database.write_bytes(content)


@pytest.mark.parametrize("how", ["text", "older", "damaged", "a folder"])
def test_a_database_of_our_own_that_cannot_be_used_is_kept_and_written_again(
    tmp_path: Path, how: str
) -> None:
    publish(tmp_path / "before")
    before = children(runs_of(tmp_path / "before")).keys()
    spoilt = tmp_path / "mlflow.db"
    with (
        contextlib.closing(sqlite3.connect(tmp_path / "before" / "mlflow.db")) as source,
        contextlib.closing(sqlite3.connect(spoilt)) as target,
    ):
        source.backup(target)
    spoil(spoilt, how)
    content = spoilt.read_bytes() if spoilt.is_file() else None
    publisher = Publisher("", PLAN, tmp_path, COMMAND)
    publisher.start()
    for row in PLAN.results:
        publisher.offer(row, entries_of(PLAN))
    assert publisher.close("FINISHED") == []
    assert "kept as mlflow.db.unreadable-1 and written again" in publisher.hints()[0]
    kept = tmp_path / "mlflow.db.unreadable-1"
    assert (kept.read_bytes() if kept.is_file() else None) == content
    assert children(runs_of(tmp_path)).keys() == before


@pytest.mark.parametrize("table", ["latest_metrics", "params"])
def test_a_number_that_is_not_as_it_was_published_is_published_again(
    tmp_path: Path, table: str
) -> None:
    publish(tmp_path)
    before = {name: run.data.to_dictionary() for name, run in children(runs_of(tmp_path)).items()}
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute(f"UPDATE {table} SET value = 0.125 WHERE key IN ('tow', 'seed')")
    publish(tmp_path)
    after = {name: run.data.to_dictionary() for name, run in children(runs_of(tmp_path)).items()}
    assert {name: it["metrics"] for name, it in after.items()} == {
        name: it["metrics"] for name, it in before.items()
    }
    assert {name: it["params"] for name, it in after.items()} == {
        name: it["params"] for name, it in before.items()
    }


def test_a_database_that_was_removed_is_made_anew_in_the_same_process(tmp_path: Path) -> None:
    publish(tmp_path)
    before = children(runs_of(tmp_path)).keys()
    (tmp_path / "mlflow.db").unlink()
    publish(tmp_path)
    assert children(runs_of(tmp_path)).keys() == before
    assert is_lost(tmp_path / "nowhere.db")
    assert not is_lost(tmp_path / "mlflow.db")


def test_a_database_that_the_user_named_is_left_as_it_is(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.db"
    theirs.write_text("this is no database")
    publisher = Publisher(f"sqlite:///{theirs}", PLAN, tmp_path, COMMAND)
    publisher.start()
    (problem,) = publisher.close("FINISHED")
    assert "theirs.db cannot be used by this version of MLflow" in problem
    assert "move it away, or set tracking.uri to another" in problem
    assert theirs.read_text() == "this is no database"


@pytest.mark.parametrize("name", ["a?b", "c%2Fd", "e#f g"])
def test_a_folder_s_name_may_hold_what_addresses_are_made_of(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    publish(folder)
    assert (folder / "mlflow.db").stat().st_size > 100_000
    assert tracking_uri(tracking_uri("", folder), folder) == tracking_uri("", folder)
    assert database(tracking_uri("", folder)) == folder / "mlflow.db"
