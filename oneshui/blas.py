"""The threads of SciPy's linear algebra, which has a library of its own beside torch's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@cache
def found() -> ThreadpoolController:
    """The libraries that are loaded, SciPy's among them.

    Looking for them takes calls of the system that no method may make after deletion, so
    ``oneshui.deletion`` has them found before.
    """
    import scipy.linalg as loads_it  # noqa: F401
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController()
    # The first call of each of their functions looks it up, which no method may either.
    with controller.limit(limits=1, user_api="blas"):
        controller.info()
    return controller


@contextmanager
def as_many_threads_as_torch() -> Iterator[None]:
    """Inside the block SciPy computes with as many: the last digits follow their number."""
    import torch

    with found().limit(limits=torch.get_num_threads(), user_api="blas"):
        yield
