"""MLflow's view of a sweep, written by one background thread from what the store holds.

The store is the truth: whatever goes wrong here becomes a line that says so, never an exception,
and ``mode=report`` writes the view again.

Two experiments. The sweep's name: one parent run per plan, found again by the tag
``oneshui.plan``; one child per row of the results table, found again by ``oneshui.job_key``, so
resuming and publishing twice change nothing. A child belongs to the plan that last contained it;
one that the last plan does not contain stays under its own parent, tagged ``grid: earlier``. And
``<sweep>-leaderboard``, see ``sweeps.tracking.leaderboard``.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from oneshui.errors import OneshuiError
from oneshui.origin import git_commit, versions
from sweeps.command import lasting, shell_line, without_secrets
from sweeps.graph.job import digest
from sweeps.graph.plan import Plan, ResultRow
from sweeps.store import Entry
from sweeps.store.aside import make_room, set_aside
from sweeps.tracking import leaderboard, views
from sweeps.tracking.client import (
    COMPANIONS,
    UnusableDatabaseError,
    connect,
    database,
    is_lost,
    is_server,
    settle,
    tracking_uri,
)
from sweeps.tracking.models import log_model
from sweeps.tracking.rows import plan_params, wanted_run
from sweeps.tracking.runs import ARTIFACTS, COMMIT, SOURCE, Runs, all_runs, experiment_named

if TYPE_CHECKING:
    from mlflow.entities import Run

Status = Literal["FINISHED", "FAILED", "KILLED"]

STALL_SECONDS: Mapping[Status, float] = {"FINISHED": 60.0, "FAILED": 60.0, "KILLED": 15.0}
"""How long ``close`` waits without any progress; an impatient user gets less patience."""
CONNECT_SECONDS = 15.0
"""How long ``close`` waits for a server that has not answered at all yet."""

MAX_FAILURES = 3
"""Rows that may fail one after the other before the rest is not even tried."""

NOTE_LENGTH = 8000
REPORT = "report"
"""The report's folder among the artefacts of a parent run."""
NOTE = ".mlflow-experiment.json"
UI = "http://127.0.0.1:5000"
_IDENTITY = ("oneshui.job_key", "method", "dataset")
"""Tags that tell runs apart: rows that ask for the same thing share their jobs."""

_COLUMNS = ["params.method", "params.dataset", "params.num_forget", "params.seed"]
_COLUMNS += ["metrics.tow", "metrics.retain/score", "metrics.forget/score", "metrics.test/score"]
CELLS = views.table("oneshui-cells", "All seeds of the last grid", _COLUMNS, "metrics.tow")


@dataclass(frozen=True, kw_only=True)
class _End:
    status: Status
    report: Path | None
    summary: pd.DataFrame | None
    overall: pd.DataFrame | None
    frame: pd.DataFrame | None


