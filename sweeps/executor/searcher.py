"""Hands the jobs of a graph to Ray Tune, one trial each, and keeps a warm process in every slot.

How Tune treats a Searcher, and what was measured, is in docs/decisions/0002 and 0007.
"""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from oneshui.errors import InputError, OneshuiError
from sweeps.executor.lease_watch import LeaseWatch
from sweeps.graph.job import Job, log_path
from sweeps.schedule.failure import Failure
from sweeps.schedule.resources import ResourceRequests
from sweeps.schedule.room import Node
from sweeps.schedule.scheduler import Scheduler
from sweeps.schedule.slots import Placement, Slots
from sweeps.store.leases import Holder

logger = logging.getLogger("oneshui.searcher")
WARM_UP_DEADLINE_SECONDS = 120.0
LOOK_SECONDS = 1.0
BRIDGE_SECONDS = 20.0
"""How long a process without a job is kept where machines cost while they are there."""

_REMEMBERED = 64
"""Results that a worker is taken to have at hand."""

_IDLE_LOOKS = 0.1
_SLOTS_PER_LOOK = 16
"""Idle trials report every tenth of a second, less often where there are many."""


class GraphSearcher(Searcher):
    """Hands Tune jobs whose inputs are done, and idle trials for slots that have none.

    Tune pickles its searcher into snapshots; only a name is left in them.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        slots: Slots,
        requests: ResourceRequests,
        watch: LeaseWatch,
        *,
        jobs: Mapping[str, Job],
        logs: Path,
        look: Callable[[], list[Node]],
        holder: Callable[[Job], Holder | None],
        is_gone: Callable[[str], bool],
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect the graph's state with the cluster's.

        Args:
            scheduler: Which jobs are ready.
            slots: Where they may run.
            requests: What they ask for.
            watch: What is known about leases.
            jobs: The graph.
            logs: Folder of the log files.
            look: The machines of the cluster now.
            holder: The newest lease of a job.
            is_gone: Whether Ray's machine of this name has left the cluster.
            on_change: Called when a job starts or ends.
            clock: Seconds.
        """
        super().__init__(metric=None, mode=None)
        self._scheduler, self._slots, self._requests = scheduler, slots, requests
        self._watch, self._jobs, self._logs = watch, jobs, logs
        self._look, self._holder, self._is_gone = look, holder, is_gone
        self._on_change = on_change
        self._clock = clock
        self._looked = clock()
        self._cold_since = clock()
        self._idle: set[str] = set()
        self._key_of: dict[str, str] = {}
        self._known: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._silent: dict[str, str] = {}
        self._idle_since: dict[str, float] = {}
        self._failed_starts = 0
        self.processes: set[str] = set()
        self.num_idle_trials = 0
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        """A job, an idle trial, None (ask again later), or FINISHED; never raises."""
        try:
            return self._suggest(trial_id)
        except Exception as error:
            self.error = error
            self._scheduler.stop()
            return Searcher.FINISHED

    def _suggest(self, trial_id: str) -> Any:
        if self.is_over:
            return Searcher.FINISHED
        now = self._clock()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            self._slots.nodes = self._look()
        most = self._scheduler.num_open
        if self._slots.is_warm(most):
            self._cold_since = now
        patient = now - self._cold_since < WARM_UP_DEADLINE_SECONDS
        placement = self._slots.place(self._scheduler.ready(), most, patient=patient)
        if placement is None:
            return None
        key, stale = "", 0
        if not placement.idle:
            job = self._scheduler.next(placement.request, self._known.get(placement.process, ()))
            assert job is not None
            key, stale = job.key, self._watch.stale_lease(job.key)
            self._key_of[trial_id] = key
            self._on_change()
        else:
            self._idle.add(trial_id)
            self.num_idle_trials += 1
        self._slots.start(trial_id, placement)
        return self._config(key, stale, placement)

    def _config(self, key: str, stale: int, placement: Placement) -> dict[str, Any]:
        request = placement.request
        return {
            "job": key,
            "stale_lease": stale,
            "poll_seconds": _IDLE_LOOKS * max(1.0, self._slots.count() / _SLOTS_PER_LOOK),
            "cpus": request.cpus,
            "gpus": request.gpus,
            "memory_gb": request.memory_gb,
        }

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be handed out."""
        return self.error is not None or self._scheduler.finished

    def on_idle_result(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Note what an idle trial reports; whether it shall end now."""
        self._note_process(result)
        if self._slots.elastic:
            since = self._idle_since.setdefault(trial_id, self._clock())
            if self._clock() - since > BRIDGE_SECONDS:
                self._slots.release(trial_id)
        if self._slots.is_crowded and not self._slots.is_ending(trial_id):
            self._slots.release(trial_id)
        return self._slots.warm(trial_id, result["process"]) or self.is_over

    def _note_process(self, result: Mapping[str, Any]) -> None:
        self.processes.add(result["process"])
        self._failed_starts = 0
        if result["refused"] and self.error is None:
            self.error = InputError(result["refused"])
            self._scheduler.stop()
        if result["gpu_bytes"]:
            known = self._requests.gpu_bytes or result["gpu_bytes"]
            self._requests.gpu_bytes = min(known, result["gpu_bytes"])

    def on_start(self, trial_id: str) -> None:
        """Note that a trial has its process."""
        self._slots.begin(trial_id)
        if trial_id in self._key_of:
            self._scheduler.begin(self._key_of[trial_id])

    def is_leased(self, trial_id: str) -> bool:
        """Whether the trial's job has begun, so that its lease tells whether its worker lives."""
        key = self._key_of.get(trial_id)
        return key is not None and self._watch.is_leased(key)

    def on_silence(self, trial_id: str, seconds: float) -> None:
        """Note that a trial's process gives no sign of life and is ended."""
        why = f"its worker gave no sign of life for {seconds:g} s and was ended"
        key = self._key_of.get(trial_id)
        if key is not None:
            self._silent[key] = why
        logger.warning("%s: %s", self._jobs[key].label if key else "no job", why)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note the outcome; never raises, because Tune would call again with an error."""
        try:
            self._complete(trial_id, result, error)
        except Exception as problem:
            self.error = problem
            self._scheduler.stop()
        self._on_change()

    def _complete(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        alive = not error and result is not None and "process" in result
        process = result["process"] if result is not None and alive else ""
        if trial_id in self._idle:
            self._idle.discard(trial_id)
            self._idle_since.pop(trial_id, None)
            self._slots.end(trial_id, process)
            self._failed_starts += error
            if self._failed_starts > 3 + self._slots.count():
                raise OneshuiError(
                    "worker processes end as soon as they start; is there enough memory for "
                    f"{self._slots.count()} of them? lower cluster.workers"
                )
            return
        key = self._key_of.pop(trial_id, None)
        if key is None:
            return
        self._slots.end(trial_id, process)
        if result is None or "failure" not in result or not alive:
            self._lose(key)
            return
        self._note_process(result)
        if result["refused"]:
            return
        job = self._jobs[key]
        self._known[process].extend([*job.needs, key])
        if result["held"]:
            self._scheduler.hold(key)
        elif result["failure"]:
            failure = Failure(**json.loads(result["failure"]))
            if failure.kind == "memory":
                self._requests.enlarge(job, lambda r: self._slots.infeasible([r]) is None)
            self._scheduler.fail(key, failure)
        else:
            cost = json.loads(result["cost"])
            self._requests.record(job, cost.get("peak_gpu_bytes", 0.0))
            self._scheduler.succeed(key, cost.get("seconds"), process)

    def _lose(self, key: str) -> None:
        try:
            holder = self._holder(self._jobs[key])
        except OSError as error:
            # A store that does not answer for a moment: whoever takes the job over will see.
            logger.warning("%s: who held it is not known: %s", self._jobs[key].label, error)
            holder = None
        ours = holder is not None and holder.process in self.processes
        if holder is not None and ours:
            self._watch.lost(key, holder)
        hung = self._watch.why_hung(key) or self._silent.pop(key, "")
        log = log_path(self._logs, key)
        if hung:
            failure = Failure(kind="hung", message=f"{hung} (log: {log})")
        elif holder is not None and ours and holder.node and self._is_gone(holder.node):
            failure = Failure(kind="preempted", message="its machine left the cluster")
        else:
            message = f"its worker process ended without a result (log: {log})"
            failure = Failure(kind="lost", message=message)
        self._scheduler.fail(key, failure)

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


class IdleStopper(tune.Stopper):
    """Ends idle trials when a job wants their slot, and all of them in the end."""

    def __init__(self, searcher: GraphSearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether this trial shall end now."""
        if "failure" in result:
            return True
        return self._searcher.on_idle_result(trial_id, result)

    def stop_all(self) -> bool:
        """The graph decides when all is done, not the stopper."""
        return False

    def __getstate__(self) -> dict[str, Any]:
        return {}
