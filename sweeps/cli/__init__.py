"""One command from start to end: checks, data, jobs, tracking, report, exit status."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from oneshui.errors import InputError, OneshuiError
from oneshui.printable import printable
from oneshui.spawning import leave_if_importing
from sweeps.cli.console import PrintableConsole, say, say_damage
from sweeps.cli.locks import PUBLISH_LOCK
from sweeps.cli.packages import (
    require_free_columns,
    require_packages,
    require_places_apart,
)
from sweeps.cli.words import several
from sweeps.command import lasting, program, quoted, shell_line, without_secrets
from sweeps.graph.first_look import first_look
from sweeps.graph.launch import LaunchSpec
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.store import (
    DISK_ERRORS,
    DamagedEntryError,
    Entry,
    Store,
    open_store,
    store_exists,
)
from sweeps.store.aside import set_aside
from sweeps.store.base import LeftOutError
from sweeps.store.objects import StoreUnreachableError
from sweeps.store.private import lock_of, make_private
from sweeps.store.status import Scan, measured, scan

if TYPE_CHECKING:
    from sweeps.cli.interrupts import Interrupts
    from sweeps.schedule.scheduler import Scheduler
    from sweeps.store.datasets import RemoteFolder
    from sweeps.tracking import Publisher

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
USAGE = """usage: {program} [key=value ...]

  (without arguments)              the demo: drawn faces, a few minutes, no GPU
  sweep=full data_dir=/data        the paper's grid
  prepare --help                   a kit for a model in use, while data exist
  erase --help                     take people out of a model in use
  ... mode=plan                    count the jobs and say why they must run
  ... mode=status                  what a running sweep is at, from any shell
  ... mode=report                  write tables, figures and MLflow's view again
  ... mode=ui                      show the sweep's MLflow pages on this machine
  ... mode=why row="celebahq 20 ssd tow"      where a number comes from
  ... mode=why row=... run=true    compute it again, and compare
  ... mode=export to=x.tar.zst     the results as one file, to be read anywhere
  ... mode=diff other=runs/y       how two sweeps differ, and which job first
  ... mode=store                   what the store holds, and who uses it
  mode=join 'from=[runs/x,runs/y]' output_dir=runs/z    one report over several
  ... mode=list what=keys          sweeps, datasets, methods or keys in words
  ... 'sweep.methods=[ssd,jit]' 'sweep.seeds=[0,1]' 'sweep.datasets=[celebahq]'
  ... output_dir=runs/x store.uri=/shared/store cluster=existing
  ... store.uri=s3://bucket/prefix            or gs://: machines share a store

