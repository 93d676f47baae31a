"""Which slot of a cluster takes which job: few processes, all of them warm, none empty.

Pure. A process starts in seconds and is reused only for an equal request (decision record 2), so
a slot without a job keeps its process alive with an idle trial, and changes its shape only when
that pays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from oneshui.spec import require

SWITCH_SECONDS = 8.0
"""About what starting a process and importing torch costs; less waiting work is not worth it."""

SHORT_SECONDS = 2.0
"""Jobs shorter than this are queued one ahead of each running one: it saves the driver's answer,
about 15 ms, and costs that a more urgent job, if one appears meanwhile, waits for one of them."""

_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True, order=True)
class Request:
    """What one job asks of its node.

    Attributes:
        cpus: Processors.
        gpus: GPUs, or the share of one.
        memory_gb: Main memory in units of 2**30 bytes; 0 asks for none.
    """

    cpus: float = 1
    gpus: float = 0.0
    memory_gb: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.cpus <= 1024, "cpus", self.cpus, "above 0 and at most 1024")
        require(0 <= self.gpus <= 8, "gpus", self.gpus, "0 to 8")
        whole = self.gpus <= 1 or float(self.gpus).is_integer()
        require(whole, "gpus", self.gpus, "a share of one GPU or a whole number of GPUs")
        require(self.memory_gb >= 0, "memory_gb", self.memory_gb, "0 or more")

    def __str__(self) -> str:
        text = f"{self.cpus:g} CPU and {self.gpus:g} GPU"
        return f"{text} and {self.memory_gb:g} GB of memory" if self.memory_gb else text


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a machine of the cluster has, in the units of ``Request``."""

    cpus: float
    gpus: float = 0.0
    memory_gb: float = 0.0

    def holds(self, request: Request) -> bool:
        """Whether the request fits on this machine when it is empty."""
        return (
            request.cpus <= self.cpus + _EPSILON
            and request.gpus <= self.gpus + _EPSILON
            and request.memory_gb <= self.memory_gb + _EPSILON
        )


def fits(nodes: Sequence[Node], requests: Sequence[Request]) -> bool:
    """Whether all requests have room at the same time, the largest placed first."""
    left = [[node.cpus, node.gpus, node.memory_gb] for node in nodes]
    for request in sorted(requests, key=lambda r: (r.gpus, r.memory_gb, r.cpus), reverse=True):
        wanted = (request.cpus, request.gpus, request.memory_gb)
        for room in left:
            if all(ask <= have + _EPSILON for ask, have in zip(wanted, room, strict=True)):
                for place, ask in enumerate(wanted):
                    room[place] -= ask
                break
        else:
            return False
    return True


