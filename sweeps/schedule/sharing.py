"""How many places of a cluster a sweep may take while other sweeps want some of them. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

REMEMBERED_SECONDS = 30.0
"""A sweep wants what it could use at its best moment in so long: a process that is given up for the
moment between two jobs takes as long as many jobs do to come back."""


def fair_share(places: int, wanted: Mapping[str, int], name: str) -> int:
    """Places of one sweep, if all have equally many and none more than it can use.

    Args:
        places: Of the cluster.
        wanted: How many places each sweep could use, by its name.
        name: Whose share.

    Returns:
        At least 1, also where there are more sweeps than places: Ray's queue decides then.
    """
    share, left = 0, places
    # Who wants least goes first, so that what it leaves is shared by the others.
    for place, other in enumerate(sorted(wanted, key=lambda one: (wanted[one], one))):
        share = min(wanted[other], -(-left // (len(wanted) - place)))
        left -= share
        if other == name:
            break
    return max(1, share)


class Wanted:
    """The most that was wanted lately."""

    def __init__(self) -> None:
        """Nothing was wanted yet."""
        self._seen: deque[tuple[float, int]] = deque()

    def now(self, count: int, moment: float) -> int:
        """Note what is wanted at a moment, in seconds; the most of the last half minute."""
        # What is less than a later one can be the most no more.
        while self._seen and self._seen[-1][1] <= count:
            self._seen.pop()
        self._seen.append((moment, count))
        while self._seen[0][0] < moment - REMEMBERED_SECONDS:
            self._seen.popleft()
        return self._seen[0][1]