exit status: 0 all done, 1 some jobs failed, 2 bad input, 130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, this process's own unless arguments are given; returns the exit status."""
    from sweeps.config import load

    leave_if_importing()
    arguments = sys.argv[1:] if arguments is None else arguments
    console = PrintableConsole(highlight=False, markup=False)
    if arguments and arguments[0] in ("prepare", "erase"):
        return _carried_out(arguments[0], arguments[1:], console)
    if set(arguments) & {"-h", "--help"}:
        from sweeps.cli.catalogue import show_help

        typed = " ".join(map(quoted, program()))
        console.print(USAGE.format(program=typed), soft_wrap=True)
        show_help(console)
        return DONE
    try:
        spec = load(arguments)
        if spec.mode in ("plan", "run"):
            require_packages(spec.sweep)
            require_free_columns(spec.sweep)
            require_places_apart(spec)
        modes = {"plan": plan_only, "report": rebuild, "run": run, "ui": show_ui, "why": explain}
        modes |= {"status": look_on, "list": tell}
        modes |= {"export": export, "diff": compare, "join": join, "store": care}
        return _healed(modes[spec.mode], spec, console)
    except InputError as error:
        _complain(str(error))
        return BAD_INPUT
    except StoreUnreachableError as error:
        _complain(f"{error}; finished jobs are kept: run the same command again")
        return FAILED
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = f" to {error.filename}" if error.filename else ""
        _complain(
            f"nothing can be written{where} ({error.strerror}); finished jobs are kept: free some "
            "space or set output_dir to another disk, and run the same command again"
        )
        return BAD_INPUT
    except KeyboardInterrupt:
        again = shell_line(arguments)
        print(f"\ninterrupted; finished jobs are kept, go on with: {again}", file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def _carried_out(verb: str, arguments: Sequence[str], console: Console) -> int:
    """Run one of the commands for a model in use; returns the exit status."""
    from sweeps.cli.erasure import COMMANDS, USAGE

    if set(arguments) & {"-h", "--help"}:
        typed = " ".join(map(quoted, program()))
        console.print(USAGE[verb].format(program=typed), soft_wrap=True)
        return DONE
    try:
        COMMANDS[verb](arguments, console)
    except InputError as error:
        _complain(str(error))
        return BAD_INPUT
    except OneshuiError as error:
        _complain(str(error))
        return FAILED
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _complain(f"{error.filename or 'out'} cannot be written: {error.strerror}")
        return BAD_INPUT
    except KeyboardInterrupt:
        again = shell_line([verb, *arguments])
        begins = "goes on from there" if verb == "prepare" else "begins anew, nothing was written"
        print(f"\ninterrupted; the same command {begins}: {again}", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    return DONE


def _healed(mode: Callable[[LaunchSpec, Console], int], spec: LaunchSpec, console: Console) -> int:
    """Run the command again without what it could not read, until it can read everything.

    Where one file has changed, others may have: all that the report reads are looked at then.
    """
    known: set[str] = set()
    while True:
        try:
            return mode(spec, console)
        except LeftOutError as error:
            _complain(str(error))
            return FAILED
        except DamagedEntryError as error:
            if spec.mode in ("diff", "join"):
                # It may be another store's, in which nothing is taken out of the way.
                _complain(str(error))
                return FAILED
            if error.key in known:
                _complain(f"{error}, though it was just computed again; is the disk sound?")
                return FAILED
            store = open_store(spec.places.store_uri)
            store.discard(error.stage, error.key)
            found = scan(expand(spec.sweep), store, discard=True, is_thorough=True)
            known |= {error.key, *(key for key, why in found.reasons.items() if why == "damaged")}
            who = "it is" if spec.mode == "run" else "the next run has it"
            say_damage((str(error), *found.damage), console, who)


def _complain(sentence: str) -> None:
    shown = printable(without_secrets(sentence))
    print(f"{Path(program()[-1]).name}: {shown}", file=sys.stderr)  # noqa: T201


def plan_only(spec: LaunchSpec, console: Console) -> int:
    """Say what the sweep would take; runs nothing, needs no data."""
    from sweeps.cli.plan import show_plan

    show_plan(spec, console)
    return DONE


def tell(spec: LaunchSpec, console: Console) -> int:
    """Say what sweeps, datasets, methods and keys there are."""
    from sweeps.cli.catalogue import show_list

    show_list(console, spec.what)
    return DONE


def rebuild(spec: LaunchSpec, console: Console) -> int:
    """Write report and MLflow view again from the store; runs no job.

    Raises:
        InputError: There is no store.
    """
    from sweeps.cli.finish import finish
    from sweeps.cli.sending import destination, send_away

    store, output, to = _existing_store(spec), Path(spec.places.output_dir), destination(spec)
    _writable(output)
    plan = expand(spec.sweep)
    status = _status(finish(spec, console, plan, store, None, _publisher(spec, plan)))
    send_away(output, to, console)
    return status


def _existing_store(spec: LaunchSpec, *, writes: bool = True) -> Store:
    if not store_exists(spec.places.store_uri):
        raise InputError(f"there is no store at {spec.places.store_uri}; run the sweep first")
    return open_store(spec.places.store_uri, writes=writes)


def look_on(spec: LaunchSpec, console: Console) -> int:
    """Say what the sweep is at, from the store and its leases alone; writes nothing.

    Raises:
        InputError: There is no store.
    """
    from sweeps.cli.status import show_status

    show_status(spec, _existing_store(spec, writes=False), console)
    return DONE


def _status(complete: bool) -> int:
    return DONE if complete else FAILED


def show_ui(spec: LaunchSpec, console: Console) -> int:
    """Show MLflow's pages of the sweep on loopback until Ctrl-C.

    Raises:
        InputError: Nothing was published yet, or the server did not start.
    """
    from sweeps.tracking.ui import show

    try:
        show(spec.places.tracking_uri, Path(spec.places.output_dir), console)
    except KeyboardInterrupt:
        console.print("ended")
    return DONE


def explain(spec: LaunchSpec, console: Console) -> int:
    """Print where one number of the tables comes from, or compute it again and compare.

    Raises:
        InputError: There is no store, or no such row or metric.
    """
    from sweeps.cli.why import explanation

    store = _existing_store(spec)
    plan = expand(spec.sweep)
    found = scan(plan, store, discard=False)
    say_damage(found.damage, console, "the next run has it")
    output = Path(spec.places.output_dir)
    if spec.run_again:
        from sweeps.cli import head
        from sweeps.cli.reproduce import reproduce

        _writable(output)
        with head.SignOfLife(spec.cluster, spec.places, console, head.FOLDER):
            return _status(reproduce(spec, console, plan, found.entries, _compute))
    for line in explanation(spec.row, plan, found.entries, output, spec.command):
        console.print(line, soft_wrap=True)
    return DONE


def _compute(
    spec: LaunchSpec,
    console: Console,
    plan: Plan,
    store: Store,
    found: Scan,
    folders: dict[str, Path | RemoteFolder],
) -> Scheduler:
    """Run what is missing of a plan, and publish nothing."""
    from sweeps.cli.interrupts import Interrupts

    interrupts, publisher = Interrupts(), _publisher(spec, plan)
    with interrupts.answered():
        return _run_jobs(
            spec, console, plan, store, found, folders, publisher, interrupts, leads=False
        )


def export(spec: LaunchSpec, console: Console) -> int:
    """Write the sweep's results as one file; runs no job.

    Raises:
        InputError: There is no store, or the file cannot be written there.
    """
    from sweeps.cli.archive import export_sweep

    return _status(export_sweep(spec, _existing_store(spec, writes=False), console))


def compare(spec: LaunchSpec, console: Console) -> int:
    """Say how two sweeps differ; runs no job.

    Raises:
        InputError: One of them cannot be read.
    """
    from sweeps.cli.archive import show_difference

    show_difference(spec, _existing_store(spec, writes=False), console)
    return DONE


def join(spec: LaunchSpec, console: Console) -> int:
    """Write one report over several sweeps; runs no job.

    Raises:
        InputError: One of them cannot be read, or the report cannot be written there.
    """
    from sweeps.cli.archive import join_sweeps

    join_sweeps(spec, console)
    return DONE


def care(spec: LaunchSpec, console: Console) -> int:
    """Say what the store holds, and clear it where that is asked.

    Raises:
        InputError: There is no store, or what must stay is not known.
    """
    from sweeps.cli.archive import care_for_store

    care_for_store(spec, _existing_store(spec, writes=spec.archive.yes), console)
    return DONE


def run(spec: LaunchSpec, console: Console) -> int:
    """Run what is missing of a sweep and write the report.

    Raises:
        InputError: The user's input cannot be used.
    """
    from sweeps.cli import head
    from sweeps.cli.interrupts import Interrupts
    from sweeps.cli.sending import destination, send_away

    interrupts, output, to = Interrupts(), Path(spec.places.output_dir), destination(spec)
    living = head.SignOfLife(spec.cluster, spec.places, console, head.FOLDER)
    with interrupts.answered(), living as sign:
        try:
            status = _run(spec, console, interrupts)
        except Exception:
            # The logs say why, and the machine may be gone when somebody looks.
            send_away(output, to, console)
            raise
        if send_away(output, to, console) and status == DONE:
            sign.is_done()
        return status


def _run(spec: LaunchSpec, console: Console, interrupts: Interrupts) -> int:
    output = Path(spec.places.output_dir)
    _writable(output)
    for plugin in spec.plugins:
        plugin.write(output / "plugins")
    store = open_store(spec.places.store_uri)
    store.sweep_leftovers()
    from sweeps import described
    from sweeps.archive.care import note_use
    from sweeps.cli.datasets import prepare_datasets, prepare_pretrained, prepare_weights
    from sweeps.cli.finish import finish
    from sweeps.stages.context import environment

    plan = expand(spec.sweep)
    if plan.studies:
        _check_journal(plan, output, console)
    described.write(spec, output)
    note_use(store, plan, output)
    prepare_weights(spec.sweep, store, output / "logs", console)
    folders = prepare_datasets(spec.sweep, spec.places, store, output / "logs", console)
    prepare_pretrained(plan, environment(spec, store, folders), console)
    found = scan(plan, store, discard=True, to_run=True)
    say_damage(found.damage, console, "it is")
    publisher = _publisher(spec, plan)
    if not found.reasons:
        console.print(
            f"nothing to do: all {len(plan.jobs)} jobs of sweep {spec.sweep.name} are done"
        )
        return _status(finish(spec, console, plan, store, None, publisher))
    why = ", ".join(f"{count} {reason}" for reason, count in found.counts().items())
    console.print(
        f"sweep {spec.sweep.name}: {len(plan.jobs)} jobs, {len(found.entries)} done, "
        f"{len(found.reasons)} to run ({why})"
    )
    _say_where(spec, console, publisher)
    with _live(publisher, output) as leads:
        scheduler = _run_jobs(
            spec, console, plan, store, found, folders, publisher, interrupts, leads=leads
        )
    say_damage(scheduler.damage, console, "it was")
    return _status(finish(spec, console, plan, store, scheduler, publisher))


def _say_where(spec: LaunchSpec, console: Console, publisher: Publisher) -> None:
    """Where things go, how to look on and how to stop, before the first job."""
    output = Path(spec.places.output_dir)
    looking_on = shell_line([*lasting(spec.command), "mode=status"])
    say(console, str(output), "  output   ")
    say(console, f"{output / 'logs'}, a file for each job", "  logs     ")
    say(console, publisher.where(), "  MLflow   ", is_command=True)
    say(console, looking_on, "  status   ", is_command=True)
    say(console, "Ctrl-C; what is done is kept: the same command goes on from there", "  to stop  ")


def _check_journal(plan: Plan, output: Path, console: Console) -> None:
    """Refuse a folder whose studies had other search spaces; what is no journal of ours is kept."""
    from sweeps.cli.written import journal_set_aside
    from sweeps.report.studies.results import JOURNAL
    from sweeps.sampler import UnreadableJournalError, check_journal

    kept = journal_set_aside(output)
    if kept is not None:
        console.print(
            f"{output / JOURNAL} is not as it was written: it is kept as {kept.name} and written "
            "again",
            soft_wrap=True,
        )
    spaces = {study.name: study.space for study in plan.studies}
    try:
        check_journal(output / JOURNAL, spaces)
    except UnreadableJournalError as error:
        kept = set_aside(output / JOURNAL)
        console.print(f"{error}: it is kept as {kept.name} and written again", soft_wrap=True)


@contextlib.contextmanager
def _live(publisher: Publisher, output: Path) -> Iterator[bool]:
    """Publish rows while the jobs run, unless another driver does; in the end all do in turn.

    The block is told whether this driver does.
    """
    from filelock import Timeout

    lock = lock_of(output / PUBLISH_LOCK)
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=0)
        publisher.start()
    try:
        yield lock.is_locked
    except BaseException:
        publisher.close("KILLED")
        raise
    finally:
        lock.release()


def _writable(folder: Path) -> None:
    try:
        make_private(folder)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"the output folder {folder} cannot be written ({error.strerror}); set output_dir to "
            "one that can"
        ) from None


