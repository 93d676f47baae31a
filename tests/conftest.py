from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.commands import launch
from support.inline_sweep import results_kept_in

# As in workers: a result depends on the number of threads, and several tests share the processors.
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay together in one process, and begin with those that take longest.

    All that starts Ray is one group: two clusters at once would want twice the processors and the
    memory. Other files stay whole, for the sake of their fixtures. What is long is slow as well,
    so that ``-m "not slow"`` leaves it out.
    """
    for item in items:
        starts_ray = item.get_closest_marker("ray") is not None
        item.add_marker(pytest.mark.xdist_group("ray" if starts_ray else item.path.stem))
        if item.get_closest_marker("long") is not None:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: [item.get_closest_marker(it) is None for it in ("ray", "slow")])


@pytest.fixture(scope="session", autouse=True)
def _shared_results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    own = tmp_path_factory.getbasetemp()
    with results_kept_in((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "pool"):
        yield


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke sweep; tests must not change it."""
    folder = tmp_path_factory.mktemp("smoke")
    done = launch("sweep=smoke", f"output_dir={folder}")
    assert done.status == 0, done.out + done.err
    assert "Traceback" not in done.out + done.err
    (folder / "printed.txt").write_text(done.out)
    return folder
