"""Several sweeps on one Ray cluster: each tells the others how many places it could use.

They meet in the key-value store of Ray's control service, which every driver reaches. A sweep is
there as long as its driver is one of Ray's living jobs, so one that was killed takes no share.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray._private import state
from ray.experimental import internal_kv

from sweeps.schedule.sharing import Wanted, fair_share

_WHERE = b"oneshui"


class Sharing:
    """This sweep's place among those on the cluster."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin; Ray must be there.

        Args:
            clock: Seconds.
        """
        self._clock = clock
        self._name: str = ray.get_runtime_context().get_job_id()
        self._wanted = Wanted()

    def limit(self, places: int, wanted: int, own: int) -> int:
        """Most places that this sweep may take now; 0 for as many as there are.

        Args:
            places: Of the cluster.
            wanted: That this sweep could use now.
            own: The limit that the sweep has anyway; 0 for none.
        """
        wanted = self._wanted.now(min(wanted, own) if own else wanted, self._clock())
        internal_kv._internal_kv_put(self._name, str(wanted), namespace=_WHERE)
        others = self._others()
        if not others:
            return own
        share = fair_share(places, {**others, self._name: wanted}, self._name)
        return min(share, own) if own else share

    def _others(self) -> dict[str, int]:
        known: Any = state.jobs()  # type: ignore[no-untyped-call]
        alive = {job["JobID"] for job in known if not job["IsDead"]}
        found = {}
        for key in internal_kv._internal_kv_list("", namespace=_WHERE):
            name = key.decode()
            if name not in alive:
                internal_kv._internal_kv_del(name, namespace=_WHERE)
            elif name != self._name:
                value = internal_kv._internal_kv_get(name, namespace=_WHERE)
                # It may have ended in between.
                found[name] = int(value or 0)
        return {name: wanted for name, wanted in found.items() if wanted}

    def end(self) -> None:
        """Take no share any more."""
        internal_kv._internal_kv_del(self._name, namespace=_WHERE)
