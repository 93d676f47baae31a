"""A cluster of two machines, one of which goes away in the middle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import ONE, finished, half, results, start
from support.processes import children, wait_for

pytestmark = [pytest.mark.long, pytest.mark.ray]


@pytest.fixture
def cluster() -> Iterator[object]:
    """A head without processors, and two machines with one each."""
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield made
    finally:
        made.shutdown()  # type: ignore[no-untyped-call]


def test_a_sweep_survives_the_loss_of_a_machine(
    cluster: object, undisturbed: Path, tmp_path: Path
) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]  # type: ignore[attr-defined]
    cluster.wait_for_nodes()  # type: ignore[attr-defined]
    with start(
        "sweep=smoke",
        ONE,
        f"output_dir={tmp_path}",
        "cluster=existing",
        env={"RAY_ADDRESS": cluster.address},  # type: ignore[attr-defined]
    ) as driver:
        wait_for(lambda: finished(tmp_path, "prepare") >= 1, seconds=300)
        cluster.remove_node(nodes[1], allow_graceful=False)  # type: ignore[attr-defined]
        out, err = driver.communicate(timeout=600)
    assert driver.returncode == 0, out + err
    assert results(tmp_path).equals(half(undisturbed))
    assert not [name for _, name in children(driver.pid)]
