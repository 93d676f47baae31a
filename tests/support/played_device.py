"""An accelerator that is played by the processor: every branch of a GPU runs where there is none.

A tensor on it is a wrapper around one of the processor's, on which each operator is run. As on a
real one, tensors of two devices do not mix, ``numpy()`` raises, and autocast casts. It can be told
to have no float64, as Apple's. What it cannot show is speed, kernels' rounding and what runs at the
same time.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "played"
FREE_BYTES, ALL_BYTES = 2**32, 2**33

_aten: Any = torch.ops.aten
_CROSSING = {
    _aten.copy_.default,
    _aten._to_copy.default,
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
    _aten.set_.source_Tensor,
}
"""Operators that take tensors of two devices: copies, and indices that are on the processor."""


class _State:
    is_active = False
    has_float64 = True
    peak = 0
    random = torch.zeros(8, dtype=torch.uint8)
    operators = 0


class PlayedTensor(torch.Tensor):
    """A tensor on the played device.

    Attributes:
        held: The processor's, which it wraps.
    """

    held: torch.Tensor
    is_cuda: ClassVar[bool] = False  # type: ignore[misc]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> PlayedTensor:
        assert type(held) is torch.Tensor, type(held)
        if held.dtype == torch.float64 and not _State.has_float64:
            raise TypeError(f"the {NAME} device has no float64")
        made: PlayedTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. force is {force}")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"PlayedTensor({list(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _run(function, args, dict(kwargs or {}))


class _Everywhere(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees what begins on the processor too: factories and copies to the device."""

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _run(function, args, dict(kwargs or {}))


