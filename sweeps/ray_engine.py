"""One Ray Tune run for a whole sweep: trials are jobs, handed out as their inputs get done.

What was measured, and why it is done this way, is in docs/decisions/0002-ray-tune-as-executor.md.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from oneshui.errors import InputError, OneshuiError
from sweeps.engine import Failure, Scheduler
from sweeps.inputs import Environment
from sweeps.jobs import Job
from sweeps.spec import ClusterSpec
from sweeps.worker import log_path

_SETTINGS = {
    # Ray would ship the whole environment to the workers when the driver was started by uv.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C must end the sweep, not only ask Tune to stop at its convenience.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # Its snapshots are not what we resume from.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

from sweeps.ray_worker import JobTrainable  # noqa: E402

WARM_UP_DEADLINE_SECONDS = 120.0
OBJECT_STORE_BYTES = 100 * 1024 * 1024

OnChange = Callable[[], None]


class GraphSearcher(Searcher):
    """Hands Tune the jobs of a graph, after one warm-up trial per slot.

    Tune pickles its searcher into snapshots; only a name is left in them.
    """

    def __init__(self, scheduler: Scheduler, slots: int, logs: Path, on_change: OnChange) -> None:
        super().__init__(metric=None, mode=None)
        self._scheduler = scheduler
        self._logs = logs
        self._on_change = on_change
        self._warm_ups_to_start = slots
        self._warm_ups_to_repeat = slots
        self._warming: set[str] = set()
        self._key_of: dict[str, str] = {}
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        """A job, a warm-up, None (ask again later), or FINISHED; never raises."""
        try:
            return self._suggest(trial_id)
        except Exception as error:
            self.error = error
            return Searcher.FINISHED

    def _suggest(self, trial_id: str) -> Any:
        if self._scheduler.finished:
            return Searcher.FINISHED
        if self._warm_ups_to_start:
            self._warm_ups_to_start -= 1
            self._warming.add(trial_id)
            return {"job": ""}
        if self._warming:
            return None
        job = self._scheduler.next()
        if job is None:
            return None
        self._key_of[trial_id] = job.key
        self._on_change()
        return {"job": job.key}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note the outcome; never raises, because Tune would call again with an error."""
        try:
            self._complete(trial_id, result, error)
        except Exception as problem:
            self.error = problem
        self._on_change()

    def _complete(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        if trial_id in self._warming:
            self._warming.discard(trial_id)
            if result is not None and result.get("refused"):
                self.error = InputError(result["refused"])
                self._scheduler.stop()
            if error and self._warm_ups_to_repeat:
                self._warm_ups_to_repeat -= 1
                self._warm_ups_to_start += 1
            return
        key = self._key_of.pop(trial_id, None)
        if key is None:
            return
        if error or result is None or "failure" not in result:
            log = log_path(self._logs, key)
            message = f"its worker process ended without a result (log: {log})"
            self._scheduler.fail(key, Failure(kind="lost", message=message))
            # The freed slot would stay empty while short jobs reuse the surviving processes.
            self._warm_ups_to_start += 1
        elif result["failure"]:
            self._scheduler.fail(key, Failure(**json.loads(result["failure"])))
        else:
            self._scheduler.succeed(key)

    def save(self, checkpoint_path: str) -> None:
        """Leave nothing of the graph in Tune's snapshot; the store is what we resume from."""
        Path(checkpoint_path).write_text("oneshui resumes from its store\n", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Refuse.

        Raises:
            OneshuiError: Always.
        """
        raise OneshuiError(f"{checkpoint_path}: a sweep resumes from its store, not from Tune")

    def __getstate__(self) -> dict[str, Any]:
        return {}


class WarmUpStopper(tune.Stopper):
    """Ends warm-up trials as soon as every slot has a process, or the deadline has passed."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._pids: set[int] = set()
        self._first: float | None = None

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Whether this trial shall end now."""
        if "warm_pid" not in result:
            return True
        now = time.monotonic()
        self._first = self._first or now
        self._pids.add(result["warm_pid"])
        return len(self._pids) >= self._slots or now - self._first > WARM_UP_DEADLINE_SECONDS

    def stop_all(self) -> bool:
        """The graph decides when all is done, not the stopper."""
        return False


@contextlib.contextmanager
def ray_cluster(cluster: ClusterSpec, output_dir: Path) -> Iterator[None]:
    """Start Ray on this machine, or join the cluster that the driver is on.

    Raises:
        InputError: There is no cluster to join.
    """
    for name in ("ray", "ray.tune", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not os.access(Path.home(), os.W_OK):
        # Ray keeps the cluster's token in the home folder, which cannot be written here.
        os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(output_dir / ".ray_auth_token"))
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if cluster.mode == "existing":
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            raise InputError(
                "cluster=existing found no Ray cluster on this machine; start one, or use "
                "cluster=local"
            ) from None
    else:
        ray.init(
            address="local",
            num_cpus=_local_workers(cluster) * cluster.cpus_per_worker,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _local_workers(cluster: ClusterSpec) -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cluster.workers or max(1, (available or 1) // cluster.cpus_per_worker)


def _resources() -> dict[str, float]:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def slots_of(cluster: ClusterSpec) -> int:
    """Jobs that the running cluster can hold at the same time.

    Raises:
        InputError: Not even one: it would wait for ever.
    """
    resources = _resources()
    slots = int(resources.get("CPU", 0) // cluster.cpus_per_worker)
    if cluster.gpus_per_worker:
        slots = min(slots, int(resources.get("GPU", 0) / cluster.gpus_per_worker + 1e-6))
    if slots < 1:
        raise InputError(
            f"a job asks for {cluster.cpus_per_worker} CPU and {cluster.gpus_per_worker:g} GPU, "
            f"but the cluster has {resources.get('CPU', 0):g} and {resources.get('GPU', 0):g}; "
            "lower cluster.cpus_per_worker or cluster.gpus_per_worker"
        )
    return min(slots, cluster.workers) if cluster.workers else slots


def run_sweep(
    scheduler: Scheduler,
    jobs: Mapping[str, Job],
    env: Environment,
    cluster: ClusterSpec,
    on_change: OnChange,
) -> None:
    """Run all jobs that the scheduler hands out, on the running cluster, as one Tune run.

    Args:
        scheduler: The graph's state; says in the end what was done and what failed.
        jobs: The whole graph.
        env: What workers need to know.
        cluster: Resources of one job.
        on_change: Called when a job starts or ends.

    Raises:
        InputError: The cluster cannot hold one job.
        OneshuiError: Tune ended before the graph did.
    """
    slots = slots_of(cluster)
    searcher = GraphSearcher(scheduler, slots, env.logs, on_change)
    request = {"CPU": float(cluster.cpus_per_worker)}
    if cluster.gpus_per_worker:
        request["GPU"] = cluster.gpus_per_worker
        env = replace(env, device="cuda")
    trainable = tune.with_parameters(JobTrainable, jobs=dict(jobs), env=env)
    with tempfile.TemporaryDirectory(prefix="oneshui-tune-") as folder:
        tuner = tune.Tuner(
            tune.with_resources(trainable, request),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=slots,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=folder,
                stop=WarmUpStopper(slots),
                failure_config=tune.FailureConfig(max_failures=0),
                # Tune saves class trainables at the end unless told not to; ours have no state.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )
        tuner.fit()
    if searcher.error is not None:
        raise searcher.error
    if not scheduler.finished:
        raise OneshuiError("Ray Tune ended before the sweep did; run the same command again")
