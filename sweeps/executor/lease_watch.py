"""Watches the leases of a running sweep: jobs that others work on, and workers that hang."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from oneshui.errors import OneshuiError
from sweeps.graph.job import Job
from sweeps.schedule.scheduler import Scheduler
from sweeps.store import DamagedEntryError, Entry, Store
from sweeps.store.leases import Holder, Watch, name_of

logger = logging.getLogger("oneshui.lease_watch")
POLL_SECONDS = 1.0


class LeaseWatch:
    """Brings held jobs back when their holder is done or gone, and ends workers that hang."""

    def __init__(
        self,
        scheduler: Scheduler,
        store: Store,
        jobs: Mapping[str, Job],
        *,
        silence_seconds: float,
        job_seconds: float,
        kill: Callable[[Holder], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet.

        Args:
            scheduler: The graph's state.
            store: Where results and leases are.
            jobs: The graph.
            silence_seconds: Time without a beat after which a holder is given up.
            job_seconds: Time after which a job that still runs counts as hung.
            kill: Ends the process that holds a lease, wherever it is.
            clock: Seconds.
        """
        self._scheduler = scheduler
        self._store = store
        self._jobs = jobs
        self._names = {name_of(job.stage, key) for key, job in jobs.items()}
        self._silence = silence_seconds
        self._longest = job_seconds
        self._kill = kill
        self._clock = clock
        self._watch = Watch(clock)
        self._started: dict[str, float] = {}
        self._stale: dict[str, int] = {}
        self._given_up: dict[str, Holder] = {}
        self._hung: dict[str, str] = {}
        self._leased: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def __enter__(self) -> LeaseWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.poll()
            except (OSError, OneshuiError) as error:
                # A store that cannot be listed for a moment; the next look may succeed. Holders
                # that could not be seen were not silent.
                logger.warning("leases cannot be read: %s", error)
                self._watch = Watch(self._clock)

    def poll(self) -> None:
        """Look once."""
        holders = self._store.leases.holders(self._names)
        silence = self._watch.silence(holders)
        held = self._scheduler.keys("held")
        done = self._store.find_all(self._jobs[key] for key in held)
        for key in held:
            self._look_at_held(key, done.get(key), holders, silence)
        running = self._scheduler.keys("running")
        now = self._clock()
        self._started = {key: self._started.get(key, now) for key in running}
        leased = {key: holders[self._name(key)] for key in running if self._name(key) in holders}
        # A lease that was given up is what the job's next worker has yet to take over.
        leased = {key: one for key, one in leased.items() if one != self._given_up.get(key)}
        self._leased = set(leased)
        for key, holder in leased.items():
            self._scheduler.name_worker(key, holder.process)
            if key in self._hung:
                continue
            if silence[self._name(key)] > self._silence:
                self._end(key, holder, f"gave no sign of life for {self._silence:g} s")
            elif now - self._started[key] > self._longest:
                hours = self._longest / 3600
                self._end(key, holder, f"ran for more than cluster.max_job_hours={hours:g}")

    def _name(self, key: str) -> str:
        return name_of(self._jobs[key].stage, key)

    def _look_at_held(
        self,
        key: str,
        found: Entry | DamagedEntryError | None,
        holders: Mapping[str, Holder],
        silence: Mapping[str, float],
    ) -> None:
        name = self._name(key)
        holder = holders.get(name)
        if isinstance(found, Entry):
            self._scheduler.succeed(key)
        elif holder is None or holder.is_dead:
            self._scheduler.release(key)
        elif silence[name] > self._silence:
            self.lost(key, holder)
            self._scheduler.release(key)

    def _end(self, key: str, holder: Holder, why: str) -> None:
        self._hung[key] = f"its worker (process {holder.pid}) {why} and was ended"
        logger.warning("%s: %s", self._jobs[key].label, self._hung[key])
        self.lost(key, holder)
        self._kill(holder)

    def lost(self, key: str, holder: Holder) -> None:
        """The process that held the job's lease has ended, so that nobody waits for it."""
        self._stale[key] = holder.generation
        self._given_up[key] = holder

    def stale_lease(self, key: str) -> int:
        """Generation of the job's lease that nobody holds any more; 0 if there is none.

        To be asked whenever the job is handed out: its time begins anew.
        """
        self._started.pop(key, None)
        return self._stale.pop(key, 0)

    def is_leased(self, key: str) -> bool:
        """Whether a worker held the running job's lease at the last look."""
        return key in self._leased

    def why_hung(self, key: str) -> str:
        """Why the watch ended the job's worker; empty if it did not."""
        return self._hung.pop(key, "")
