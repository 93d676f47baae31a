"""``launch.py`` on machines whose GPUs exist in Ray's books only: jobs compute on the processor."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Mapping

from sweeps.cli import main
from sweeps.executor import tune
from sweeps.executor.trainable import prepare_worker
from sweeps.executor.worker import Outcome, execute
from sweeps.graph.job import Job
from sweeps.stages.context import WorkerEnvironment


def run(
    job: Job, jobs: Mapping[str, Job], env: WorkerEnvironment, *, stale_lease: int = 0
) -> Outcome:
    return execute(job, jobs, dataclasses.replace(env, device="cpu"), stale_lease=stale_lease)


def prepare(jobs: Mapping[str, Job], env: WorkerEnvironment) -> str:
    return prepare_worker(jobs, dataclasses.replace(env, device="cpu"))


if __name__ == "__main__":
    tune.run_sweep = functools.partial(tune.run_sweep, run=run, prepare=prepare)
    sys.exit(main(sys.argv[1:]))
