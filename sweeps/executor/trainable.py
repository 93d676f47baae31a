"""The warm process that runs jobs: one class for Ray Tune, reused from job to job."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from oneshui.errors import InputError
from sweeps.executor.worker import Outcome, execute
from sweeps.graph.job import Job
from sweeps.stages.context import WorkerEnvironment
from sweeps.stages.devices import device_of_share
from sweeps.stages.memory import gpu_bytes
from sweeps.stages.preflight import preflight
from sweeps.stages.run import warm_up
from sweeps.store import DamagedEntryError

if TYPE_CHECKING:
    from sweeps.executor.known_state import KnownState

logger = logging.getLogger("oneshui.worker")
Execute = Callable[..., Outcome]


def prepare_worker(jobs: Mapping[str, Job], env: WorkerEnvironment) -> str:
    """Import what jobs need and check that they can run here; why they cannot, or nothing."""
    try:
        warm_up(env)
        preflight(jobs.values(), env)
    except InputError as error:
        return str(error)
    except DamagedEntryError:
        # The job that reads the entry reports it, and it is computed again.
        return ""
    return ""


class JobTrainable(tune.Trainable):
    """Runs the job that a trial's config names; a trial without a job keeps the process warm."""

    def setup(
        self,
        config: dict[str, Any],
        jobs: Mapping[str, Job] | None = None,
        env: WorkerEnvironment | None = None,
        run: Execute = execute,
        prepare: Callable[[Mapping[str, Job], WorkerEnvironment], str] = prepare_worker,
    ) -> None:
        """Keep the graph and the environment; called once per process.

        Args:
            config: Of the trial.
            jobs: The graph.
            env: What a worker knows.
            run: Runs one job under its lease.
            prepare: Makes the process ready for its first job.
        """
        assert jobs is not None
        assert env is not None
        device = device_of_share(env.accelerator) if config["gpus"] else env.device
        node = ray.get_runtime_context().get_node_id()
        self._jobs, self._env = jobs, dataclasses.replace(env, device=device, node=node)
        self._run, self._prepare = run, prepare
        self._config = config
        self._refused: str | None = None
        self._process = f"{socket.gethostname()}:{os.getpid()}"
        self._known: KnownState | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next job without a new process."""
        self._config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Run the job; its failure is a value, so that the process stays."""
        if self._refused is None:
            self._refused = self._prepare(self._jobs, self._env)
            # Not above: the driver, which only names this class, would load torch and timm for it.
            from sweeps.executor.known_state import KnownState

            self._known = KnownState.take()
        shared = {
            "process": self._process,
            "node": self._env.node,
            "refused": self._refused,
            "gpu_bytes": gpu_bytes(self._env.device),
        }
        job = self._config["job"]
        if not job:
            time.sleep(self._config["poll_seconds"])
            return shared
        if self._refused:
            return {**shared, "failure": "", "done": True}
        stale = self._config["stale_lease"]
        outcome = self._run(self._jobs[job], self._jobs, self._env, stale_lease=stale)
        self._clean_up(self._jobs[job])
        failure = outcome.failure
        # As text, because Tune takes nested results apart.
        text = json.dumps(dataclasses.asdict(failure)) if failure else ""
        cost = json.dumps(dict(outcome.cost))
        return {**shared, "failure": text, "held": outcome.held, "cost": cost, "done": True}

    def _clean_up(self, job: Job) -> None:
        """Put the process back into the state that jobs begin with, or end it.

        What the job has published stays: whoever is asked for the job again finds it done.
        """
        assert self._known is not None
        changed = self._known.restore()
        left = self._known.left()
        if changed or left:
            logger.warning("%s left behind: %s", job.label, ", ".join([*changed, *left]))
        if left:
            os._exit(1)
