"""``launch.py`` on machines whose GPUs exist in Ray's books only: jobs compute on the processor."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Mapping

from sweeps import ray_engine
from sweeps.driver import main
from sweeps.inputs import Environment
from sweeps.jobs import Job
from sweeps.ray_worker import prepare_worker
from sweeps.worker import Outcome, execute


def run(job: Job, jobs: Mapping[str, Job], env: Environment, *, stale_lease: int = 0) -> Outcome:
    return execute(job, jobs, dataclasses.replace(env, device="cpu"), stale_lease=stale_lease)


def prepare(jobs: Mapping[str, Job], env: Environment) -> str:
    return prepare_worker(jobs, dataclasses.replace(env, device="cpu"))


if __name__ == "__main__":
    ray_engine.run_sweep = functools.partial(ray_engine.run_sweep, run=run, prepare=prepare)
    sys.exit(main(sys.argv[1:]))
