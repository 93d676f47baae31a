"""What a warm process is like before each of its jobs, so that none of them poisons the next.

A method may change torch's settings, the environment or a function of a library and not put it
back. What can be put back is; a process that cannot be is ended by whoever runs the jobs.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
import torch
from PIL import Image, ImageFile

_OWN = ("oneshui", "sweeps")
_LIBRARIES: tuple[Any, ...] = (
    torch,
    torch.nn,
    torch.nn.functional,
    torch.nn.init,
    torch.optim,
    torch.autograd,
    torch.Tensor,
    torch.nn.Module,
    torch.optim.Optimizer,
    np,
    np.random,
    random,
    Image,
    Image.Image,
)
"""Where patched functions would be met by our own code; our modules are all watched."""

_SMALL = 1e-310
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _set_signals(handlers: Mapping[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _set_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _fill(found: Any, items: list[Any]) -> None:
    found[:] = items


def _set_limits(pixels: int | None, truncated: bool) -> None:
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = pixels, truncated


def _set_output(output: TextIO, errors: TextIO) -> None:
    sys.stdout, sys.stderr = output, errors


def _set_cudnn(benchmark: bool, deterministic: bool) -> None:
    torch.backends.cudnn.benchmark = benchmark
    torch.backends.cudnn.deterministic = deterministic


def _keeps_denormals() -> bool:
    return _SMALL * 1.0 > 0.0


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "default type": (torch.get_default_dtype, torch.set_default_dtype),
    # None stands for no default of one's own: "cpu" would be a mode that every call goes through.
    "default device": (
        lambda: None if torch.get_default_device().type == "cpu" else torch.get_default_device(),
        torch.set_default_device,
    ),
    "deterministic algorithms": (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda it: torch.use_deterministic_algorithms(it[0], warn_only=it[1]),
    ),
    "precision of products": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    "denormal numbers": (_keeps_denormals, lambda it: torch.set_flush_denormal(not it)),
    "autocast": (
        lambda: torch.is_autocast_enabled("cpu"),
        lambda it: torch.set_autocast_enabled("cpu", it),
    ),
    "autocast on the GPU": (
        lambda: torch.is_autocast_enabled("cuda"),
        lambda it: torch.set_autocast_enabled("cuda", it),
    ),
    "settings of cuDNN": (
        lambda: (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        lambda it: _set_cudnn(*it),
    ),
    "numpy's errors": (np.geterr, lambda it: np.seterr(**it)),
    "filters of warnings": (
        lambda: list(warnings.filters),
        lambda it: _fill(warnings.filters, it),
    ),
    "Pillow's limits": (
        lambda: (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        lambda it: _set_limits(*it),
    ),
    "environment": (lambda: dict(os.environ), _set_environment),
    "working folder": (os.getcwd, os.chdir),
    "file permissions": (_umask, os.umask),
    "search path of modules": (
        lambda: list(sys.path),
        lambda it: _fill(sys.path, it),
    ),
    "limit of recursion": (sys.getrecursionlimit, sys.setrecursionlimit),
    "garbage collection": (gc.isenabled, lambda it: gc.enable() if it else gc.disable()),
    "standard output": (
        lambda: (sys.stdout, sys.stderr),
        lambda it: _set_output(*it),
    ),
    "signal handlers": (lambda: {it: signal.getsignal(it) for it in _SIGNALS}, _set_signals),
}


def _owners() -> Iterator[Any]:
    """Modules and classes whose functions are watched."""
    yield from _LIBRARIES
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _OWN and isinstance(module, types.ModuleType):
            yield module
            yield from (
                it
                for it in list(vars(module).values())
                if isinstance(it, type) and it.__module__ == name
            )


def _functions(owner: Any) -> dict[str, Any]:
    callables = (types.FunctionType, types.BuiltinFunctionType, type, staticmethod, classmethod)
    return {
        name: it
        for name, it in list(vars(owner).items())
        if isinstance(it, (*callables, property)) or callable(it)
    }


def _shadowing(owner: Any, known: Mapping[str, Any]) -> list[str]:
    """New attributes of a class that stand before those of its base classes."""
    if not isinstance(owner, type):
        return []
    added = [name for name in vars(owner) if name not in known and callable(vars(owner)[name])]
    return [name for name in added if any(name in vars(base) for base in owner.__mro__[1:])]


def _hooks() -> dict[str, Any]:
    """Torch's hooks of all modules at once, by the name of their table."""
    where = vars(torch.nn.modules.module)
    return {
        name: it
        for name, it in where.items()
        if name.startswith("_global_") and isinstance(it, dict)
    }


@dataclass(frozen=True, kw_only=True)
class KnownState:
    """The state that every job of a process begins with.

    Attributes:
        settings: By what they are of.
        functions: Of each watched module or class, by name.
        threads: That run beside the jobs.
    """

    settings: Mapping[str, Any]
    functions: tuple[tuple[Any, Mapping[str, Any]], ...]
    threads: frozenset[int | None]

    @classmethod
    def take(cls) -> KnownState:
        """The state as it is now; all that jobs need is imported already."""
        return cls(
            settings={name: get() for name, (get, _) in _SETTINGS.items()},
            functions=tuple((owner, _functions(owner)) for owner in _owners()),
            threads=frozenset(thread.ident for thread in threading.enumerate()),
        )

    def restore(self) -> list[str]:
        """Put back what differs; its names."""
        changed = self._other()
        for name in changed:
            _SETTINGS[name][1](self.settings[name])
        for owner, known in self.functions:
            now = vars(owner)
            for name, function in known.items():
                if now.get(name) is not function:
                    setattr(owner, name, function)
                    changed.append(f"{owner.__name__}.{name}")
            for name in _shadowing(owner, known):
                delattr(owner, name)
                changed.append(f"{owner.__name__}.{name}")
        for name, hooks in _hooks().items():
            if hooks:
                hooks.clear()
                changed.append(name)
        return changed

    def _other(self) -> list[str]:
        return [name for name, (get, _) in _SETTINGS.items() if get() != self.settings[name]]

    def left(self) -> list[str]:
        """What cannot be put back: threads that still run, modes of torch, settings that stay."""
        threads = [
            f"thread {thread.name}"
            for thread in threading.enumerate()
            if thread.ident not in self.threads and not thread.name.startswith("ray")
        ]
        modes = torch._C._len_torch_function_stack() + torch._C._len_torch_dispatch_stack()
        return [*threads, *(["a mode of torch"] if modes else []), *self._other()]
