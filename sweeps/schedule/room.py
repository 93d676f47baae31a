"""What a job asks of its node, what machines have, and which requests have room together.

Pure. What is left is reckoned for a whole run of equal machines at once, so that an answer takes
as long for 512 slots as for two.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from oneshui.spec import require

_EPSILON = 1e-6
_Left = tuple[float, float, float]
_Run = tuple[_Left, int]


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
        return _times(_left(self), _wanted(request)) > 0


def _left(node: Node) -> _Left:
    return node.cpus, node.gpus, node.memory_gb


def _wanted(request: Request) -> _Left:
    return request.cpus, request.gpus, request.memory_gb


def _times(left: _Left, wanted: _Left) -> int:
    """How often a request fits into what is left of a machine."""
    return min(int((have + _EPSILON) / ask) for have, ask in zip(left, wanted, strict=True) if ask)


def _without(left: _Left, wanted: _Left, times: int) -> _Left:
    cpus, gpus, memory = left
    return cpus - times * wanted[0], gpus - times * wanted[1], memory - times * wanted[2]


def _size(request: Request) -> _Left:
    return request.gpus, request.memory_gb, request.cpus


class Room:
    """The room of some machines: runs of equal ones, in the order in which they were given."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._known: dict[int, list[_Run]] = {}

    def count(self, request: Request) -> int:
        """How many equal requests the machines hold at the same time."""
        runs = self._runs_for([request])
        return sum(_times(left, _wanted(request)) * number for left, number in runs)

    def fits(self, requests: Mapping[Request, int]) -> bool:
        """Whether so many of each request have room at the same time.

        The largest are placed first, each on the first machine that has room for it.
        """
        asked = [request for request, count in requests.items() if count > 0]
        runs = self._runs_for(asked)
        for request in sorted(asked, key=_size, reverse=True):
            runs, remaining = _placed(runs, _wanted(request), requests[request])
            if remaining:
                return False
        return True

    def _runs_for(self, asked: Iterable[Request]) -> list[_Run]:
        """The machines, equal where they hold the same of what is asked for.

        No two machines of one type have the same memory to the byte. What is asked of it comes in
        multiples of some number of bytes, and less than one such multiple is of no use.
        """
        unit = math.gcd(*(_bytes(request.memory_gb) for request in asked))
        if unit not in self._known:
            self._known[unit] = _runs(_useful(node, unit) for node in self._nodes)
        return self._known[unit]


def _bytes(gigabytes: float) -> int:
    return round(gigabytes * 2**30)


def _useful(node: Node, unit: int) -> _Left:
    memory = _bytes(node.memory_gb) // unit * unit / 2**30 if unit else 0.0
    return node.cpus, node.gpus, memory


def _runs(machines: Iterable[_Left]) -> list[_Run]:
    return [(left, len(list(equal))) for left, equal in itertools.groupby(machines)]


def _placed(runs: list[_Run], wanted: _Left, count: int) -> tuple[list[_Run], int]:
    """What is left of the machines after equal requests, and how many of these found no room."""
    found: list[_Run] = []
    for place, (left, number) in enumerate(runs):
        if not count:
            found.extend(runs[place:])
            break
        each = _times(left, wanted)
        if not each:
            found.append((left, number))
            continue
        full = min(number, count // each)
        last = min(count - full * each, each) if full < number else 0
        count -= full * each + last
        for times, machines in ((each, full), (last, int(last > 0))):
            if machines:
                found.append((_without(left, wanted, times), machines))
        untouched = number - full - int(last > 0)
        if untouched:
            found.append((left, untouched))
    return found, count


def fits(nodes: Sequence[Node], requests: Sequence[Request]) -> bool:
    """Whether all requests have room at the same time, the largest placed first."""
    return Room(nodes).fits(Counter(requests))


def room_for(nodes: Sequence[Node], request: Request) -> int:
    """How many equal requests the machines hold at the same time."""
    return Room(nodes).count(request)
