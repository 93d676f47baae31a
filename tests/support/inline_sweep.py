"""Runs a sweep's jobs in this process: the real stages and store, without Ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from support.job_graphs import run_inline

from sweeps.cli.datasets import ensure_generated, folder_of
from sweeps.config import load
from sweeps.executor.worker import execute
from sweeps.graph.cells import index_job
from sweeps.graph.job import Job
from sweeps.graph.plan import Plan, expand
from sweeps.schedule.failure import Failure
from sweeps.schedule.scheduler import Scheduler
from sweeps.stages.context import WorkerEnvironment
from sweeps.stages.run import limit_threads
from sweeps.store import Store, open_store
from sweeps.store.status import scan


@dataclass(frozen=True)
class InlineSweep:
    plan: Plan
    env: WorkerEnvironment
    scheduler: Scheduler

    @property
    def store(self) -> Store:
        return self.env.store

    def execute(self, job: Job) -> Failure | None:
        return execute(job, {**self.plan.jobs, job.key: job}, self.env).failure


def inline_sweep(folder: Path, *overrides: str) -> InlineSweep:
    """All jobs of a sweep, run one after the other with one thread, as workers do."""
    spec = load([*overrides, f"output_dir={folder}"])
    plan = expand(spec.sweep)
    folders = {}
    for dataset in spec.sweep.datasets.values():
        ensure_generated(dataset, spec.places, lambda _done, _total: None, workers=1)
        folders[index_job(dataset).key] = folder_of(dataset, spec.places)
    store = open_store(spec.places.store_uri)
    env = WorkerEnvironment(store=store, data_folders=folders, logs=folder / "logs")
    limit_threads(1)
    scheduler = Scheduler(plan.jobs, scan(plan, store, discard=True).entries)
    sweep = InlineSweep(plan, env, scheduler)
    run_inline(scheduler, sweep.execute)
    return sweep
