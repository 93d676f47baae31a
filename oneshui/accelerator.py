"""How to compute on a device: exactly and repeatably on the processor, fast on an accelerator.

On the CPU nothing here changes a number. On an accelerator (a GPU of any maker, or what else torch
knows) training and prediction run in bfloat16 where that is safe, pictures travel as bytes and are
cropped and normalised there, and nothing waits for it before an epoch ends. Gradients of unlearning
methods stay in float32 everywhere.

Whatever is asked about a device is asked here, so that no other part names one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from oneshui.errors import InputError
from oneshui.spec import Precision

T = TypeVar("T")
CPU = torch.device("cpu")
ONLY_WHEN_NAMED = ("mps",)
"""Accelerators that nobody gets without asking for them: they have no float64."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What may be done for speed.

    Attributes:
        autocast: Whether training and prediction use bfloat16; the classifier, whose outputs are
            ranked, stays in float32.
        channels_last: Whether networks of several convolutions keep channels innermost.
        fused: Whether the optimiser is one kernel.
        ahead: Batches that another thread reads while the device computes.
        compile: Whether long trainings compile the network.
        compile_steps: Steps of a whole training below which compiling would take longer than it
            saves.
        pass_size: Pictures that go through a network together where no gradient is needed. A
            processor is fastest while its caches hold what one layer hands to the next.
    """

    autocast: bool = False
    channels_last: bool = False
    fused: bool = False
    ahead: int = 0
    compile: bool = False
    compile_steps: int = 2000
    pass_size: int = 64

    @property
    def precision(self) -> str:
        """Of training and prediction, as torch names it."""
        return "bfloat16" if self.autocast else "float32"


EXACT = Policy()
FAST = Policy(autocast=True, channels_last=True, fused=True, ahead=2, pass_size=256)


def policy_of(device: torch.device, precision: Precision = "auto") -> Policy:
    """FAST on an accelerator, EXACT elsewhere, in the precision that is asked for.

    Args:
        device: Where.
        precision: "auto" for bfloat16 on an accelerator and float32 on a processor.
    """
    policy = EXACT
    if is_accelerator(device):
        policy = replace(FAST, autocast=torch.amp.is_autocast_available(device.type))
    return policy if precision == "auto" else replace(policy, autocast=precision == "bfloat16")


def ask_precision(model: nn.Module, precision: Precision, classifier: str = "") -> None:
    """Have training and prediction of the model, and of copies of it, run in this precision.

    Args:
        model: The model.
        precision: As ``policy_of`` takes it.
        classifier: Name of the linear layer whose outputs are the logits, which stay in float32;
            empty for the one that timm names.
    """
    model.asked_precision = precision  # type: ignore[assignment]
    model.layer_of_logits = classifier  # type: ignore[assignment]


def policy_for(model: nn.Module, device: torch.device) -> Policy:
    """The device's usual way, in the precision that was asked for the model or a part of it."""
    asked: Iterator[Precision] = (
        getattr(module, "asked_precision", "auto") for module in model.modules()
    )
    return policy_of(device, next((one for one in asked if one != "auto"), "auto"))


def place(model: nn.Module, device: torch.device, policy: Policy) -> nn.Module:
    """Move the model to the device, in the memory layout that suits it; returns it."""
    model.to(device)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    if policy.channels_last and convolutions > 1:
        # A vision transformer's only one sees each pixel once.
        model.to(memory_format=torch.channels_last)
    return model


