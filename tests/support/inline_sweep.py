"""Runs a sweep's jobs in this process: the real stages and store, without Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import uuid
from collections.abc import Iterable, Iterator
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
from sweeps.stages.context import WorkerEnvironment, environment
from sweeps.stages.preflight import preflight
from sweeps.stages.run import limit_threads
from sweeps.store import LocalStore, Store, open_store
from sweeps.store.status import scan

_pool: list[Path] = []


@contextlib.contextmanager
def results_kept_in(pool: Path) -> Iterator[None]:
    """Inline sweeps begin with copies of what earlier ones computed, of other processes too.

    A key says all that a result depends on, so a copy is what would be computed. A test may spoil
    the copies of its own folder.
    """
    _pool.append(pool)
    yield
    _pool.pop()


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


def inline_sweep(
    folder: Path, *overrides: str, fresh: bool = False, device: str = "cpu"
) -> InlineSweep:
    """All jobs of a sweep, run one after the other with one thread, as workers do.

    Args:
        folder: The sweep's output folder.
        overrides: The command.
        fresh: Whether every job that the store has not is computed, whoever computed it before.
        device: On which; results of another than the processor are nobody else's.
    """
    spec = load([*overrides, f"output_dir={folder}"])
    plan = expand(spec.sweep)
    store = open_store(spec.places.store_uri)
    is_shared = not fresh and device == "cpu" and isinstance(store, LocalStore)
    pool = _pool[-1] if _pool and is_shared else None
    datasets = spec.sweep.datasets.values()
    folders = {index_job(it).key: folder_of(it, spec.places) for it in datasets}
    drawn = {f"data/{folders[index_job(it).key].name}" for it in datasets if it.generate}
    if pool is not None:
        _copy({*drawn, *map(_place, plan.jobs.values())}, pool, folder)
    for dataset in datasets:
        ensure_generated(dataset, spec.places, lambda _done, _total: None, workers=1)
    env = dataclasses.replace(environment(spec, store, folders), device=device)
    preflight(plan.jobs.values(), env)
    limit_threads(1)
    found = scan(plan, store, discard=True)
    scheduler = Scheduler(plan.jobs, found.entries)
    sweep = InlineSweep(plan, env, scheduler)
    run_inline(scheduler, sweep.execute)
    if pool is not None:
        _copy({*drawn, *(_place(plan.jobs[key]) for key in found.reasons)}, folder, pool)
    return sweep


def _place(job: Job) -> str:
    return f"store/{job.stage}/{job.key}"


def _copy(names: Iterable[str], source: Path, target: Path) -> None:
    """Copy those folders that are there to where they are not, each at once for all who look."""
    for name in names:
        if (target / name).exists() or not (source / name).exists():
            continue
        half = target / f".copy-{uuid.uuid4().hex}"
        shutil.copytree(source / name, half)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            half.rename(target / name)
        except OSError:
            # Another process was faster.
            shutil.rmtree(half)
