"""Peak memory of a part of a job, on the processor and on an accelerator."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")
_RESET_PEAK = "5"
"""What /proc/self/clear_refs takes to set the peak back to what is in use (Linux, proc(5))."""


def gpu_bytes(device: str) -> int:
    """Memory of the device in bytes; 0 if it is no accelerator, or none that can be used."""
    import torch

    from oneshui.accelerator import is_usable, total_bytes

    return total_bytes(torch.device(device)) if is_usable(device) else 0


class PeakMemory:
    """Measures what happens inside a ``with`` block.

    ``cost`` then holds ``peak_bytes``, the resident memory of the whole process, so imports and
    inputs are part of it, and on an accelerator that keeps count ``peak_gpu_bytes``, what torch
    allocated there. Where the kernel cannot reset the peak, it is that of the process since its
    start.
    """

    def __init__(self, device: str = "cpu", proc: Path = Path("/proc/self")) -> None:
        self.cost: dict[str, float] = {}
        self._device = device
        self._proc = proc

    def __enter__(self) -> PeakMemory:
        try:
            (self._proc / "clear_refs").write_text(_RESET_PEAK, encoding="ascii")
        except OSError:
            self._proc = Path("/nowhere")
        if self._device != "cpu":
            import torch

            from oneshui.accelerator import forget_peak

            forget_peak(torch.device(self._device))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cost["peak_bytes"] = self._peak()
        if self._device != "cpu":
            import torch

            from oneshui.accelerator import peak_bytes

            found = peak_bytes(torch.device(self._device))
            if found is not None:
                self.cost["peak_gpu_bytes"] = found

    def _peak(self) -> int:
        try:
            status = (self._proc / "status").read_text(encoding="ascii", errors="replace")
            line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024
        except (OSError, StopIteration):
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measured(device: str, name: str, action: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """What the action returns, and its seconds, by this name, and peak memory."""
    with PeakMemory(device) as peak:
        start = time.perf_counter()
        result = action()
        seconds = time.perf_counter() - start
    return result, {name: seconds, **peak.cost}