class Publisher:
    """Publishes rows while the sweep runs; its methods return at once, ``close`` excepted."""

    def __init__(
        self,
        given_uri: str,
        plan: Plan,
        output_dir: Path,
        command: Sequence[str],
        *,
        with_models: bool = False,
    ) -> None:
        """Start nothing yet.

        Args:
            given_uri: Of a tracking server or database; empty for a database in the output
                folder.
            plan: The sweep's graph.
            output_dir: Folder of the sweep.
            command: The user's overrides.
            with_models: Whether the weights of every row are published too.
        """
        self._output = output_dir.absolute()
        self._uri = tracking_uri(given_uri, output_dir)
        self._plan = plan
        self._command = command
        self._queue: queue.SimpleQueue[tuple[ResultRow, Mapping[str, Entry]] | _End] = (
            queue.SimpleQueue()
        )
        self._given = given_uri
        self._with_models = with_models
        self._problems: list[str] = []
        self._remarks: list[str] = []
        self._thread: threading.Thread | None = None
        self._progress = time.monotonic()
        self._connected = not is_server(self._uri)

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

    def close(
        self,
        status: Status,
        report: Path | None = None,
        summary: pd.DataFrame | None = None,
        progress: Callable[[int, int], None] | None = None,
        overall: pd.DataFrame | None = None,
        frame: pd.DataFrame | None = None,
    ) -> list[str]:
        """Publish what is left, end the parent run and stop.

        Args:
            status: Of the whole sweep.
            report: Path of ``index.html``; its folder becomes artefacts of the parent run.
            summary: From ``sweeps.report.summary.summarise``, for the leaderboard.
            progress: Called with the number of rows published since this call, and of all.
            overall: From ``sweeps.inference.aggregate.aggregate``, for the leaderboard.
            frame: From ``sweeps.report.results.results_frame``, for the leaderboard.

        Returns:
            What could not be published, one line each.
        """
        if self._thread is None:
            return []
        end = _End(status=status, report=report, summary=summary, overall=overall, frame=frame)
        self._queue.put(end)
        self._progress = time.monotonic()
        total, shown = self._queue.qsize(), -1
        while self._thread.is_alive():
            self._thread.join(0.1)
            done = total - min(self._queue.qsize(), total)
            if progress is not None and done != shown:
                shown = done
                progress(done, total)
            patience = STALL_SECONDS[status] if self._connected else CONNECT_SECONDS
            if time.monotonic() - self._progress > patience:
                return [*self._problems, self._line("it takes too long")]
        return list(self._problems)

    def lost(self) -> list[Path]:
        """Our own database if it is absent or damaged; one that was given is its owner's."""
        path = database(self._uri)
        return [path] if not self._given and is_lost(path) else []

    def where(self) -> str:
        """The address of the server, or the command that starts one."""
        if is_server(self._uri):
            return without_secrets(self._uri).rstrip("/")
        return shell_line([*lasting(self._command), "mode=ui"])

    def hints(self) -> list[str]:
        """How to look at the runs: a command, if a server must be started, and links."""
        server = without_secrets(self._uri).rstrip("/") if is_server(self._uri) else UI
        lines = list(self._remarks)
        lines += [] if is_server(self._uri) else [f"MLflow: {self.where()}"]
        found = links(self._output, self._uri)
        if not found:
            return [*lines, f"{'then open' if lines else 'MLflow:'} {server}/#/experiments"]
        return [*lines, *(f"  {name}: {server}{path}" for name, path in found.items())]

    def _report(self, error: Exception) -> None:
        line = self._line(f"{type(error).__name__}: {error}")
        if line not in self._problems:
            self._problems.append(line)

    def _line(self, what: object) -> str:
        text = " ".join(without_secrets(str(what)).split())
        if "Max retries exceeded" in text:
            text = "the tracking server does not answer"
        return (
            f"MLflow at {without_secrets(self._uri)} is incomplete: {text[:300]}; "
            "nothing is lost, mode=report publishes it again"
        )

    def _view(self) -> _SweepView:
        """The sweep's experiments; a database of our own that cannot be used is made anew."""
        known = (self._uri, self._plan, self._output, self._command, self._with_models)
        try:
            return _SweepView(*known)
        except UnusableDatabaseError as error:
            path = database(self._uri)
            if self._given:
                raise OneshuiError(
                    f"{path} cannot be used by this version of MLflow ({error}); move it away, or "
                    "set tracking.uri to another"
                ) from error
            kept = set_aside(path, COMPANIONS)
            self._remarks.append(
                f"MLflow could not use {path}: it is kept as {kept.name} and written again"
            )
            return _SweepView(*known)

    def _run(self) -> None:
        publish: _SweepView | None = None
        try:
            publish = self._view()
            self._connected = True
            _write_links(self._output, self._uri, publish.links())
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
        if publish is None or failures >= MAX_FAILURES:
            return
        for part in publish.last_parts(item):
            self._progress = time.monotonic()
            try:
                part()
            except Exception as error:
                self._report(error)


def links(output: Path, uri: str) -> dict[str, str]:
    """Paths of the pages of a published sweep by what they show; empty if it is not published."""
    with contextlib.suppress(
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError
    ):
        known = json.loads((output / NOTE).read_text(encoding="utf-8"))
        if known["tracking"] == _noted(output, uri):
            return {str(name): str(path) for name, path in known["links"].items()}
    return {}


def _noted(output: Path, uri: str) -> str:
    """The address for the note; of a folder's own database one that holds for a copy as well."""
    return "" if uri == tracking_uri("", output) else without_secrets(uri)


