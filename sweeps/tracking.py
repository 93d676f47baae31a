"""MLflow's view of a sweep, written by one background thread from what the store holds.

The only importer of mlflow. The store is the truth: whatever goes wrong here becomes a line that
says so, never an exception, and ``mode=report`` writes the view again.

Experiment: the sweep's name. One parent run per plan, found again by the tag ``oneshui.plan``; one
child per row of the results table, found again by ``oneshui.job_key``, so resuming and publishing
twice change nothing. A child belongs to the plan that last contained it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import queue
import re
import shlex
import sqlite3
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from oneshui.spec import DATA_SEEN
from sweeps.jobs import digest
from sweeps.plan import Plan, ResultRow
from sweeps.results import row_values
from sweeps.store import Entry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

Status = Literal["FINISHED", "FAILED", "KILLED"]

METRICS: Mapping[str, str] = {
    "retain_score": "retain/score",
    "forget_score": "forget/score",
    "test_score": "test/score",
    "val_score": "val/score",
    "tow": "tow",
    "mia_auc": "mia/auc",
    "mia_acc": "mia/accuracy",
    "mia_threshold_auc": "mia/threshold_auc",
    "rmia_auc": "rmia/auc",
    "rmia_tpr": "rmia/tpr",
    "retain_gap": "gap/retain",
    "forget_gap": "gap/forget",
    "test_gap": "gap/test",
    "tow_normalised": "tow_normalised",
    "tow_with_mia": "tow_with_mia",
    "js_forget": "js/forget",
    "js_test": "js/test",
    "weight_distance": "weight_distance",
    "nomus": "nomus",
    "unlearn_seconds": "cost/unlearn_seconds",
    "prepare_seconds": "cost/prepare_seconds",
}
"""MLflow's names of the columns of the results table: fractions in [0, 1] and seconds."""

STALL_SECONDS: Mapping[Status, float] = {"FINISHED": 60.0, "FAILED": 60.0, "KILLED": 15.0}
"""How long ``close`` waits without any progress; an impatient user gets less patience."""

MAX_FAILURES = 3
"""Rows that may fail one after the other before the rest is not even tried."""