def room_for(nodes: Sequence[Node], request: Request) -> int:
    """How many equal requests the machines hold at the same time."""

    def on(node: Node) -> int:
        asked = [(node.cpus, request.cpus), (node.gpus, request.gpus)]
        asked.append((node.memory_gb, request.memory_gb))
        return min(int(have / ask + _EPSILON) for have, ask in asked if ask)

    return sum(on(node) for node in nodes)


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
class _Trial:
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
        limit: Most trials at the same time; 0 means as many as fit.
        elastic: Whether machines come when something waits for them.
    """

    default: Request
    nodes: Sequence[Node] = ()
    limit: int = 0
    elastic: bool = False
    _trials: dict[str, _Trial] = field(default_factory=dict)
    _freed: list[tuple[Request, str]] = field(default_factory=list)

    def count(self) -> int:
        """Slots of the default shape that the machines have."""
        room = room_for(self.nodes, self.default)
        return min(room, self.limit) if self.limit else room

    def infeasible(self, requests: Sequence[Request]) -> Request | None:
        """The first request that no machine can hold even when it is empty."""
        for request in requests:
            if not any(node.holds(request) for node in self.nodes):
                return request
        return None

    def start(self, trial: str, placement: Placement) -> None:
        """Note that a trial starts as it was placed."""
        for displaced in placement.displaced:
            slot = self._trials[displaced]
            slot.ending, slot.given_up = True, slot.request != placement.request
        if not placement.is_heir:
            kept = [(shape, name) for shape, name in self._freed if name != placement.process]
            # Tune ends the free processes when it is given something that they cannot take.
            self._freed = [] if len(kept) == len(self._freed) else kept
        self._trials[trial] = _Trial(
            placement.request,
            placement.idle,
            placement.process,
            waiting=placement.is_heir,
            pending=self.elastic and not placement.process,
        )

    def begin(self, trial: str) -> None:
        """Note that a trial has its process, new or used."""
        if trial in self._trials:
            self._trials[trial].pending = False

    def warm(self, trial: str, process: str) -> bool:
        """Note the process that an idle trial reported; whether the trial shall end now."""
        slot = self._trials.get(trial)
        if slot is None or not slot.idle:
            return False
        # Tune gives a free process to the trial that has waited longest, whoever it was kept for.
        self._freed = [(shape, name) for shape, name in self._freed if name != process]
        slot.process = process
        slot.waiting = False
        return slot.ending

    def end(self, trial: str, process: str = "") -> None:
        """Note that a trial ended; with the name of its process if that lives on."""
        slot = self._trials.pop(trial)
        if slot.ending or slot.waiting:
            return
        for other in self._trials.values():
            # Who waits for a machine takes the process too, and its place is free instead.
            if (other.waiting or (other.pending and process)) and other.request == slot.request:
                other.waiting, other.pending, other.process = False, False, process
                return
        if process:
            self._freed.append((slot.request, process))

    def _active(self) -> list[_Trial]:
        return [slot for slot in self._trials.values() if slot.is_active]

    def num_active(self) -> int:
        """Trials that occupy a slot."""
        return len(self._active())

    def _cold(self) -> set[Request]:
        """Shapes of which a process is coming up."""
        return {slot.request for slot in self._active() if slot.idle and not slot.process}

    def is_warm(self, most: int) -> bool:
        """Whether every slot has a process, or as many as are of any use.

        Args:
            most: Processes that are of use.
        """
        if self._cold():
            return False
        taken = [slot.request for slot in self._active()] + [shape for shape, _ in self._freed]
        if len(taken) >= (min(self.limit, most) if self.limit else most):
            return True
        return not fits(self.nodes, [*taken, self.default])

    def _has_room(self, request: Request, without: Sequence[str] = ()) -> bool:
        occupied = [
            slot.request
            for name, slot in self._trials.items()
            if name not in without and slot.is_active
        ]
        if self.limit and len(occupied) >= self.limit:
            return False
        return fits(self.nodes, [*occupied, request])

    def _idle(self) -> list[str]:
        """Trials that may be displaced: those that have a process, the rest comes up first."""
        return [
            name
            for name, slot in self._trials.items()
            if slot.idle and slot.process and slot.is_active
        ]

    def _living(self) -> Counter[Request]:
        living = Counter(shape for shape, _ in self._freed)
        living.update(slot.request for slot in self._active())
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
        lacking: Counter[Request] = Counter()
        # An heir that came now would take the process that is given up for another shape.
        cold = cold | {slot.request for slot in self._trials.values() if slot.given_up}
        for slot in self._trials.values():
            if slot.waiting:
                lacking[slot.request] -= 1
            elif not slot.idle and not slot.ending:
                lacking[slot.request] += 1
        for shape, count in lacking.items():
            if count > 0 and shape not in cold and (idle_too or shape in ready):
                return Placement(request=shape, idle=shape not in ready, is_heir=True)
        return None

    def _reuse(self, shape: Request) -> Placement | None:
        for freed, process in reversed(self._freed):
            if freed == shape and self._has_room(shape):
                return Placement(request=shape, process=process)
        for name in self._idle():
            if self._trials[name].request == shape:
                process = self._trials[name].process
                return Placement(request=shape, displaced=(name,), process=process)
        return None

    def _convert(self, shape: Request) -> Placement | None:
        """An idle trial that starts a process of the shape, in place of idle ones of others."""
        displaced: list[str] = []
        # A process that is given up while its shape has an heir goes to the heir instead.
        inherited = {slot.request for slot in self._trials.values() if slot.waiting} | {shape}
        others = [name for name in self._idle() if self._trials[name].request not in inherited]
        while not self._has_room(shape, displaced):
            if not others:
                return None
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
        for shape, process in reversed(self._freed):
            if self._has_room(shape):
                return Placement(request=shape, idle=True, process=process)
        return None

    def release(self, trial: str) -> None:
        """Let an idle trial end, and its process with it: the machine may go."""
        self._trials[trial].ending = True
