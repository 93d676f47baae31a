"""How to compute on a device: exactly and repeatably on the processor, fast on a GPU.

On the CPU nothing here changes a number. On a GPU, training and prediction run in bfloat16 where
that is safe, pictures travel as bytes and are cropped and normalised there, and nothing waits for
the GPU before an epoch ends. Gradients of unlearning methods stay in float32 everywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

T = TypeVar("T")


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
    """

    autocast: bool = False
    channels_last: bool = False
    fused: bool = False
    ahead: int = 0
    compile: bool = False
    compile_steps: int = 2000

    @property
    def precision(self) -> str:
        """Of training and prediction, as torch names it."""
        return "bfloat16" if self.autocast else "float32"


EXACT = Policy()
FAST = Policy(autocast=True, channels_last=True, fused=True, ahead=2)


def policy_of(device: torch.device) -> Policy:
    """FAST on a GPU, EXACT elsewhere."""
    return FAST if device.type == "cuda" else EXACT


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
    getter = getattr(model, "get_classifier", None)
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
    """The tensor on the device; a GPU gets it from pinned memory, without anybody waiting."""
    if device.type != "cuda" or tensor.device.type != "cpu":
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
