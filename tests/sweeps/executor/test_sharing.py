"""Drivers on one real Ray cluster tell each other what they want, and leave each other places."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import wait_for

PROJECT = Path(__file__).parents[3]
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
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
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


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_sweep_that_comes_later_needs_no_end_of_the_first(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    first, second = tmp_path / "first", tmp_path / "second"

    def ended(folder: Path) -> int:
        path = folder / "ended"
        return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0

    def start(folder: Path, count: int) -> subprocess.Popen[str]:
        folder.mkdir()
        # Longer than the jobs that are handed out ahead.
        program = PROJECT / "tests" / "support" / "sleeping_sweep.py"
        words = [str(program), made.address, str(folder), str(count), "2.5"]
        return subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, "PYTHONPATH": str(PROJECT), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
            text=True,
        )

    try:
        with start(first, 400) as long:
            try:
                wait_for(lambda: ended(first) >= 2, "the first sweep's jobs", 400)
                with start(second, 4) as late:
                    assert late.wait(timeout=400) == 0
                assert ended(second) == 4
                assert long.poll() is None
                done = ended(first)
                assert done < 400
                # The first goes on, and alone it has both places again.
                wait_for(lambda: ended(first) >= done + 6, "more of the first sweep's jobs")
            finally:
                long.kill()
    finally:
        made.shutdown()  # type: ignore[no-untyped-call]
