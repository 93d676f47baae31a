"""Processes beside this one, for work that threads cannot share.

They are spawned, since a fork of a process with threads may hang. So each begins by importing the
script that this process runs, and what stands in there unguarded runs again in each.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event

from oneshui.errors import InputError


def leave_if_importing() -> None:
    """End a spawned process that came here by importing the script, not by its work.

    To be called before anything is waited for that the parent holds, as it waits for this process.

    Raises:
        SystemExit: It is one; its parent says why.
    """
    # What the standard library itself looks at before it starts a process.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)


@contextlib.contextmanager
def spawned(
    workers: int, what: str, initializer: Callable[[], None]
) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block; work that has not begun by then does not begin.

    Args:
        workers: Their number.
        what: What they do, for messages.
        initializer: Called first in each.

    Raises:
        InputError: They cannot start, because the script does not guard what it calls, or one of
            them was ended.
    """
    context = multiprocessing.get_context("spawn")
    began = context.Event()
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(began, initializer))
    try:
        yield pool
    except BrokenProcessPool:
        if began.is_set():
            raise InputError(
                f"a process that {what} was ended, perhaps for lack of memory; run the same again, "
                "with less beside it"
            ) from None
        raise InputError(
            f"the processes that {what} cannot start, because each of them begins by importing the "
            "script that wants them: put what the script calls under "
            '`if __name__ == "__main__":`, or let it use one process alone (workers=1)'
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(began: Event, initializer: Callable[[], None]) -> None:
    began.set()
    initializer()