def _run_jobs(
    spec: LaunchSpec,
    console: Console,
    plan: Plan,
    store: Store,
    found: Scan,
    folders: dict[str, Path | RemoteFolder],
    publisher: Publisher,
    interrupts: Interrupts,
    *,
    leads: bool,
) -> Scheduler:
    from sweeps.cli.partial import PartialReport, needed
    from sweeps.cli.progress import SweepProgress
    from sweeps.executor.tune import has_gpus, make_slots, ray_cluster, run_sweep
    from sweeps.schedule.estimates import Estimates
    from sweeps.schedule.resources import ResourceRequests
    from sweeps.schedule.scheduler import Scheduler
    from sweeps.stages.context import environment

    env = environment(spec, store, folders)
    local = spec.cluster.mode == "local"
    verb, where = ("starting", "on this machine") if local else ("joining", "of this cluster")
    console.print(f"{verb} Ray {where}")
    with ray_cluster(spec.cluster, Path(spec.places.output_dir), spec.device) as dashboard:
        if dashboard:
            console.print(f"  Ray's dashboard: {dashboard}", soft_wrap=True)
        has_gpu = has_gpus(spec.cluster, spec.device)
        requests = ResourceRequests(
            spec.sweep,
            spec.cluster,
            plan.jobs,
            measured(plan, found.entries, "peak_gpu_bytes"),
            has_gpu=has_gpu,
        )
        slots = make_slots(spec.cluster, requests)
        scheduler = Scheduler(
            plan.jobs,
            found.entries,
            workers=slots.count(),
            estimates=Estimates(plan.jobs, measured(plan, found.entries, "seconds"), gpu=has_gpu),
            request=requests.request,
            first=plan.behind({key for row in first_look(plan) for key in needed(row)}),
        )
        workers = several(slots.count(), "worker")
        console.print(f"waiting for {workers} to load what jobs need, some seconds")
        feed = _Feed(plan, store, scheduler, publisher)
        partial = PartialReport(spec, plan, scheduler, console, leads=leads)
        shown = SweepProgress(
            console, lambda: scheduler.snapshot().then(partial.cost), spec.sweep.name
        )
        with shown, interrupts.said_by(shown.say), feed, partial:
            run_sweep(scheduler, plan.jobs, env, spec.cluster, slots, requests, feed.wake)
    return scheduler


