"""Against a real ``mlflow server`` on loopback: sqlite behind it, artefacts through its proxy."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from support.object_server import object_server
from support.publishing import COMMAND, PLAN, entries_of

from sweeps.report.results import results_frame
from sweeps.report.summary import summarise
from sweeps.tracking import Publisher
from sweeps.tracking.publisher import CONNECT_SECONDS
from sweeps.tracking.ui import free_port, serve

if TYPE_CHECKING:
    from mlflow.entities import Run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@dataclass(frozen=True)
class Server:
    address: str
    artefacts: Callable[[], set[str]]
    """Names of all files that the server keeps."""


@pytest.fixture(scope="module", params=["folder", "bucket"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with contextlib.ExitStack() as stack:
        if request.param == "folder":
            place = folder / "artefacts"
            uri = place.as_uri()

            def artefacts() -> set[str]:
                return {path.name for path in place.rglob("*") if path.is_file()}
        else:
            objects = stack.enter_context(object_server())
            change = stack.enter_context(pytest.MonkeyPatch.context())
            for name, value in objects.environment().items():
                change.setenv(name, value)
            bucket = objects.new_bucket()
            uri = f"s3://{bucket}/artefacts"

            def artefacts() -> set[str]:
                client: Any = boto3.client("s3")
                found = client.list_objects_v2(Bucket=bucket)["Contents"]
                return {one["Key"].rpartition("/")[2] for one in found}

        options = ["--artifacts-destination", uri]
        database = f"sqlite:///{folder / 'm.db'}"
        (_, at) = stack.enter_context(serve(database, free_port(0), folder / "log", *options))
        yield Server(at, artefacts)


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


@pytest.mark.long
def test_a_sweep_is_published_whole_once_however_often(server: Server, tmp_path: Path) -> None:
    hints = publish(server.address, tmp_path)
    assert all(server.address in hint for hint in hints)
    assert not any("mode=ui" in hint for hint in hints)
    first = runs(server.address)
    assert len(first) == 1 + len(PLAN.results)
    assert {run.info.status for run in first.values()} == {"FINISHED"}
    assert first["ssd synthetic_tiny n4 s0"].data.metrics["tow"] == 0.8
    publish(server.address, tmp_path)
    assert {name: run.info.run_id for name, run in runs(server.address).items()} == {
        name: run.info.run_id for name, run in first.items()
    }
    assert server.artefacts() == {"index.html", "summary.md", "tow.png"}
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
