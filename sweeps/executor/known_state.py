"""What a warm process is like before each of its jobs, so that none of them poisons the next.

A method may change torch's settings, the environment or a function of a library and not put it
back. What can be put back is; a process that cannot be is ended by whoever runs the jobs.
"""

from __future__ import annotations

import builtins
import contextlib
import copy
import gc
import json
import math
import os
import pickle
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
import pandas as pd
import timm
import torch
from PIL import Image, ImageFile

from oneshui.registry import Registry

_OWN = ("oneshui", "sweeps")
_LIBRARIES: tuple[Any, ...] = (
    torch,
    torch.nn,
    torch.nn.functional,
    torch.nn.init,
    torch.optim,
    torch.autograd,
    torch.linalg,
    torch.Tensor,
    torch.nn.Module,
    torch.optim.Optimizer,
    np,
    np.random,
    np.linalg,
    random,
    Image,
    Image.Image,
    builtins,
    math,
    json,
    copy,
    pd,
    timm,
)
_PACKAGES = ("torch.nn", "torch.optim", "timm.layers", "timm.models")
"""Packages of which all modules and classes are watched: layers, optimisers and networks.

These and what stands above are where patched functions would be met by our own code; our own
modules are all watched.
"""

_MOVING = frozenset(
    {
        ("oneshui.enclosure.nursery", "_kept"),
        ("oneshui.deletion", "_installed"),
        ("sweeps.store.datasets", "_compared"),
    }
)
"""Variables of our own modules that jobs may set."""
_SMALL = 1e-310
_ABSENT = object()
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


def _switches() -> Iterator[tuple[Any, str]]:
    """What torch's backends can be told, as (owner, name)."""
    back: Any = torch.backends
    for name in ("enabled", "benchmark", "deterministic", "benchmark_limit", "allow_tf32"):
        yield back.cudnn, name
    for name in ("enabled", "deterministic"):
        yield back.mkldnn, name
    for kind in ("fp16", "bf16"):
        yield back.cuda.matmul, f"allow_{kind}_reduced_precision_reduction"
    # One kernel's precision is set beside the precision of products; who mixes both ways leaves
    # torch refusing to say the latter.
    for owner in (back, back.mkldnn.conv, back.mkldnn.matmul, back.mkldnn.rnn):
        yield owner, "fp32_precision"
    for owner in (back.cudnn.conv, back.cudnn.rnn, back.cuda.matmul):
        yield owner, "fp32_precision"


def _backends() -> list[Any]:
    return [getattr(owner, name) for owner, name in _switches()]


def _set_backends(values: list[Any]) -> None:
    for (owner, name), value in zip(_switches(), values, strict=True):
        if getattr(owner, name) != value:
            setattr(owner, name, value)


_KINDS = ("cpu", "cuda", "mps", "xpu")
_KERNELS: tuple[tuple[Callable[[], bool], Callable[[bool], Any]], ...] = (
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
    (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
    (torch._C._get_nnpack_enabled, torch.backends.nnpack.set_flags),
)


def _set_kernels(values: list[bool]) -> None:
    for (_, put), value in zip(_KERNELS, values, strict=True):
        put(value)


def _set_autocast(values: list[tuple[bool, torch.dtype]]) -> None:
    for kind, (is_on, dtype) in zip(_KINDS, values, strict=True):
        torch.set_autocast_enabled(kind, is_on)
        torch.set_autocast_dtype(kind, dtype)


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
        lambda: [(torch.is_autocast_enabled(it), torch.get_autocast_dtype(it)) for it in _KINDS],
        _set_autocast,
    ),
    "backends of torch": (_backends, _set_backends),
    "kernels of torch": (lambda: [get() for get, _ in _KERNELS], _set_kernels),
    "fused attention": (
        lambda: timm.layers.config._USE_FUSED_ATTN,
        lambda it: setattr(timm.layers.config, "_USE_FUSED_ATTN", it),
    ),
    "threads of gradients": (
        torch._C._is_multithreading_enabled,
        lambda it: torch._C._set_multithreading_enabled(it),
    ),
    "filling of memory": (
        torch._C._get_deterministic_fill_uninitialized_memory,
        torch._C._set_deterministic_fill_uninitialized_memory,
    ),
    "numpy's printing": (np.get_printoptions, lambda it: np.set_printoptions(**it)),
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
    "finders of modules": (
        lambda: list(sys.meta_path),
        lambda it: _fill(sys.meta_path, it),
    ),
    "tracing": (sys.gettrace, sys.settrace),
    "profiling": (sys.getprofile, sys.setprofile),
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
        if isinstance(module, types.ModuleType) and (_is_own(name) or _is_in(name, _PACKAGES)):
            yield module
            yield from (
                it
                for it in list(vars(module).values())
                if isinstance(it, type) and it.__module__ == name
            )


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in packages)


def _is_own(module: str) -> bool:
    return _is_in(module, _OWN)


def _module_of(owner: Any) -> str:
    return owner.__module__ if isinstance(owner, type) else owner.__name__


def _attributes(owner: Any) -> dict[str, Any]:
    """What must stay as it is: the functions of others, of our own code values too."""
    callables = (types.FunctionType, types.BuiltinFunctionType, type, staticmethod, classmethod)
    module = _module_of(owner)
    return {
        name: it
        for name, it in list(vars(owner).items())
        if isinstance(it, (*callables, property))
        or callable(it)
        or (_is_own(module) and not name.startswith("__") and (module, name) not in _MOVING)
    }


