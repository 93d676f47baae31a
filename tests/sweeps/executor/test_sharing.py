"""Drivers on one real Ray cluster tell each other what they want."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.ray]
OTHER = """
import sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
from sweeps.executor.sharing import Sharing
sharing = Sharing()
sharing.limit(8, int(sys.argv[2]), 0)
print("told", flush=True)
sys.stdin.readline()
sharing.end()
print("ended", flush=True)
sys.stdin.readline()
"""


def driver(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        yield made.address
    finally:
        ray.shutdown()
        made.shutdown()  # type: ignore[no-untyped-call]


def test_a_sweep_leaves_places_to_another_until_that_ends_or_is_killed(address: str) -> None:
    from sweeps.executor.sharing import Sharing

    now = 0.0
    sharing = Sharing(lambda: now)
    assert sharing.limit(8, 100, 0) == 0
    assert sharing.limit(8, 100, 6) == 6
    with driver(address, "100") as ends, driver(address, "1") as killed:
        try:
            for other in (ends, killed):
                assert other.stdout is not None
                assert other.stdout.readline() == "told\n"
            # One can use but one of eight, and two share the others.
            assert sharing.limit(8, 100, 0) in (3, 4)
            assert sharing.limit(8, 100, 2) == 2
            assert ends.stdin is not None
            ends.stdin.write("\n")
            ends.stdin.flush()
            assert ends.stdout is not None
            assert ends.stdout.readline() == "ended\n"
            assert sharing.limit(8, 100, 0) == 7
            killed.kill()
            killed.wait()
            wait_for(lambda: sharing.limit(8, 100, 0) == 0, seconds=60)
        finally:
            ends.kill()
            killed.kill()
    sharing.end()