def _is_played(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _run(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator: as it is without the device, else on what its tensors hold."""
    flat, spec = tree_flatten((args, kwargs))
    tensors = [it for it in flat if isinstance(it, torch.Tensor)]
    own = [it for it in tensors if isinstance(it, PlayedTensor)]
    if not own and not _is_played(kwargs.get("device")):
        return function(*args, **kwargs)
    _State.operators += 1
    _require_no_mixing(function, tensors, kwargs)
    inner = [it.held if isinstance(it, PlayedTensor) else it for it in flat]
    inner_args, inner_kwargs = tree_unflatten(inner, spec)
    if _is_played(kwargs.get("device")):
        inner_kwargs["device"] = torch.device("cpu")
    inner_kwargs.pop("pin_memory", None)
    # A zero without memory, which derivatives begin with, could not be held.
    is_empty_zero = function is _aten._efficientzerotensor.default
    found = (_aten.zeros.default if is_empty_zero else function)(*inner_args, **inner_kwargs)
    if not _stays(function, args, kwargs):
        return args[0] if function is _aten.copy_.default else found
    known = {id(it.held): it for it in own}
    leaves, shape = tree_flatten(found)
    wrapped = tree_unflatten([_wrapped(it, known) for it in leaves], shape)
    corrected: Any = return_and_correct_aliasing
    return corrected(function, args, kwargs, wrapped) if own else wrapped


def _require_no_mixing(function: Any, tensors: list[Any], kwargs: dict[str, Any]) -> None:
    """Raise what a real device raises: single numbers alone may come from the processor."""
    own = [it for it in tensors if isinstance(it, PlayedTensor)]
    strangers = [it for it in tensors if not isinstance(it, PlayedTensor) and it.dim() > 0]
    if own and strangers and function not in _CROSSING:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {function} found {NAME}:0 and "
            f"{strangers[0].device}"
        )
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")


def _stays(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether what an operator gives is on the device."""
    if function is _aten._to_copy.default and kwargs.get("device") is not None:
        return _is_played(kwargs["device"])
    if function is _aten.copy_.default:
        return isinstance(args[0], PlayedTensor)
    return function not in (_aten._local_scalar_dense.default, _aten.equal.default)


def _wrapped(found: Any, known: Mapping[int, PlayedTensor]) -> Any:
    if not isinstance(found, torch.Tensor):
        return found
    _State.peak = max(_State.peak, found.untyped_storage().nbytes())
    own = known.get(id(found))
    return PlayedTensor(found) if own is None else own


class _Module:
    """What ``torch.played`` answers."""

    def is_initialized(self) -> bool:
        # A fork loses nothing of it.
        return False

    def is_available(self) -> bool:
        return _State.is_active

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        _State.random = torch.tensor(list(seed.to_bytes(8, "little")), dtype=torch.uint8)

    def device_count(self) -> int:
        return 1

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, _device: Any = None) -> torch.Tensor:
        return _State.random

    def set_rng_state(self, state: torch.Tensor, _device: Any = None) -> None:
        _State.random = state

    def mem_get_info(self, _device: Any = None) -> tuple[int, int]:
        return FREE_BYTES, ALL_BYTES

    def max_memory_allocated(self, _device: Any = None) -> int:
        return _State.peak

    def reset_peak_memory_stats(self, _device: Any = None) -> None:
        _State.peak = 0

    def synchronize(self, _device: Any = None) -> None:
        """Nothing runs beside what is asked for."""

    def get_device_name(self, _device: Any = None) -> str:
        return "A played device"


class _Hook(torch._C._acc.PrivateUse1Hooks):
    def is_available(self) -> bool:
        return _State.is_active

    def has_primary_context(self, _number: int) -> bool:
        return True

    def is_built(self) -> bool:
        return True


_KERNELS: Mapping[str, Callable[..., torch.Tensor]] = {
    "linear": F.linear,
    "matmul": torch.matmul,
    "mm": torch.mm,
    "bmm": torch.bmm,
    "addmm": torch.addmm,
    "conv2d": torch.conv2d,
    "scaled_dot_product_attention": F.scaled_dot_product_attention,
}
"""What autocast runs in the narrow type, as it does on GPUs."""


def _narrow(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        return value.to(torch.get_autocast_dtype(NAME))
    return value


def _casting(function: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(_AUTOCAST)):
        return function(*map(_narrow, args), **{name: _narrow(it) for name, it in kwargs.items()})


_AUTOCAST: Any = getattr(torch._C.DispatchKey, "AutocastPrivateUse1")  # noqa: B009


@functools.cache
def register() -> list[torch.library.Library]:
    """Register the device, once a process and before its first backward pass.

    Autograd counts devices then, and never again. The libraries hold as long as they are kept.
    """
    _setup_privateuseone_for_python_backend(rename=NAME, backend_module=_Module(), hook=_Hook())
    library: Any = torch.library.Library
    rest = library("_", "IMPL")
    rest.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    own = library("aten", "IMPL")
    for name, function in _KERNELS.items():
        own.impl(name, functools.partial(_casting, function), "AutocastPrivateUse1")
    return [rest, own]


@contextlib.contextmanager
def played(*, has_float64: bool = True) -> Iterator[torch.device]:
    """Inside the block there is one accelerator, and it is this one.

    Args:
        has_float64: Whether it computes float64; Apple's does not.
    """
    register()
    pin, swap = torch.Tensor.pin_memory, torch.__future__.get_swap_module_params_on_conversion()
    _State.is_active, _State.has_float64, _State.operators = True, has_float64, 0
    torch.Tensor.pin_memory = lambda self, *_: self  # type: ignore[method-assign]
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        everywhere: Any = _Everywhere
        with everywhere():
            yield torch.device(NAME, 0)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swap)
        torch.Tensor.pin_memory = pin  # type: ignore[method-assign]
        _State.is_active, _State.has_float64 = False, True


needed = pytest.mark.skipif(
    torch.accelerator.is_available(), reason="a real accelerator is here: nothing is played"
)


PLAYED = "ONESHUI_PLAYED"
"""Variable of the environment: 1 in a process that plays the device."""


def is_on_device(file: Path) -> bool:
    """Whether a file of tests needs an accelerator."""
    if not (file.name.startswith("test_") and file.suffix == ".py"):
        return False
    text = file.read_text(encoding="utf-8")
    return "import played_device" in text or "accelerator: torch.device" in text


def operators() -> int:
    """How many operators the device has run since the block began."""
    return _State.operators
