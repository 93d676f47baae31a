"""Places for jobs that this user's processes on one machine share, whoever started them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from filelock import Timeout

from sweeps.store.private import lock_of, runtime_folder

PATIENCE_SECONDS = 2.0
"""A driver may want its worker for another job: after so long it is asked again."""

_LOOK_SECONDS = 0.02


@contextlib.contextmanager
def place(limit: int) -> Iterator[bool]:
    """Keep one of the machine's places while the block runs; the system frees it if we are killed.

    Args:
        limit: Places that there are; 0 for as many as are asked for.

    Yields:
        Whether there was one. Who is given none must not run a job now.
    """
    with contextlib.ExitStack() as held:
        yield not limit or _taken(limit, held)


def _taken(limit: int, held: contextlib.ExitStack) -> bool:
    # Locks of files are the processes' own: no death, not even by SIGKILL, leaves one behind.
    locks = [lock_of(runtime_folder() / f"job-{number}.lock") for number in range(limit)]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        for lock in locks:
            with contextlib.suppress(Timeout):
                held.enter_context(lock.acquire(timeout=0))
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
