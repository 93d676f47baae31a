"""The trials that occupy a cluster, counted as they change: no question looks through all of them.

Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sweeps.schedule.room import Request


@dataclass
class Trial:
    """What one trial is doing.

    Attributes:
        request: Its shape.
        idle: Whether it only keeps or makes a process warm.
        process: Name of its process; "" while that is not known.
        ending: Whether it was told to end.
        waiting: Whether it waits for the end of a running trial.
        given_up: Whether its process ends with it, to make room for another shape.
        pending: Whether it waits for a machine.
    """

    request: Request
    idle: bool
    process: str = ""
    ending: bool = False
    waiting: bool = False
    given_up: bool = False
    pending: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it occupies a slot."""
        return not (self.ending or self.waiting)


class Trials:
    """Trials by name, and how many of each shape do what.

    Attributes:
        active: Trials that occupy a slot, by shape.
        cold: Those among them that bring up a process.
        given_up: Trials whose process makes room for another shape.
        heirs: Trials that wait for a running one of their shape.
        at_work: Jobs that run and were not told to end.
    """

    def __init__(self) -> None:
        self._trials: dict[str, Trial] = {}
        self._warm: dict[Request, dict[str, None]] = {}
        self._takers: dict[Request, dict[str, None]] = {}
        self.active: Counter[Request] = Counter()
        self.cold: Counter[Request] = Counter()
        self.given_up: Counter[Request] = Counter()
        self.heirs: Counter[Request] = Counter()
        self.at_work: Counter[Request] = Counter()

    def __getitem__(self, name: str) -> Trial:
        return self._trials[name]

    def get(self, name: str) -> Trial | None:
        """The trial of that name, if there is one."""
        return self._trials.get(name)

    def add(self, name: str, trial: Trial) -> None:
        """Count a new trial."""
        self._trials[name] = trial
        self._count(name, 1)

    def change(self, name: str, **values: Any) -> None:
        """Change fields of a trial; the only way to, so that the counts stay right."""
        self._count(name, -1)
        for field, value in values.items():
            setattr(self._trials[name], field, value)
        self._count(name, 1)

    def pop(self, name: str) -> Trial:
        """Forget a trial that ended."""
        self._count(name, -1)
        return self._trials.pop(name)

    def warm(self, request: Request) -> list[str]:
        """Idle trials of a shape that may be displaced: they have a process."""
        return list(self._warm.get(request, ()))

    def first_warm(self, request: Request) -> str | None:
        """The first of them, if there is one."""
        return next(iter(self._warm.get(request, ())), None)

    def warm_shapes(self) -> Iterator[Request]:
        """Shapes with idle trials that have a process."""
        return (request for request, names in self._warm.items() if names)

    def taker(self, request: Request, *, pending_too: bool) -> str | None:
        """Who of this shape has waited longest for a process, or for a machine."""
        for name in self._takers.get(request, ()):
            if self._trials[name].waiting or pending_too:
                return name
        return None

    def _count(self, name: str, change: int) -> None:
        trial = self._trials[name]
        shape, active, job = trial.request, trial.is_active, not trial.idle
        for counter, holds in (
            (self.active, active),
            (self.cold, active and trial.idle and not trial.process),
            (self.given_up, trial.given_up),
            (self.heirs, trial.waiting),
            (self.at_work, job and not trial.ending and not trial.waiting),
        ):
            if holds:
                counter[shape] += change
                if not counter[shape]:
                    del counter[shape]
        for index, holds in (
            (self._warm, active and trial.idle and bool(trial.process)),
            (self._takers, trial.waiting or trial.pending),
        ):
            if holds and change > 0:
                index.setdefault(shape, {})[name] = None
            elif holds:
                del index[shape][name]
