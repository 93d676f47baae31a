"""``mode=status``: what a sweep is at, from the store and its leases alone.

Any shell may ask, of a sweep that runs here, elsewhere, by several drivers or not at all; nothing
is written. How long a job has been running is told by the clocks of the machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console

from sweeps.cli.console import say
from sweeps.cli.progress import live_view, plain_line
from sweeps.cli.words import duration, eta, several
from sweeps.command import lasting, shell_line
from sweeps.graph.launch import LaunchSpec
from sweeps.graph.plan import Plan, expand
from sweeps.schedule.estimates import Estimates
from sweeps.schedule.scheduler import Scheduler, Snapshot
from sweeps.store import Entry, Store
from sweeps.store.leases import Holder, name_of
from sweeps.store.status import measured, scan

_RECENT_SECONDS = 10.0
"""A worker whose last job ended so long ago is between two jobs."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen.

    Attributes:
        snapshot: Jobs by state, and what is left.
        workers: Processes that are at jobs.
        given_up: Jobs whose worker has ended in the middle.
        last: Seconds since the newest result; None without any.
    """

    snapshot: Snapshot
    workers: int
    given_up: int
    last: float | None


def look(plan: Plan, store: Store, clock: Callable[[], float] = time.time) -> Look:
    """See what the store and its leases say now."""
    entries = scan(plan, store, discard=False).entries
    now = clock()
    at_work: dict[str, Holder] = {}
    given_up = 0
    holders = store.leases.holders({name_of(job.stage, key) for key, job in plan.jobs.items()})
    for key, job in plan.jobs.items():
        holder = holders.get(name_of(job.stage, key))
        if holder is None or key in entries:
            continue
        if holder.is_dead:
            given_up += 1
        else:
            at_work[key] = holder
    workers = {holder.process for holder in at_work.values()}
    workers |= _between_jobs(entries, now) if at_work else set()
    scheduler = Scheduler(
        plan.jobs,
        entries,
        workers=max(1, len(workers), len(at_work)),
        estimates=Estimates(plan.jobs, measured(plan, entries, "seconds")),
    )
    for key, holder in at_work.items():
        spent = max(0.0, now - holder.since) if holder.since else 0.0
        scheduler.adopt(key, holder.process, spent)
    ends = [_end(entry) for entry in entries.values() if "started" in entry.cost]
    return Look(
        snapshot=scheduler.snapshot(),
        workers=len(workers),
        given_up=given_up,
        last=max(0.0, now - max(ends)) if ends else None,
    )


def _end(entry: Entry) -> float:
    return float(entry.cost["started"]) + float(entry.cost.get("seconds", 0.0))


def _between_jobs(entries: Mapping[str, Entry], now: float) -> set[str]:
    timed = [entry for entry in entries.values() if "started" in entry.cost]
    recent = (entry for entry in timed if now - _end(entry) < _RECENT_SECONDS)
    return {str(entry.cost["worker"]) for entry in recent if "worker" in entry.cost}


def show_status(spec: LaunchSpec, store: Store, console: Console) -> None:
    """Print it: on a terminal as the live view does, elsewhere as one line."""
    seen = look(expand(spec.sweep), store)
    snapshot = seen.snapshot
    is_open = any(snapshot.total(state) for state in ("waiting", "ready", "running"))
    last = "" if seen.last is None else f"the newest result is {duration(seen.last)} old"
    if not is_open:
        note = f"finished; {last}"
    elif seen.workers:
        note = f"{several(seen.workers, 'worker')}, left: {eta(snapshot.left)}; {last}"
    else:
        note = f"nobody is at it, {duration(snapshot.left.work)} of work left; {last}"
    if console.is_terminal:
        console.print(live_view(snapshot, spec.sweep.name, note.rstrip("; "), console))
    else:
        console.print(plain_line(snapshot, note.rstrip("; ")), highlight=False, soft_wrap=True)
    if seen.given_up:
        jobs = several(seen.given_up, "job")
        console.print(f"{jobs} had begun in a process that has ended; they begin again")
    if is_open and not seen.workers:
        again = shell_line(lasting(spec.command))
        say(console, again, "go on with: ", is_command=True)
