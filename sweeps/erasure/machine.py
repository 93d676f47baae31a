"""This process made ready to compute, as a worker of a sweep is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from oneshui.enclosure import nursery_kept
from oneshui.errors import InputError
from sweeps.stages.run import import_all, limit_threads


@contextlib.contextmanager
def ready(threads: int, device: str | None) -> Iterator[str]:
    """Inside the block methods can be run behind walls; the device is the block's.

    Args:
        threads: Of torch: results depend on their number.
        device: Torch's name of it; None for the GPU, if there is one that can be used.

    Raises:
        InputError: The device cannot be used.
    """
    limit_threads(threads)
    import_all()
    # Before anybody asks for the GPU, whose state no fork survives.
    with nursery_kept():
        import torch

        found = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.empty(1, device=found)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"device {found} cannot be used: {reason}") from None
        yield found
