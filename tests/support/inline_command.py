"""The command itself in this process: what is missing is computed here, without Ray."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from support.job_graphs import run_inline

import sweeps.cli
from sweeps.executor.worker import execute
from sweeps.graph.job import Job
from sweeps.schedule.failure import Failure
from sweeps.schedule.scheduler import Scheduler
from sweeps.stages.context import environment
from sweeps.stages.run import limit_threads
from sweeps.store.leases import name_of


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended, and what it said."""

    status: int
    said: str


def inline_command(*arguments: str) -> Ended:
    """Run a command as a user does; an exception that leaves it would be a traceback."""
    said = io.StringIO()
    with _without_ray(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = sweeps.cli.main(arguments)
    return Ended(status=status, said=said.getvalue())


@contextlib.contextmanager
def _without_ray() -> Iterator[None]:
    # Faces and figures are drawn in this process where there is one processor.
    with (
        mock.patch.object(sweeps.cli, "_run_jobs", _run_jobs),
        mock.patch.object(os, "cpu_count", return_value=1),
    ):
        yield


def _run_jobs(
    spec: Any, _console: Any, plan: Any, store: Any, found: Any, folders: Any, *_: Any, **__: Any
) -> Scheduler:
    env = environment(spec, store, folders)
    limit_threads(1)
    scheduler = Scheduler(plan.jobs, found.entries)

    def compute(job: Job) -> Failure | None:
        outcome = execute(job, plan.jobs, env)
        if outcome.held:
            # No holder lives here: what the watcher finds out when none gives a sign of life.
            silent = store.leases.holders()[name_of(job.stage, job.key)].generation
            outcome = execute(job, plan.jobs, env, stale_lease=silent)
        assert not outcome.held
        return outcome.failure

    run_inline(scheduler, compute)
    return scheduler
