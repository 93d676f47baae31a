"""Ends worker processes that give no sign of life while no lease could tell.

A lease says that a job's worker lives, but only from the job's begin on. Before that a process
can hang as well: while it starts, while it makes ready, between two jobs, or idle.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray._private import state
from typing_extensions import override

from sweeps.executor.searcher import GraphSearcher

logger = logging.getLogger("oneshui.watch")
LOOK_SECONDS = 1.0


def starting_workers() -> dict[str, tuple[int, str]]:
    """Process and node of each of our actors that is not ready yet, by the actor's name."""
    # Ray's public list of actors needs its dashboard.
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    found = state.actors(job_id=job, actor_state_name="PENDING_CREATION")
    return {
        name: (actor["Pid"], actor["Address"]["NodeID"])
        for name, actor in found.items()
        if actor["Pid"]
    }


class ProcessWatch(tune.Callback):
    """Kills the process of a trial that is silent for too long; Tune then reports it as lost."""

    def __init__(
        self,
        searcher: GraphSearcher,
        *,
        limit: float,
        end_process: Callable[[int, str], None],
        starting: Callable[[], dict[str, tuple[int, str]]] = starting_workers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch the trials of a searcher.

        Args:
            searcher: Knows which trials run a job under a lease.
            limit: Seconds of silence that are allowed.
            end_process: Ends a process that is not Tune's yet; gets its id and Ray's node.
            starting: Those processes.
            clock: Seconds.
        """
        self._searcher, self._limit, self._clock = searcher, limit, clock
        self._end_process, self._starting = end_process, starting
        self._looked = clock()
        self._signs: dict[str, float] = {}
        self._ended: set[str] = set()

    @override
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial has a process, new or used."""
        self._searcher.on_start(trial.trial_id)

    @override
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """The trial's process lives."""
        self._signs[trial.trial_id] = self._clock()

    @override
    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look at all processes, once a second."""
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        actors = {trial.trial_id: trial.temporary_state.ray_actor for trial in trials}
        starting = self._starting()
        watched = [name for name, actor in actors.items() if actor is not None]
        before = self._signs
        self._signs = {name: before.get(name, now) for name in (*watched, *starting)}
        for name in watched:
            if self._searcher.is_leased(name):
                self._signs[name] = now
        for name, sign in self._signs.items():
            if now - sign <= self._limit or name in self._ended:
                continue
            self._ended.add(name)
            if name in starting:
                logger.warning("a worker process did not start in %g s", self._limit)
                self._end_process(*starting[name])
            else:
                self._searcher.on_silence(name, self._limit)
                ray.kill(actors[name])

    def __getstate__(self) -> dict[str, Any]:
        return {}
