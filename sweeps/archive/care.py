"""What a store holds, for whom, and what may go: the results that no known sweep's plan reaches.

Every run records in the store which results its plan reaches, under the output folder's name, so
the last plan of a folder counts. Recorded are keys, not specifications: a sweep that was run by an
earlier version of oneshui keeps its results. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from oneshui.errors import InputError
from sweeps.graph.job import Stage, digest
from sweeps.graph.plan import Plan
from sweeps.store import DamagedEntryError, Entry, Store
from sweeps.store.leases import name_of
from sweeps.store.objects import in_parallel

FRESH_SECONDS = 3600.0
"""A result that is younger may be of a run that began when nothing was recorded yet."""
LOOKUPS = 32
"""Manifests that are read at the same time, which in a bucket takes a request each."""
AGES = ((86400.0, "a day"), (7 * 86400.0, "a week"), (30 * 86400.0, "a month"))
Which = tuple[Stage, str]
"""Stage and key of a result."""


@dataclass(frozen=True, kw_only=True)
class User:
    """A sweep that uses a store.

    Attributes:
        sweep: Its name.
        folder: Its output folder.
        host: Machine whose folder that is; empty if it is not known.
        reached: The results that its plan reaches.
    """

    sweep: str
    folder: str
    host: str
    reached: frozenset[Which]

    @property
    def is_gone(self) -> bool:
        """Whether its folder is known to have been removed."""
        return self.host == socket.gethostname() and not Path(self.folder).exists()

    @classmethod
    def of(cls, plan: Plan, output: Path) -> User:
        """A sweep of this machine."""
        reached = frozenset((job.stage, key) for key, job in plan.jobs.items())
        folder = str(output.absolute())
        return cls(sweep=plan.sweep.name, folder=folder, host=socket.gethostname(), reached=reached)


def note_use(store: Store, plan: Plan, output: Path) -> None:
    """Record that a sweep uses the store, in place of what its folder reached before."""
    user = User.of(plan, output)
    name = digest([user.host, user.folder])[:16]
    document = {
        "sweep": user.sweep,
        "folder": user.folder,
        "host": user.host,
        "jobs": sorted(f"{stage}/{key}" for stage, key in user.reached),
    }
    # A run that has nothing to do changes nothing.
    if store.users().get(name) != document:
        store.note_user(name, document)


def users(store: Store) -> list[User]:
    """The sweeps that are recorded.

    Raises:
        InputError: A record cannot be read: nobody knows what it keeps.
    """
    found = []
    for name, document in store.users().items():
        try:
            jobs = [job.partition("/") for job in document["jobs"]]
            found.append(
                User(
                    sweep=str(document["sweep"]),
                    folder=str(document["folder"]),
                    host=str(document["host"]),
                    reached=frozenset((stage, key) for stage, _, key in jobs),
                )
            )
        except (LookupError, TypeError, AttributeError):
            raise InputError(
                f"plans/{name}.json in {store.address} cannot be read; remove it, and say mode=run "
                "again for the sweep that wrote it"
            ) from None
    return found


@dataclass(frozen=True, kw_only=True)
class Holding:
    """One result of a store.

    Attributes:
        stage: Of its job.
        key: Of its job.
        size: In bytes.
        ended: When it was computed, in seconds since 1970; None where nothing sound says so.
    """

    stage: Stage
    key: str
    size: int
    ended: float | None

    @property
    def which(self) -> Which:
        """Stage and key."""
        return self.stage, self.key


def holdings(store: Store) -> list[Holding]:
    """All that is stored."""
    sizes = store.holdings()

    def ended(which: Which) -> float | None:
        try:
            return _ended(store.find(*which))
        except DamagedEntryError:
            return None

    ends = in_parallel(ended, sizes, LOOKUPS)
    return [
        Holding(stage=stage, key=key, size=size, ended=end)
        for ((stage, key), size), end in zip(sizes.items(), ends, strict=True)
    ]


def _ended(entry: Entry | None) -> float | None:
    try:
        return float(entry.cost["started"]) + float(entry.cost["seconds"]) if entry else None
    except (LookupError, TypeError, ValueError):
        return None


def age_of(holding: Holding, now: float) -> str:
    """In words: under a day, a week or a month, older, or unknown."""
    if holding.ended is None:
        return "unknown"
    age = now - holding.ended
    return next((f"under {name}" for limit, name in AGES if age < limit), "older")


@dataclass(frozen=True, kw_only=True)
class Unreachable:
    """What no plan that counts reaches.

    Attributes:
        removable: What may go.
        fresh: Stays: it is young, its age is unknown, or somebody is at it.
    """

    removable: tuple[Holding, ...]
    fresh: tuple[Holding, ...]


def unreachable(
    store: Store, held: Iterable[Holding], counted: Collection[User], now: float
) -> Unreachable:
    """Tell what may be removed.

    Args:
        store: For its leases.
        held: All that it holds.
        counted: Sweeps whose results stay.
        now: Seconds since 1970.

    Raises:
        InputError: A job runs for a sweep that is none of those: what it needs is not known.
    """
    reached = frozenset[Which]().union(*(user.reached for user in counted))
    at_work = {name for name, holder in store.leases.holders().items() if not holder.is_dead}
    strange = sorted(at_work - {name_of(*which) for which in reached})
    if strange:
        raise InputError(
            f"{strange[0]} is worked on for a sweep that is not known here; prune when it has "
            "ended, or name its output folder in keep"
        )
    loose = [one for one in held if one.which not in reached]
    young = [one for one in loose if one.ended is None or now - one.ended < FRESH_SECONDS]
    stays = {one.which for one in young}
    return Unreachable(
        removable=tuple(one for one in loose if one.which not in stays), fresh=tuple(young)
    )
