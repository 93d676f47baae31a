"""One command from start to end: checks, data, jobs, tracking, report, exit status."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from oneshui.errors import InputError
from sweeps.engine import Scheduler
from sweeps.jobs import digest
from sweeps.plan import Plan, ResultRow, expand, index_job
from sweeps.progress import Bar, SweepProgress
from sweeps.results import is_complete, results_frame
from sweeps.scan import Scan, scan
from sweeps.spec import LaunchSpec
from sweeps.store import DamagedEntryError, Entry, LocalStore, open_store
from sweeps.tracking import Publisher
from sweeps.worker import log_path

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
USAGE = """usage: python launch.py [key=value ...]

  python launch.py                           the demo: generated faces, a few minutes, no GPU
  python launch.py sweep=full data_dir=/data the paper's grid
  ... mode=plan                              count the jobs and say why they must run; run nothing
  ... mode=report                            rebuild tables, figures and MLflow from the store
  ... mode=ui                                show the sweep's MLflow pages on this machine
  ... mode=why row="celebahq 20 ssd tow"     where a number of the tables comes from
  ... sweep.methods=[ssd,jit] sweep.seeds=[0,1] sweep.datasets=[celebahq] sweep.forget_sizes=[20]
  ... output_dir=runs/x store.uri=/shared/store tracking.uri=http://host:5000 cluster=existing

