"""Which slot of a cluster takes which job: few processes, all of them warm, none empty.

Pure. A process starts in seconds and is reused only for an equal request (decision record 2), so
a slot without a job keeps its process alive with an idle trial, and changes its shape only when
that pays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sweeps.schedule.room import Node, Request, Room
from sweeps.schedule.trials import Trial, Trials

SWITCH_SECONDS = 8.0
"""About what starting a process and importing torch costs; less waiting work is not worth it."""

SHORT_SECONDS = 2.0
"""Jobs shorter than this are queued one ahead of each running one: it saves the driver's answer,
about 15 ms, and costs that a more urgent job, if one appears meanwhile, waits for one of them."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The jobs of one shape that could start now.

    Attributes:
        seconds: Their expected work.
        priority: Of the first of them; the higher, the longer the chain behind it.
        count: How many they are.
    """

    seconds: float
    priority: float
    count: int = 1

    @property
    def is_short(self) -> bool:
        """Whether handing a job over costs a share of it that counts."""
        return self.seconds < SHORT_SECONDS * self.count


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What to start next.

    Attributes:
        request: Shape of the trial.
        idle: Whether it only keeps or makes a process warm.
        displaced: Idle trials that must end to make room.
        process: Name of the process that will take it, if that is known; "" for a new one.
        is_heir: Whether it waits for the end of a running trial of its shape.
    """

    request: Request
    idle: bool = False
    displaced: tuple[str, ...] = ()
    process: str = ""
    is_heir: bool = False


