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


def test_two_sweeps_on_one_cluster_share_it(
    cluster: object, undisturbed: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        cluster.add_node(num_cpus=1)  # type: ignore[attr-defined]
    cluster.wait_for_nodes()  # type: ignore[attr-defined]
    env = {"RAY_ADDRESS": cluster.address}  # type: ignore[attr-defined]
    first, second = tmp_path / "first", tmp_path / "second"
    with start("sweep=smoke", f"output_dir={first}", "cluster=existing", env=env) as long:
        wait_for(lambda: finished(first, "split") >= 1, seconds=300)
        with start("sweep=smoke", ONE, f"output_dir={second}", "cluster=existing", env=env) as late:
            # The second needs no end of the first: it gets a machine of the two.
            wait_for(lambda: finished(second, "pretrain") >= 1, seconds=300)
            assert long.poll() is None
            assert finished(first, "score") == 0
            out, err = late.communicate(timeout=600)
            assert late.returncode == 0, out + err
        out, err = long.communicate(timeout=600)
        assert long.returncode == 0, out + err
    assert results(second).equals(half(undisturbed))
    assert results(first).equals(results(undisturbed))
