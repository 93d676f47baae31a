"""Running one job inside a worker: its log, and its failure as a value instead of an exception.

An exception that leaves a Ray actor ends the warm process, so none does.
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

from oneshui.errors import DataAccessError, InputError, NumericalError
from sweeps import stages
from sweeps.engine import Failure, FailureKind
from sweeps.inputs import Environment
from sweeps.jobs import Job
from sweeps.store import DamagedEntryError

logger = logging.getLogger("oneshui.worker")


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Send all log records and warnings of this process into the job's own file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    logger.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


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
        case MemoryError():
            return "memory"
    return "memory" if type(error).__name__ == "OutOfMemoryError" else "error"


def log_path(logs: Path, key: str) -> Path:
    """Where a job writes its log."""
    return logs / f"{key}.log"


def execute(job: Job, jobs: Mapping[str, Job], env: Environment) -> Failure | None:
    """Run one job; None when its result is in the store, otherwise why it is not."""
    start = time.perf_counter()
    try:
        with _log_file(log_path(env.logs, job.key)):
            logger.info("%s (%s) starts", job.label, job.key)
            try:
                stages.run(job, jobs, env)
            except Exception:
                logger.exception("%s failed", job.label)
                raise
            logger.info("%s done in %.2f s", job.label, time.perf_counter() - start)
    except DamagedEntryError as error:
        env.store.discard(error.stage, error.key)
        return Failure(kind="damaged", message=str(error), damaged=error.key)
    except Exception as error:
        message = str(error).strip() or traceback.format_exception_only(error)[-1].strip()
        if not isinstance(error, InputError):
            message = f"{type(error).__name__}: {message}"
        return Failure(kind=classify(error), message=message.splitlines()[0])
    return None