def _inside(it: Any) -> Any:
    """What an object is made of, if that can be changed from elsewhere."""
    if isinstance(it, (staticmethod, classmethod)):
        it = it.__func__
    if isinstance(it, types.FunctionType):
        it = vars(it)["__wrapped__"] if _is_timed(it) else it
        return it.__code__, it.__defaults__, tuple((it.__kwdefaults__ or {}).items())
    if not isinstance(it, (dict, list, set, types.MappingProxyType, torch.Tensor, np.ndarray)):
        return None
    try:
        return pickle.dumps(dict(it) if isinstance(it, types.MappingProxyType) else it)
    except Exception:
        # Of what cannot be written down, at least which things it holds.
        values = it.values() if isinstance(it, (dict, types.MappingProxyType)) else it
        return [*map(id, values)]


def _contents(owner: Any) -> dict[str, Any]:
    found = {name: _inside(it) for name, it in _attributes(owner).items()}
    return {name: it for name, it in found.items() if it is not None}


def _shadowing(owner: Any, known: Mapping[str, Any]) -> list[str]:
    """New attributes of a class that stand before those of its base classes."""
    if not isinstance(owner, type):
        return []
    added = {name: it for name, it in vars(owner).items() if name not in known and callable(it)}
    return [
        name
        for name, it in added.items()
        if not _is_timed(it) and any(name in vars(base) for base in owner.__mro__[1:])
    ]


def _is_timed(it: Any) -> bool:
    """Whether it is an optimiser's step, which torch wraps when the first one is made."""
    return hasattr(it, "hooked")


def _registries() -> Iterator[Registry[Any]]:
    for name, module in list(sys.modules.items()):
        if _is_own(name):
            yield from (it for it in vars(module).values() if isinstance(it, Registry))


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
        attributes: Of each watched module or class, by name.
        contents: Of what of it can be changed in its place, by name.
        registered: What each registry knows; it may come to know more.
        modules: All that were imported, by name.
        threads: That run beside the jobs.
    """

    settings: Mapping[str, Any]
    attributes: tuple[tuple[Any, Mapping[str, Any]], ...]
    contents: tuple[tuple[Any, Mapping[str, Any]], ...]
    registered: tuple[tuple[Registry[Any], Mapping[str, Any]], ...]
    modules: Mapping[str, Any]
    threads: frozenset[int | None]

    @classmethod
    def take(cls) -> KnownState:
        """The state as it is now; all that jobs need is imported already."""
        owners = list(_owners())
        return cls(
            settings={name: get() for name, (get, _) in _SETTINGS.items()},
            attributes=tuple((owner, _attributes(owner)) for owner in owners),
            contents=tuple((owner, found) for owner in owners if (found := _contents(owner))),
            registered=tuple((it, dict(it.known)) for it in _registries()),
            modules=dict(sys.modules),
            threads=frozenset(thread.ident for thread in threading.enumerate()),
        )

    def restore(self) -> list[str]:
        """Put back what differs; its names."""
        # First of all the functions that the rest is done with.
        changed = [*self._restored_attributes(), *self._restored_names()]
        for name in self._other():
            # What stays all the same is found by ``left``.
            with contextlib.suppress(Exception):
                _SETTINGS[name][1](self.settings[name])
            changed.append(name)
        for name, hooks in _hooks().items():
            if hooks:
                hooks.clear()
                changed.append(name)
        return changed

    def _restored_attributes(self) -> Iterator[str]:
        for owner, known in self.attributes:
            now = vars(owner)
            for name, it in known.items():
                found = now.get(name, _ABSENT)
                if found is not it and not (_is_timed(found) and found.__wrapped__ is it):
                    setattr(owner, name, it)
                    yield f"{owner.__name__}.{name}"
            for name in _shadowing(owner, known):
                delattr(owner, name)
                yield f"{owner.__name__}.{name}"

    def _restored_names(self) -> Iterator[str]:
        for registry, items in self.registered:
            for name, it in items.items():
                if registry.known.get(name) is not it:
                    registry.known[name] = it
                    yield f"what is registered as {name}"
        for name, module in self.modules.items():
            if sys.modules.get(name) is not module:
                sys.modules[name] = module
                yield f"module {name}"

    def _other(self) -> list[str]:
        return [name for name in _SETTINGS if not self._is_as_it_was(name)]

    def _is_as_it_was(self, name: str) -> bool:
        try:
            return bool(_SETTINGS[name][0]() == self.settings[name])
        # Torch raises where its two ways to set a precision were mixed.
        except Exception:
            return False

    def _edited(self) -> list[str]:
        """Names of what watched modules and classes hold that was changed in its place."""
        return [
            f"content of {owner.__name__}.{name}"
            for owner, known in self.contents
            for name, it in known.items()
            if _inside(vars(owner).get(name)) != it
        ]

    def left(self) -> list[str]:
        """What cannot be put back: threads that still run, modes of torch, what stays changed."""
        threads = [
            f"thread {thread.name}"
            for thread in threading.enumerate()
            if thread.ident not in self.threads and not thread.name.startswith("ray")
        ]
        modes = torch._C._len_torch_function_stack() + torch._C._len_torch_dispatch_stack()
        hooks: object = torch._C._autograd._top_saved_tensors_default_hooks(True)
        is_moded = modes > 0 or hooks is not None or torch.is_inference_mode_enabled()
        moded = ["a mode of torch"] if is_moded else []
        return [*threads, *moded, *self._edited(), *self._other()]