def _write_links(output: Path, uri: str, found: Mapping[str, str]) -> None:
    """Remember the pages, so that hints need not open the database."""
    note = {"tracking": _noted(output, uri), "links": dict(found)}
    make_room(output / NOTE)
    (output / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def _identity(row: ResultRow) -> tuple[str, ...]:
    """The row's values of ``_IDENTITY``."""
    return (row.score_key, row.row.name, row.cell.dataset)


class _SweepView:
    """The experiments of a sweep, used by the publisher's thread alone."""

    def __init__(
        self, uri: str, plan: Plan, output: Path, command: Sequence[str], with_models: bool
    ) -> None:
        self._client = client = connect(uri)
        if uri == tracking_uri("", output):
            settle(database(uri), output / ARTIFACTS)
        self._uri = uri
        self._plan = plan
        self._with_models = with_models
        name = plan.sweep.name
        make_room(output / ARTIFACTS, for_folder=True)
        self._experiment = experiment_named(client, name, uri, output)
        self._board = experiment_named(client, leaderboard.name_of(name), uri, output)
        known = all_runs(client, self._experiment.experiment_id)
        self._parent = self._parent_run(command, known)
        self._runs = Runs(client, self._experiment.experiment_id, _IDENTITY, known)
        self._published: set[tuple[str, ...]] = set()

    def links(self) -> dict[str, str]:
        """Paths of the pages, the most useful first."""
        own, board = self._experiment.experiment_id, self._board.experiment_id
        return {
            "leaderboard": views.link(board, leaderboard.TABLE),
            "mean, spread and n of each number": views.link(board, leaderboard.WHOLE),
            "charts of the ranked rows": views.link(board, leaderboard.CHART),
            "all seeds": views.link(own, CELLS),
            "this sweep, tables and figures": views.run_link(own, self._parent),
        }

    def _parent_run(self, command: Sequence[str], known: list[Run]) -> str:
        from mlflow.entities import Param

        identity = digest(sorted(self._plan.jobs))
        for run in known:
            if run.data.tags.get("oneshui.plan") == identity:
                self._client.update_run(run.info.run_id, status="RUNNING")
                break
        else:
            tags = {"oneshui.plan": identity, "kind": "sweep", **SOURCE}
            name = f"sweep {self._plan.sweep.name}"
            place = self._experiment.experiment_id
            run = self._client.create_run(place, tags=tags, run_name=name)
        run_id = str(run.info.run_id)
        # Params cannot change; another version of this program may have written others.
        params = plan_params(self._plan)
        new = [Param(k, v) for k, v in params.items() if k not in run.data.params]
        self._client.log_batch(run_id, params=new)
        commit = git_commit()
        tags = {"oneshui.command": shell_line(command), "commit": commit or "none"}
        if self._plan.sweep.note:
            tags["oneshui.note"] = self._plan.sweep.note
        for name, value in (tags | ({COMMIT: commit} if commit else {})).items():
            self._client.set_tag(run_id, name, value)
        return run_id

    def row(self, row: ResultRow, entries: Mapping[str, Entry]) -> None:
        """Publish one row, unless just this is there already."""
        run_id = self._runs.put(wanted_run(self._plan, row, entries, self._parent))
        if self._with_models:
            place = self._experiment.experiment_id
            log_model(self._client, place, run_id, self._plan, row, entries)
        # Offered when its jobs are done, and once more in the end.
        self._published.add(_identity(row))

    def last_parts(self, end: _End) -> list[Callable[[], object]]:
        """What is published at the end, in parts that fail apart from each other."""
        own: set[tuple[str, ...]] = {_identity(row) for row in self._plan.results}
        parts: list[Callable[[], object]] = [lambda: self._runs.set_aside(own)]
        parts.append(lambda: views.save(self._client, self._experiment, [CELLS]))
        summary, report = end.summary, end.report
        if summary is not None:
            known = (summary, end.overall, end.frame)
            parts.append(lambda: leaderboard.publish(self._client, self._board, *known))
        if report is not None:
            parts += [lambda: self._withdraw(report), lambda: self._attach(report)]
        return [*parts, lambda: self._client.set_terminated(self._parent, end.status)]

    def _withdraw(self, report: Path) -> None:
        """Delete what an earlier report had and this one has not, such as pictures of people."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        run = self._client.get_run(self._parent)
        place: Any = get_artifact_repository(run.info.artifact_uri, tracking_uri=self._uri)
        folders = [REPORT]
        while folders:
            for there in place.list_artifacts(folders.pop()):
                if not (report.parent / Path(there.path).relative_to(REPORT)).exists():
                    place.delete_artifacts(there.path)
                elif there.is_dir:
                    folders.append(there.path)

    def _attach(self, report: Path) -> None:
        """The report's folder as artefacts of the parent, its tables as the parent's note."""
        folder = report.parent
        text = (folder / "summary.md").read_text(encoding="utf-8")
        if len(text) > NOTE_LENGTH:
            text = "The tables are too long for this place: see report/summary.md."
        tags: dict[str, Any] = {
            "mlflow.note.content": text,
            "seeds": ",".join(map(str, dict.fromkeys(c.seed for c in self._plan.sweep.cells))),
            "versions": ", ".join(
                f"{name} {version}" for name, version in versions("ray", "mlflow").items()
            ),
        }
        for name, value in tags.items():
            self._client.set_tag(self._parent, name, value)
        counts = {"finished": len(self._published), "planned": len(self._plan.results)}
        for name, count in counts.items():
            self._client.log_metric(self._parent, f"results/{name}", count)
        self._client.log_artifacts(self._parent, str(folder), REPORT)
