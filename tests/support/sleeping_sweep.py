"""A sweep of jobs that only sleep, on a Ray cluster that is there: ADDRESS FOLDER JOBS SECONDS.

Each job that ends adds a line to ``ended`` in the folder.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.config import load
from sweeps.executor.worker import Outcome
from sweeps.graph.job import Job
from sweeps.graph.launch import ClusterSpec
from sweeps.schedule.estimates import Estimates
from sweeps.schedule.resources import ResourceRequests
from sweeps.schedule.scheduler import Scheduler
from sweeps.stages.context import WorkerEnvironment
from sweeps.store import LocalStore


def main(address: str, folder: Path, count: int, seconds: float) -> None:
    """Run them all."""
    os.environ["RAY_ADDRESS"] = address
    from sweeps.executor.tune import make_slots, ray_cluster, run_sweep

    jobs = {}
    for number in range(count):
        job = Job(stage="unlearn", spec={"n": number}, inputs={}, label=str(number))
        jobs[job.key] = job
    ended = folder / "ended"

    def run(job: Job, *_: Any, **__: Any) -> Outcome:
        time.sleep(seconds)
        with ended.open("a", encoding="utf-8") as stream:
            stream.write(f"{job.key}\n")
        return Outcome(cost={"seconds": seconds})

    def prepare(_jobs: Mapping[str, Job], _env: WorkerEnvironment) -> str:
        return ""

    cluster = ClusterSpec(mode="existing", gpus_per_worker=0.0)
    with ray_cluster(cluster, folder):
        env = WorkerEnvironment(store=LocalStore(folder / "store"), data_folders={}, logs=folder)
        requests = ResourceRequests(load(["sweep=smoke"]).sweep, cluster, {})
        estimates = Estimates(jobs, [(job, seconds) for job in jobs.values()])
        scheduler = Scheduler(jobs, estimates=estimates, request=requests.request)
        slots = make_slots(cluster, requests)
        run_sweep(
            scheduler,
            jobs,
            env,
            cluster,
            slots,
            requests,
            lambda: None,
            run=run,
            prepare=prepare,
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