NOTE_LENGTH = 8000
_IDENTITY = ("oneshui.job_key", "method", "dataset")
"""Tags that tell runs apart: rows that ask for the same thing share their jobs."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
_NO_JOBS = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"
_UI = "http://127.0.0.1:5000"


@dataclass(frozen=True, kw_only=True)
class _End:
    status: Status
    report: Path | None


class Publisher:
    """Publishes rows while the sweep runs; its methods return at once, ``close`` excepted."""

    def __init__(
        self, tracking_uri: str, plan: Plan, output_dir: Path, command: Sequence[str]
    ) -> None:
        """Start nothing yet.

        Args:
            tracking_uri: Of a tracking server or database; empty for a database in the output
                folder.
            plan: The sweep's graph.
            output_dir: Folder of the sweep.
            command: The user's overrides.
        """
        self._output = output_dir.absolute()
        self._uri = tracking_uri or f"sqlite:///{self._output / 'mlflow.db'}"
        if self._uri.startswith("sqlite:///"):
            self._uri = f"sqlite:///{_database(self._uri)}"
        self._plan = plan
        self._command = command
        self._queue: queue.SimpleQueue[tuple[ResultRow, Mapping[str, Entry]] | _End] = (
            queue.SimpleQueue()
        )
        self._problems: list[str] = []
        self._thread: threading.Thread | None = None
        self._progress = time.monotonic()

    def start(self) -> None:
        """Begin to publish in the background."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
            self._thread.start()

    def offer(self, row: ResultRow, entries: Mapping[str, Entry]) -> None:
        """Publish a finished row soon.

        Args:
            row: One row of the results table.
            entries: At least the finished jobs that its numbers come from.
        """
        self._queue.put((row, entries))

    def close(self, status: Status, report: Path | None = None) -> list[str]:
        """Publish what is left, end the parent run and stop.

        Args:
            status: Of the whole sweep.
            report: Path of ``index.html``; its folder becomes artefacts of the parent run.

        Returns:
            What could not be published, one line each.
        """
        if self._thread is None:
            return []
        self._queue.put(_End(status=status, report=report))
        self._progress = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.1)
            if time.monotonic() - self._progress > STALL_SECONDS[status]:
                return [*self._problems, self._line("it takes too long")]
        return list(self._problems)

    def hints(self) -> list[str]:
        """How to look at the runs: a command, if a server must be started, and a link."""
        server = self._uri if _is_server(self._uri) else _UI
        found = self._read_experiment()
        page = (
            f"/experiments/{found}/runs?workflowType=machine_learning" if found else "/experiments"
        )
        link = f"{_without_password(server).rstrip('/')}/#{page}"
        if _is_server(self._uri):
            return [f"MLflow: {link}"]
        address = shlex.quote(_without_password(self._uri))
        return [
            # Without the job runner it takes 1.4 GB less and leaves no orphans behind.
            f"MLflow: {_NO_JOBS} uv run mlflow ui --backend-store-uri {address} "
            "--host 127.0.0.1 --port 5000 --workers 1",
            f"then open {link}",
        ]

    @property
    def _note(self) -> Path:
        """Remembers the experiment's id, so that hints need not open the database."""
        return self._output / ".mlflow-experiment.json"

    def _read_experiment(self) -> str | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(self._note.read_text(encoding="utf-8"))
            if known["tracking"] == _without_password(self._uri):
                return str(known["experiment"])
        return None

    def _report(self, error: Exception) -> None:
        line = self._line(f"{type(error).__name__}: {error}")
        if line not in self._problems:
            self._problems.append(line)

    def _line(self, what: object) -> str:
        text = " ".join(_without_password(str(what)).split())
        if "Max retries exceeded" in text:
            text = "the tracking server does not answer"
        return (
            f"MLflow at {_without_password(self._uri)} is incomplete: {text[:300]}; "
            "nothing is lost, mode=report publishes it again"
        )

    def _run(self) -> None:
        publish: _Sweep | None = None
        try:
            publish = _Sweep(self._uri, self._plan, self._output, self._command)
            note = {
                "tracking": _without_password(self._uri),
                "experiment": publish.experiment.experiment_id,
            }
            self._note.write_text(json.dumps(note) + "\n", encoding="utf-8")
        except Exception as error:
            self._report(error)
        failures = 0
        while not isinstance(item := self._queue.get(), _End):
            self._progress = time.monotonic()
            if publish is None or failures >= MAX_FAILURES:
                continue
            try:
                publish.row(*item)
                failures = 0
            except Exception as error:
                failures += 1
                self._report(error)
        if publish is not None and failures < MAX_FAILURES:
            try:
                publish.end(item.status, item.report)
            except Exception as error:
                self._report(error)