class _Feed:
    """Hands rows to the publisher as soon as all their jobs are done, beside the engine."""

    def __init__(
        self, plan: Plan, store: Store, scheduler: Scheduler, publisher: Publisher
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
        from sweeps.cli.partial import needed

        done = set(self._scheduler.keys("done"))
        waiting: list[ResultRow] = []
        for row in self._rows:
            # With what audits say: a published row is not looked at again.
            keys = needed(row) | set(row.audit_keys)
            entries = self._find(keys) if done >= keys else None
            if entries is None:
                waiting.append(row)
            else:
                self._publisher.offer(row, entries)
        self._rows = waiting

    def _find(self, keys: set[str]) -> dict[str, Entry] | None:
        try:
            found = self._store.find_all(self._plan.jobs[key] for key in keys)
        except StoreUnreachableError:
            # Offered with a later row, or in the end.
            return None
        entries = {key: entry for key, entry in found.items() if isinstance(entry, Entry)}
        return entries if len(entries) == len(keys) else None

    def __enter__(self) -> _Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._changed.set()
        self._thread.join()


def _publisher(spec: LaunchSpec, plan: Plan) -> Publisher:
    from sweeps.tracking import Publisher

    output = Path(spec.places.output_dir)
    return Publisher(
        spec.places.tracking_uri,
        plan,
        output,
        spec.command,
        with_models=spec.places.tracking_models,
    )