@dataclass
class Slots:
    """The trials that occupy a cluster, and what may start beside them.

    Three rules follow from how Tune reuses processes (decision record 7). Jobs are handed out for
    processes that are known to live. While a process of a shape comes up, no job of that shape
    starts, because it would call the start off. And where processes of several shapes live, every
    running trial has an heir of its shape in the queue, because Tune ends a process that becomes
    free while only other shapes wait; short jobs have one anyway, to save time.

    Where machines come when something waits for them, and cost while they are there, the jobs
    themselves do the waiting: each asks for its room at once, whether its machine is there yet or
    not, and takes any process of its shape that becomes free before. Idle trials then only bridge
    the moments between two jobs.

    Attributes:
        default: Shape of the slots that are kept warm.
        nodes: The machines; where they come when needed, also those that could.
        limit: Most trials at the same time; 0 means as many as fit. It may change: a trial more
            than that ends with its job, or at once if it is idle.
        elastic: Whether machines come when something waits for them.
    """

    default: Request
    nodes: Sequence[Node] = ()
    limit: int = 0
    elastic: bool = False
    _trials: Trials = field(default_factory=Trials)
    _freed: list[tuple[Request, str]] = field(default_factory=list)
    _room: tuple[Sequence[Node], Room] = field(default_factory=lambda: ((), Room(())))

    def count(self) -> int:
        """Slots of the default shape that the machines have."""
        room = self._machines().count(self.default)
        return min(room, self.limit) if self.limit else room

    def infeasible(self, requests: Sequence[Request]) -> Request | None:
        """The first request that no machine can hold even when it is empty."""
        for request in requests:
            if not any(node.holds(request) for node in self.nodes):
                return request
        return None

    def _machines(self) -> Room:
        if self._room[0] is not self.nodes:
            self._room = self.nodes, Room(self.nodes)
        return self._room[1]

    def start(self, trial: str, placement: Placement) -> None:
        """Note that a trial starts as it was placed."""
        for displaced in placement.displaced:
            given_up = self._trials[displaced].request != placement.request
            self._trials.change(displaced, ending=True, given_up=given_up)
        if not placement.is_heir:
            kept = [(shape, name) for shape, name in self._freed if name != placement.process]
            # Tune ends the free processes when it is given something that they cannot take.
            self._freed = [] if len(kept) == len(self._freed) else kept
        new = Trial(
            placement.request,
            placement.idle,
            placement.process,
            waiting=placement.is_heir,
            pending=self.elastic and not placement.process,
        )
        self._trials.add(trial, new)

    def begin(self, trial: str) -> None:
        """Note that a trial has its process, new or used."""
        if self._trials.get(trial) is not None:
            self._trials.change(trial, pending=False)

    def warm(self, trial: str, process: str) -> bool:
        """Note the process that an idle trial reported; whether the trial shall end now."""
        slot = self._trials.get(trial)
        if slot is None or not slot.idle:
            return False
        # Tune gives a free process to the trial that has waited longest, whoever it was kept for.
        self._freed = [(shape, name) for shape, name in self._freed if name != process]
        self._trials.change(trial, process=process, waiting=False)
        return slot.ending

    def end(self, trial: str, process: str = "") -> None:
        """Note that a trial ended; with the name of its process if that lives on."""
        was_crowded = self.is_crowded
        slot = self._trials.pop(trial)
        if slot.ending or slot.waiting:
            return
        # Who waits for a machine takes the process too, and its place is free instead.
        taker = self._trials.taker(slot.request, pending_too=bool(process))
        if taker is not None:
            self._trials.change(taker, waiting=False, pending=False, process=process)
            return
        # Where others wait for its place, Tune is given nothing to keep the process for.
        if process and not was_crowded:
            self._freed.append((slot.request, process))

    @property
    def occupied(self) -> Counter[Request]:
        """Trials that occupy a slot, by shape."""
        return self._trials.active.copy()

    def num_active(self) -> int:
        """Trials that occupy a slot."""
        return self._trials.active.total()

    @property
    def is_crowded(self) -> bool:
        """Whether more trials occupy slots than may by now."""
        return bool(self.limit) and self.num_active() > self.limit

    def _cold(self) -> set[Request]:
        """Shapes of which a process is coming up."""
        return set(self._trials.cold)

    def is_warm(self, most: int) -> bool:
        """Whether every slot has a process, or as many as are of any use.

        Args:
            most: Processes that are of use.
        """
        if self._trials.cold:
            return False
        taken = self._living()
        if taken.total() >= (min(self.limit, most) if self.limit else most):
            return True
        taken[self.default] += 1
        return not self._machines().fits(taken)

    def _has_room(self, request: Request, without: Sequence[str] = ()) -> bool:
        occupied = self.occupied
        occupied.subtract(Counter(self._trials[name].request for name in without))
        if self.limit and occupied.total() >= self.limit:
            return False
        occupied[request] += 1
        return self._machines().fits(occupied)

    def _living(self) -> Counter[Request]:
        living = self.occupied
        living.update(shape for shape, _ in self._freed)
        return living

    def place(
        self, ready: Mapping[Request, Ready], most: int, *, patient: bool = True
    ) -> Placement | None:
        """What to start now: a job, or an idle trial that makes or keeps a process; None to wait.

        A process of the right shape is used before one of another shape is given up.

        Args:
            ready: The jobs that could start, by shape.
            most: Processes that are of use.
            patient: Whether to wait for processes that are coming up.
        """
        if self.is_crowded:
            return None
        by_priority = sorted(ready, key=lambda shape: -ready[shape].priority)
        living = self._living()
        if self.elastic:
            return self._place_on_demand(ready, by_priority, living)
        cold = self._cold() if patient else set()
        warming = patient and not cold and not self.is_warm(most)
        usable = [] if warming else [shape for shape in by_priority if shape not in cold]
        if usable and not living[usable[0]]:
            found = self._convert(usable[0])
            if found is not None:
                return found
        for shape in usable:
            found = self._reuse(shape)
            if found is not None:
                return found
        if len(living) > 1:
            heir = self._heir(ready, cold, idle_too=True)
            if heir is not None:
                return heir
        for shape in usable:
            pays = ready[shape].seconds > SWITCH_SECONDS * living[shape]
            if self._has_room(shape) or pays:
                found = self._convert(shape)
                if found is not None:
                    return found
        return self._keep_warm(most) or self._heir_of_short(ready, cold)

    def _place_on_demand(
        self, ready: Mapping[Request, Ready], by_priority: list[Request], living: Counter[Request]
    ) -> Placement | None:
        for shape in by_priority:
            found = self._reuse(shape)
            if found is not None:
                return found
        for shape in by_priority:
            if self._has_room(shape):
                return Placement(request=shape)
        heir = self._heir(ready, set(), idle_too=False) if len(living) > 1 else None
        return heir or self._heir_of_short(ready, set()) or self._keep_freed()

    def _heir_of_short(
        self, ready: Mapping[Request, Ready], cold: set[Request]
    ) -> Placement | None:
        short = {shape: jobs for shape, jobs in ready.items() if jobs.is_short}
        return self._heir(short, cold, idle_too=False)

    def _heir(
        self, ready: Mapping[Request, Ready], cold: set[Request], *, idle_too: bool
    ) -> Placement | None:
        """One for a shape with more running jobs than heirs."""
        # An heir that came now would take the process that is given up for another shape.
        cold = cold | set(self._trials.given_up)
        for shape, at_work in self._trials.at_work.items():
            count = at_work - self._trials.heirs[shape]
            if count > 0 and shape not in cold and (idle_too or shape in ready):
                return Placement(request=shape, idle=shape not in ready, is_heir=True)
        return None

    def _reuse(self, shape: Request) -> Placement | None:
        freed = next((name for kept, name in reversed(self._freed) if kept == shape), None)
        if freed is not None and self._has_room(shape):
            return Placement(request=shape, process=freed)
        name = self._trials.first_warm(shape)
        if name is None:
            return None
        process = self._trials[name].process
        return Placement(request=shape, displaced=(name,), process=process)

    def _convert(self, shape: Request) -> Placement | None:
        """An idle trial that starts a process of the shape, in place of idle ones of others."""
        displaced: list[str] = []
        # A process that is given up while its shape has an heir goes to the heir instead.
        inherited = {shape, *self._trials.heirs}
        others = [
            name
            for other in self._trials.warm_shapes()
            if other not in inherited
            for name in self._trials.warm(other)
        ]
        if not self._has_room(shape, others):
            return None
        while not self._has_room(shape, displaced):
            displaced.append(others.pop())
        return Placement(request=shape, idle=True, displaced=tuple(displaced))

    def _keep_warm(self, most: int) -> Placement | None:
        """An idle trial for a slot that would otherwise lose its process, or has none yet."""
        if self.num_active() >= most:
            return None
        freed = self._keep_freed()
        if freed is None and self._has_room(self.default):
            return Placement(request=self.default, idle=True)
        return freed

    def _keep_freed(self) -> Placement | None:
        newest = dict(self._freed)
        for shape in dict.fromkeys(shape for shape, _ in reversed(self._freed)):
            if self._has_room(shape):
                return Placement(request=shape, idle=True, process=newest[shape])
        return None

    def is_ending(self, trial: str) -> bool:
        """Whether a trial was told to end, or is over."""
        slot = self._trials.get(trial)
        return slot is None or slot.ending

    def release(self, trial: str) -> None:
        """Let an idle trial end, and its process with it: the machine may go."""
        self._trials.change(trial, ending=True)
