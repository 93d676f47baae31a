"""Running one job inside a worker: its log, and its failure as a value instead of an exception.

An exception that leaves a Ray actor ends the warm process, so none does.
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import override

from oneshui.errors import DataAccessError, InputError, NumericalError, NurseryLostError
from oneshui.printable import printable
from sweeps.graph.job import Job, log_path
from sweeps.schedule.failure import Failure, FailureKind
from sweeps.stages.context import WorkerEnvironment
from sweeps.stages.run import run
from sweeps.store import DISK_ERRORS, DamagedEntryError, Entry
from sweeps.store.aside import make_room
from sweeps.store.machine import place
from sweeps.store.objects import StoreUnreachableError

logger = logging.getLogger("oneshui.worker")


class _Formatter(logging.Formatter):
    """Writes out what would steer the terminal of whoever reads the log."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t")


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Send all log records and warnings of this process into the job's own file."""
    make_room(path.parent, for_folder=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    make_room(path)
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("oneshui").setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


_BEATS_PER_SILENCE = 6


def classify(error: BaseException) -> FailureKind:
    """The class of failure that an exception belongs to."""
    match error:
        case InputError():
            return "input"
        case NumericalError():
            return "numerical"
        case DataAccessError():
            return "access"
        case DamagedEntryError():
            return "damaged"
        case StoreUnreachableError():
            # Nobody's fault, and it may pass: as many attempts as for a worker that is lost.
            return "lost"
        case MemoryError():
            return "memory"
        case OSError() if error.errno in DISK_ERRORS:
            return "disk"
    return "memory" if type(error).__name__ == "OutOfMemoryError" else "error"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended in this worker.

    Attributes:
        failure: Why it did not finish; None when its result is in the store.
        held: Whether nothing was done because somebody else holds the job's lease, or all places
            of this machine.
        cost: Seconds and peak memory of the job that is now in the store.
    """

    failure: Failure | None = None
    held: bool = False
    cost: Mapping[str, float] = field(default_factory=dict)


def execute(
    job: Job, jobs: Mapping[str, Job], env: WorkerEnvironment, *, stale_lease: int = 0
) -> Outcome:
    """Run one job under its lease, if this machine has a place for it.

    Args:
        job: What to do.
        jobs: The whole graph.
        env: The worker's environment.
        stale_lease: Generation of a lease that was seen without a sign of life for too long.
    """
    with place(env.machine_workers) as is_mine:
        return _execute(job, jobs, env, stale_lease) if is_mine else Outcome(held=True)


def _execute(
    job: Job, jobs: Mapping[str, Job], env: WorkerEnvironment, stale_lease: int
) -> Outcome:
    leases = env.store.leases
    try:
        lease = leases.acquire(job, stale=stale_lease, node=env.node)
        if lease is None:
            return Outcome(held=True)
        try:
            with lease.beating(env.heartbeat_seconds / _BEATS_PER_SILENCE):
                entry = _logged(job, jobs, env)
        finally:
            leases.release(job, lease)
    except DamagedEntryError as error:
        env.store.discard(error.stage, error.key)
        failure = Failure(kind="damaged", message=str(error), damaged=error.key)
        return Outcome(failure=failure)
    except NurseryLostError:
        # From this process no clean one can be forked any more: it ends, and another takes the job.
        raise
    except (Exception, SystemExit) as error:
        return Outcome(failure=Failure(kind=classify(error), message=_one_line(error, env)))
    numbers = {k: float(v) for k, v in entry.cost.items() if isinstance(v, int | float)}
    return Outcome(cost=numbers)


def _logged(job: Job, jobs: Mapping[str, Job], env: WorkerEnvironment) -> Entry:
    start = time.perf_counter()
    with _log_file(log_path(env.logs, job.key)):
        logger.info("%s (%s) starts", job.label, job.key)
        try:
            entry = run(job, jobs, env)
        except (Exception, SystemExit):
            logger.exception("%s failed", job.label)
            raise
        logger.info("%s done in %.2f s", job.label, time.perf_counter() - start)
        return entry


def _one_line(error: Exception | SystemExit, env: WorkerEnvironment) -> str:
    if classify(error) == "disk":
        reason = error.strerror if isinstance(error, OSError) else error
        return (
            f"nothing can be written to {env.store.written_to} or {env.logs} ({reason}); free some "
            "space or set output_dir to another disk, and run the same command again"
        )
    message = str(error).strip() or traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, InputError):
        # One sentence; a line that ends within is a file's name.
        return printable(message)
    if isinstance(error, SystemExit):
        return f"its code called sys.exit({error.code!r})"
    return f"{type(error).__name__}: {message}".splitlines()[0]