class _Sweep:
    """The experiment of a sweep, used by the publisher's thread alone."""

    def __init__(self, uri: str, plan: Plan, output: Path, command: Sequence[str]) -> None:
        _quieten()
        from mlflow import MlflowClient

        if uri.startswith("sqlite:///") and not (path := _database(uri)).exists():
            _make_database(path)
        self._client: MlflowClient = MlflowClient(tracking_uri=uri)
        self.experiment = self._experiment(plan.sweep.name, None if _is_server(uri) else output)
        known = self._runs()
        self._parent = self._parent_run(plan, command, known)
        self._children = {
            tuple(tags.get(name) for name in _IDENTITY): run
            for run in known
            if _IDENTITY[0] in (tags := run.data.tags)
        }

    def _experiment(self, name: str, output: Path | None) -> Experiment:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            place = (output / "mlartifacts").as_uri() if output else None
            created = self._client.create_experiment(name, artifact_location=place)
            return self._client.get_experiment(created)
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return found

    def _runs(self) -> list[Run]:
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment.experiment_id], max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _parent_run(self, plan: Plan, command: Sequence[str], known: list[Run]) -> str:
        identity = digest(sorted(plan.jobs))
        for run in known:
            if run.data.tags.get("oneshui.plan") == identity:
                self._client.update_run(run.info.run_id, status="RUNNING")
                return str(run.info.run_id)
        tags = {
            "oneshui.plan": identity,
            "oneshui.command": _without_password(shlex.join(["python", "launch.py", *command])),
            "kind": "sweep",
        }
        run = self._client.create_run(
            self.experiment.experiment_id, tags=tags, run_name=f"sweep {plan.sweep.name}"
        )
        return str(run.info.run_id)

    def row(self, row: ResultRow, entries: Mapping[str, Entry]) -> None:
        """Publish one row, unless just this is there already."""
        from mlflow.entities import Metric, Param, RunTag

        tags = {**_row_tags(row, entries), "mlflow.parentRunId": self._parent}
        identity = tuple(tags[name] for name in _IDENTITY)
        run = self._children.get(identity)
        if (
            run is not None
            and run.info.status == "FINISHED"
            and tags.items() <= run.data.tags.items()
        ):
            return
        if run is None:
            cell = row.cell
            run = self._client.create_run(
                self.experiment.experiment_id,
                tags={k: v for k, v in tags.items() if k != "oneshui.content"},
                run_name=f"{row.row.name} {cell.dataset} n{cell.num_forget} s{cell.seed}",
            )
        values = row_values(row, entries)
        now = int(time.time() * 1000)
        self._client.log_batch(
            run.info.run_id,
            metrics=[
                Metric(METRICS[name], float(values[name]), now, 0)
                for name in METRICS
                if values[name] is not None and not math.isnan(values[name])
            ],
            params=[Param(name, value) for name, value in _row_params(row).items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        self._client.set_terminated(run.info.run_id, "FINISHED")
        self._children[identity] = self._client.get_run(run.info.run_id)

    def end(self, status: Status, report: Path | None) -> None:
        """Attach the report and end the parent run."""
        try:
            if report is not None:
                folder = report.parent
                text = (folder / "summary.md").read_text(encoding="utf-8")
                if len(text) > NOTE_LENGTH:
                    text = "The tables are too long for this place: see report/summary.md."
                self._client.set_tag(self._parent, "mlflow.note.content", text)
                self._client.log_artifacts(self._parent, str(folder), "report")
        finally:
            self._client.set_terminated(self._parent, status)


def _row_tags(row: ResultRow, entries: Mapping[str, Entry]) -> dict[str, str]:
    return {
        "kind": "cell",
        "method": row.row.name,
        "dataset": row.cell.dataset,
        "num_forget": f"{row.cell.num_forget:03d}",
        "seed": str(row.cell.seed),
        "access": str(row.row.access),
        "data_seen": DATA_SEEN[row.row.access],
        "oneshui.job_key": row.score_key,
        "oneshui.content": entries[row.score_key].content,
    }


def _row_params(row: ResultRow) -> dict[str, str]:
    return {
        "method": row.row.name,
        "dataset": row.cell.dataset,
        "num_forget": str(row.cell.num_forget),
        "seed": str(row.cell.seed),
        **{f"hp.{k}": str(v) for k, v in row.row.hyperparameters.items() if v is not None},
    }


def _quieten() -> None:
    """Settings that count only before mlflow is imported, and no chatter on the user's console."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # MLflow's own use of SQLAlchemy; where warnings are errors it would not even start.
    warnings.filterwarnings(
        "ignore", category=DeprecationWarning, module=r"(mlflow|sqlalchemy|alembic)\b"
    )


def _make_database(path: Path) -> None:
    """Create MLflow's tables in a file of their own and publish it whole.

    Creating them takes seconds, and a process that is killed meanwhile would leave a database
    that MLflow refuses for ever.
    """
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        scratch, whole = Path(folder) / "scratch.db", Path(folder) / "whole.db"
        MlflowClient(tracking_uri=f"sqlite:///{scratch}").search_experiments(max_results=1)
        with (
            contextlib.closing(sqlite3.connect(scratch)) as source,
            contextlib.closing(sqlite3.connect(whole)) as target,
        ):
            source.backup(target)
            # Twice as fast, and readers do not wait; the file remembers it.
            target.execute("PRAGMA journal_mode=WAL")
        # Unlike a rename, a link leaves a database alone that somebody else made meanwhile.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(whole)


def _database(uri: str) -> Path:
    return Path(uri.removeprefix("sqlite:///")).absolute()


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _without_password(text: str) -> str:
    """The text with ``user:password@`` taken out of every address in it."""
    return re.sub(r"(?<=://)[^\s/]*@", "", text)