def compiled(
    model: nn.Module, policy: Policy, steps: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The model's forward pass, compiled if the policy wants it and so many steps are worth it."""
    if policy.compile and steps >= policy.compile_steps:
        forward: Callable[[torch.Tensor], torch.Tensor] = torch.compile(model)
        return forward
    return model


@contextmanager
def precision(model: nn.Module, device: torch.device, policy: Policy) -> Iterator[None]:
    """Forward passes of the model in the policy's precision; its logits are float32 in any case.

    A bfloat16 has three digits, so that many images would share a logit and could not be ranked.
    """
    if not policy.autocast:
        yield
        return
    getter, name = getattr(model, "get_classifier", None), getattr(model, "layer_of_logits", "")
    if name:
        classifier: Any = model.get_submodule(name)
    else:
        classifier = getter() if callable(getter) else None
    hook = None
    if isinstance(classifier, nn.Linear):
        hook = classifier.register_forward_hook(_in_float32)
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            yield
    finally:
        if hook is not None:
            hook.remove()


def _in_float32(
    layer: nn.Module, arguments: tuple[torch.Tensor, ...], _: torch.Tensor
) -> torch.Tensor:
    assert isinstance(layer, nn.Linear)
    (features,) = arguments
    with torch.autocast(features.device.type, enabled=False):
        return F.linear(features.float(), layer.weight, layer.bias)


def transfer(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device, by way of pinned memory and without waiting where that helps."""
    # What shares its memory with the processor gains nothing from pinning.
    if not is_accelerator(device) or is_accelerator(tensor.device) or device.type == "mps":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def read_ahead(jobs: Iterable[Callable[[], T]], depth: int) -> Iterator[T]:
    """Results of the jobs in order; another thread works up to ``depth`` jobs ahead.

    Args:
        jobs: What to do; with depth 0 each is done when its result is asked for.
        depth: How far ahead.
    """
    if depth == 0:
        for job in jobs:
            yield job()
        return
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[T]] = deque()
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def is_accelerator(device: torch.device | str) -> bool:
    """Whether it is none of the processor's."""
    return torch.device(device).type not in ("cpu", "meta")


def usual_device() -> str:
    """Torch's name of this machine's accelerator, where one can be used unasked; else "cpu"."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if found is None or found.type in ONLY_WHEN_NAMED else found.type


def require_usable(device: str) -> None:
    """Try the device.

    Raises:
        InputError: Torch knows none of that name, or cannot use it here.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device} cannot be used: {reason}") from None


def is_usable(device: str) -> bool:
    """Whether torch can compute on the device here."""
    try:
        require_usable(device)
    except InputError:
        return False
    return True


def is_started() -> bool:
    """Whether this process holds an accelerator, whose state no fork survives."""
    found = torch.accelerator.current_accelerator()
    started = getattr(_module(found), "is_initialized", None)
    return started is not None and bool(started())


def title_of(device: torch.device) -> str:
    """The accelerator's model, where torch knows it; else the name of its kind."""
    name = getattr(_module(device), "get_device_name", None)
    return device.type if name is None else str(name(device))


def total_bytes(device: torch.device) -> int:
    """Memory of the accelerator in bytes; 0 for a processor, and where nobody knows."""
    return _memory(device)[1]


def free_bytes(device: torch.device) -> int:
    """What is free of it; 0 for a processor, and where nobody knows."""
    return _memory(device)[0]


def _memory(device: torch.device) -> tuple[int, int]:
    if not is_accelerator(device):
        return 0, 0
    if device.type == "mps":
        most = torch.mps.recommended_max_memory()
        return max(0, most - torch.mps.driver_allocated_memory()), most
    free, total = _asked("get_memory_info", "mem_get_info", device) or (0, 0)
    return int(free), int(total)


def forget_peak(device: torch.device) -> None:
    """Have ``peak_bytes`` begin anew."""
    _asked("reset_peak_memory_stats", "reset_peak_memory_stats", device)


def peak_bytes(device: torch.device) -> int | None:
    """Most that torch allocated on an accelerator at once; None where nobody knows, or it is none.

    Apple's keeps no peak: there it is what is allocated now.
    """
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    found = _asked("max_memory_allocated", "max_memory_allocated", device)
    return None if found is None else int(found)


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was asked for; a processor has already."""
    _asked("synchronize", "synchronize", device)


def forked_random(device: torch.device) -> AbstractContextManager[None]:
    """Inside the block whoever draws from shared generators changes them for the block alone."""
    if not is_accelerator(device):
        return torch.random.fork_rng([])
    return torch.random.fork_rng([device], device_type=device.type)


def has_float64(device: torch.device) -> bool:
    """Whether the device computes float64; Apple's does not, and some of Intel's do not."""
    if not is_accelerator(device):
        return True
    properties = getattr(_module(device), "get_device_properties", None)
    if properties is not None and not getattr(properties(device), "has_fp64", True):
        return False
    try:
        torch.empty(1, dtype=torch.float64, device=device)
    except (RuntimeError, TypeError):
        return False
    return True


def widest(device: torch.device) -> torch.dtype:
    """What sums are kept in: float64, or float32 where the device has no other."""
    return torch.float64 if has_float64(device) else torch.float32


def float64_place(device: torch.device) -> torch.device:
    """Where float64 is computed for the device: there, or on the processor if it cannot."""
    return device if has_float64(device) else CPU


def _module(device: torch.device | None) -> Any:
    """Torch's module of a kind of accelerator; None for none."""
    known = device is not None and is_accelerator(device)
    return torch.get_device_module(device) if known else None


def _asked(name: str, own_name: str, device: torch.device) -> Any:
    """What torch says of any accelerator, or the kind's own module; None where neither does.

    Args:
        name: Of a function of ``torch.accelerator``.
        own_name: What the kind's own module calls it.
        device: About which.
    """
    if not is_accelerator(device):
        return None
    found = torch.accelerator.current_accelerator()
    if found is not None and found.type == device.type:
        # Not every kind has told torch.accelerator how; its own module may know.
        with suppress(RuntimeError):
            return getattr(torch.accelerator, name)(device)
    own = getattr(_module(device), own_name, None)
    return None if own is None else own(device)