sweeps: {sweeps}
exit status: 0 all done, 1 some jobs failed, 2 bad input, 130 interrupted"""


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    from sweeps.config import load, sweep_names

    console = Console(highlight=False)
    if set(arguments) & {"-h", "--help"}:
        console.print(USAGE.format(sweeps=", ".join(sweep_names())), markup=False)
        return DONE
    try:
        spec = load(arguments)
        modes = {"plan": show_plan, "report": rebuild, "run": run, "ui": show_ui, "why": explain}
        return modes[spec.mode](spec, console)
    except InputError as error:
        print(f"launch.py: {error}", file=sys.stderr)  # noqa: T201
        return BAD_INPUT
    except KeyboardInterrupt:
        again = " ".join(["python launch.py", *arguments])
        print(f"\ninterrupted; finished jobs are kept, go on with: {again}", file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def show_plan(spec: LaunchSpec, console: Console) -> int:
    """Count the jobs by stage and say which must run and why; runs nothing, needs no data."""
    plan = expand(spec.sweep)
    stored = Path(spec.places.store_uri).is_dir()
    found = scan(plan, LocalStore(Path(spec.places.store_uri)), discard=False) if stored else None
    reasons = found.reasons if found else dict.fromkeys(plan.jobs, "new")
    console.print(f"sweep {spec.sweep.name}: {len(plan.jobs)} jobs, {len(plan.results)} results")
    for stage, count in plan.counts().items():
        missing = [
            reasons[k] for k, job in plan.jobs.items() if job.stage == stage and k in reasons
        ]
        why = ", ".join(f"{missing.count(r)} {r}" for r in sorted(set(missing)))
        console.print(
            f"  {stage:<9} {count:>5}   {count - len(missing)} done"
            + (f", to run: {why}" if why else "")
        )
    return DONE


def rebuild(spec: LaunchSpec, console: Console) -> int:
    """Write report and MLflow view again from the store; runs no job.

    Raises:
        InputError: There is no store.
    """
    if not Path(spec.places.store_uri).is_dir():
        raise InputError(f"there is no store at {spec.places.store_uri}; run the sweep first")
    plan = expand(spec.sweep)
    store = LocalStore(Path(spec.places.store_uri))
    return _conclude(spec, console, plan, store, None, _publisher(spec, plan))


def show_ui(spec: LaunchSpec, console: Console) -> int:
    """Show MLflow's pages of the sweep on loopback until Ctrl-C.

    Raises:
        InputError: Nothing was published yet, or the server did not start.
    """
    from sweeps.tracking_ui import show

    try:
        show(spec.places.tracking_uri, Path(spec.places.output_dir), console)
    except KeyboardInterrupt:
        console.print("ended")
    return DONE


def explain(spec: LaunchSpec, console: Console) -> int:
    """Print where one number of the tables comes from; runs no job.

    Raises:
        InputError: There is no store, or no such row or metric.
    """
    from sweeps.why import explanation

    if not Path(spec.places.store_uri).is_dir():
        raise InputError(f"there is no store at {spec.places.store_uri}; run the sweep first")
    plan = expand(spec.sweep)
    entries = scan(plan, LocalStore(Path(spec.places.store_uri)), discard=False).entries
    output = Path(spec.places.output_dir)
    for line in explanation(spec.row, plan, entries, output, spec.command):
        console.print(line, soft_wrap=True, markup=False)
    return DONE


def run(spec: LaunchSpec, console: Console) -> int:
    """Run what is missing of a sweep and write the report.

    Raises:
        InputError: The user's input cannot be used.
    """
    output = Path(spec.places.output_dir)
    _writable(output)
    store = open_store(spec.places.store_uri)
    store.sweep_leftovers()
    plan = expand(spec.sweep)
    folders = _datasets(spec, store, console)
    found = scan(plan, store, discard=True)
    for line in found.damage:
        console.print(f"{line}; it is computed again", soft_wrap=True)
    publisher = _publisher(spec, plan)
    if not found.reasons:
        console.print(
            f"nothing to do: all {len(plan.jobs)} jobs of sweep {spec.sweep.name} are done"
        )
        return _conclude(spec, console, plan, store, None, publisher)
    why = ", ".join(f"{count} {reason}" for reason, count in found.counts().items())
    console.print(
        f"sweep {spec.sweep.name}: {len(plan.jobs)} jobs, {len(found.entries)} done, "
        f"{len(found.reasons)} to run ({why})"
    )
    publisher.start()
    try:
        scheduler = _run_jobs(spec, console, plan, store, found, folders, publisher)
    except BaseException:
        publisher.close("KILLED")
        raise
    return _conclude(spec, console, plan, store, scheduler, publisher)


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"the output folder {folder} cannot be written ({error.strerror}); set output_dir to "
            "one that can"
        ) from None


def _datasets(spec: LaunchSpec, store: LocalStore, console: Console) -> dict[str, Path]:
    """Generate, read and check every dataset before any job starts; folders by index key."""
    from oneshui.data.registry import load_dataset
    from sweeps.datasets import (
        check_requests,
        ensure_generated,
        folder_of,
        is_current,
    )
    from sweeps.inputs import Environment
    from sweeps.stages import run as run_stage

    folders = {}
    for dataset in spec.sweep.datasets.values():
        job = index_job(dataset)
        folder = folders[job.key] = folder_of(dataset, spec.places)
        with Bar(console, f"drawing faces for {dataset.name}") as bar:
            ensure_generated(dataset, spec.places, bar, os.cpu_count() or 1)
        table = load_dataset(dataset.layout, folder)
        check_requests(table, spec.sweep, dataset.name)
        if is_current(store, job, table) is None:
            store.discard(job.stage, job.key)
            logs = Path(spec.places.output_dir) / "logs"
            run_stage(job, {}, Environment(store=store, data_folders=folders, logs=logs))
    return folders


def _run_jobs(
    spec: LaunchSpec,
    console: Console,
    plan: Plan,
    store: LocalStore,
    found: Scan,
    folders: dict[str, Path],
    publisher: Publisher,
) -> Scheduler:
    from sweeps.inputs import Environment
    from sweeps.ray_engine import ray_cluster, run_sweep, slots_of

    logs = Path(spec.places.output_dir) / "logs"
    env = Environment(store=store, data_folders=folders, logs=logs)
    with ray_cluster(spec.cluster, Path(spec.places.output_dir)):
        scheduler = Scheduler(plan.jobs, found.entries, workers=slots_of(spec.cluster))
        feed = _Feed(plan, store, scheduler, publisher)
        with SweepProgress(console, scheduler.snapshot), feed:
            run_sweep(scheduler, plan.jobs, env, spec.cluster, feed.wake)
    return scheduler


class _Feed:
    """Hands rows to the publisher as soon as all their jobs are done, beside the engine."""

    def __init__(
        self, plan: Plan, store: LocalStore, scheduler: Scheduler, publisher: Publisher
    ) -> None:
        self._plan = plan
        self._store = store
        self._scheduler = scheduler
        self._publisher = publisher
        self._rows = list(plan.results)
        self._changed = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def wake(self) -> None:
        self._changed.set()

    def _run(self) -> None:
        while not self._closing:
            self._changed.wait()
            self._changed.clear()
            time.sleep(0.5)
            self._offer()

    def _offer(self) -> None:
        done = set(self._scheduler.keys("done"))
        waiting: list[ResultRow] = []
        for row in self._rows:
            split = self._plan.jobs[row.evaluate_key].inputs["split"]
            needed = {row.score_key, row.model_key, split, *filter(None, [row.prepare_key])}
            entries = self._find(needed) if done >= needed else None
            if entries is None:
                waiting.append(row)
            else:
                self._publisher.offer(row, entries)
        self._rows = waiting

    def _find(self, keys: set[str]) -> dict[str, Entry] | None:
        entries = {}
        for key in keys:
            try:
                entry = self._store.find(self._plan.jobs[key].stage, key)
            except DamagedEntryError:
                return None
            if entry is None:
                return None
            entries[key] = entry
        return entries

    def __enter__(self) -> _Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._changed.set()
        self._thread.join()


def _publisher(spec: LaunchSpec, plan: Plan) -> Publisher:
    output = Path(spec.places.output_dir)
    return Publisher(spec.places.tracking_uri, plan, output, spec.command)


def _conclude(
    spec: LaunchSpec,
    console: Console,
    plan: Plan,
    store: LocalStore,
    scheduler: Scheduler | None,
    publisher: Publisher,
) -> int:
    """Write what is not written yet, print the table and say where everything is."""
    from sweeps.paper import said
    from sweeps.report import write_report
    from sweeps.summary import summarise
    from sweeps.table_formats import terminal

    output = Path(spec.places.output_dir)
    failures = scheduler.failures() if scheduler else {}
    blocked = scheduler.keys("blocked") if scheduler else []
    refused = [failure for failure in failures.values() if failure.kind == "input"]
    if refused:
        publisher.close("FAILED")
        raise InputError(refused[0].message)
    entries = scan(plan, store, discard=False).entries
    frame = results_frame(plan, entries)
    summary = summarise(frame)
    terminal(summary, console)
    missing = [plan.jobs[key] for key in plan.jobs if key not in entries]
    for key, failure in failures.items():
        console.print(
            f"failed: {plan.jobs[key].label}: {failure.message}\n"
            f"        log {log_path(output / 'logs', key)}",
            soft_wrap=True,
        )
    if missing:
        console.print(f"{len(missing)} of {len(plan.jobs)} jobs have no result; run again to retry")
    page = output / "report" / "index.html"
    state = digest({key: entry.content for key, entry in entries.items()})
    marker = output / "report" / ".state"
    is_current = marker.is_file() and marker.read_text(encoding="utf-8") == state
    if spec.mode == "report" or failures or not is_current:

        def write(bar: Bar, meanwhile: Callable[[], None]) -> Path:
            return write_report(
                plan, frame, entries, failures, blocked, output, spec.command, bar, meanwhile
            )

        rows = [row for row in plan.results if is_complete(row, entries)]
        page = _drawn_and_published(write, rows, entries, publisher, console)
        with Bar(console, "publishing in MLflow") as bar:
            problems = publisher.close("FAILED" if missing else "FINISHED", page, summary, bar)
        for problem in problems:
            console.print(f"warning: {problem}", soft_wrap=True)
        if not problems:
            marker.write_text(state, encoding="utf-8")
    if spec.mode == "report":
        for line in said(page.parent):
            console.print(line, soft_wrap=True, markup=False)
    console.print(f"report: {page}", soft_wrap=True)
    for hint in publisher.hints():
        console.print(hint, soft_wrap=True)
    return FAILED if missing else DONE


def _drawn_and_published(
    write: Callable[[Bar, Callable[[], None]], Path],
    rows: Sequence[ResultRow],
    entries: Mapping[str, Entry],
    publisher: Publisher,
    console: Console,
) -> Path:
    """Write the report, and publish in the background while its figures are drawn."""

    def publish() -> None:
        publisher.start()
        for row in rows:
            publisher.offer(row, entries)

    try:
        with Bar(console, "drawing figures") as bar:
            return write(bar, publish)
    except BaseException:
        publisher.close("KILLED")
        raise
