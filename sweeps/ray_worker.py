"""The warm process that runs jobs: one class for Ray Tune, reused from job to job."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from ray import tune

from oneshui.errors import InputError
from sweeps import stages
from sweeps.inputs import Environment
from sweeps.jobs import Job
from sweeps.store import DamagedEntryError
from sweeps.worker import execute

WARM_UP_POLL_SECONDS = 0.05


class JobTrainable(tune.Trainable):
    """Runs the job that a trial's config names; a trial without a job only warms the process."""

    def setup(
        self,
        config: dict[str, Any],
        jobs: Mapping[str, Job] | None = None,
        env: Environment | None = None,
    ) -> None:
        """Keep the graph and the environment; called once per process."""
        assert jobs is not None
        assert env is not None
        self._jobs, self._env = jobs, env
        self._job = config["job"]
        self._warm = False
        self._refused = ""

    def _preflight(self) -> str:
        try:
            stages.preflight(self._jobs.values(), self._env)
        except InputError as error:
            return str(error)
        except DamagedEntryError:
            # The job that reads the entry reports it, and it is computed again.
            return ""
        return ""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next job without a new process."""
        self._job = new_config["job"]
        return True

    def step(self) -> dict[str, Any]:
        """Run the job; its failure is a value, so that the process stays."""
        if not self._warm:
            stages.warm_up(self._env)
            self._refused = self._preflight()
            self._warm = True
        if not self._job:
            time.sleep(WARM_UP_POLL_SECONDS)
            return {"warm_pid": os.getpid(), "refused": self._refused}
        failure = execute(self._jobs[self._job], self._jobs, self._env)
        # As text, because Tune takes nested results apart.
        text = json.dumps(dataclasses.asdict(failure)) if failure else ""
        return {"failure": text, "done": True}
