from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sweeps.stages.memory import PeakMemory

MEGABYTE = 2**20


def test_the_peak_is_that_of_the_block() -> None:
    with PeakMemory() as large:
        np.ones(200 * MEGABYTE, dtype=np.uint8).sum()
    with PeakMemory() as small:
        pass
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system cannot reset the peak")
    assert large.cost["peak_bytes"] - small.cost["peak_bytes"] > 150 * MEGABYTE
    assert set(small.cost) == {"peak_bytes"}


def test_without_proc_it_is_that_of_the_process(tmp_path: Path) -> None:
    with PeakMemory(proc=tmp_path / "absent") as peak:
        pass
    assert peak.cost["peak_bytes"] > MEGABYTE
