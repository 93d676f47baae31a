"""Against a real ``mlflow server`` on loopback: sqlite behind it, artefacts through its proxy.

Artefacts go into a folder: an S3-like store needs boto3, which cannot be installed beside the
pinned python-dateutil.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from publishing import COMMAND, PLAN, entries_of

from sweeps.results import results_frame
from sweeps.summary import summarise
from sweeps.tracking import CONNECT_SECONDS, Publisher
from sweeps.tracking_ui import free_port, serve

if TYPE_CHECKING:
    from mlflow.entities import Run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artefacts")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, artefacts: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    options = ["--artifacts-destination", artefacts.as_uri()]
    with serve(f"sqlite:///{folder / 'm.db'}", free_port(0), folder / "log", *options) as (_, at):
        yield at


def publish(server: str, output: Path) -> list[str]:
    report = output / "report" / "index.html"
    (report.parent / "figures").mkdir(parents=True, exist_ok=True)
    report.write_text("<p>page</p>")
    (report.parent / "summary.md").write_text("| a table |")
    (report.parent / "figures" / "tow.png").write_bytes(b"png")
    entries = entries_of(PLAN)
    publisher = Publisher(server, PLAN, output, COMMAND)
    publisher.start()
    for row in PLAN.results:
        publisher.offer(row, entries)
    summary = summarise(results_frame(PLAN, {}))
    assert publisher.close("FINISHED", report, summary) == []
    return publisher.hints()


def runs(server: str) -> dict[str, Run]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(ids, max_results=1000)
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def test_a_sweep_is_published_whole_once_however_often(
    server: str, artefacts: Path, tmp_path: Path
) -> None:
    hints = publish(server, tmp_path)
    assert all(server in hint for hint in hints)
    assert not any("mode=ui" in hint for hint in hints)
    first = runs(server)
    assert len(first) == 1 + len(PLAN.results)
    assert {run.info.status for run in first.values()} == {"FINISHED"}
    assert first["ssd synthetic_tiny n4 s0"].data.metrics["tow"] == 0.8
    publish(server, tmp_path)
    assert {name: run.info.run_id for name, run in runs(server).items()} == {
        name: run.info.run_id for name, run in first.items()
    }
    names = {path.name for path in artefacts.rglob("*") if path.is_file()}
    assert names == {"index.html", "summary.md", "tow.png"}
    assert not (tmp_path / "mlartifacts").exists()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_server_that_never_answers_delays_the_end_by_seconds(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        publisher = Publisher(address, PLAN, tmp_path, COMMAND)
        start = time.monotonic()
        publisher.start()
        for row in PLAN.results:
            publisher.offer(row, entries_of(PLAN))
        assert time.monotonic() - start < 1, "offering waits for nobody"
        (problem,) = publisher.close("FINISHED")
        assert time.monotonic() - start < CONNECT_SECONDS + 5
    assert "nothing is lost" in problem
