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
    """Files stay whole; all that starts Ray is one group, and begins first, as it takes longest."""
    items.sort(key=lambda item: [name not in item.keywords for name in ("ray", "slow")])
    for item in items:
        group = "ray" if "ray" in item.keywords else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session", autouse=True)
def _shared_results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.getbasetemp()
    with results_kept_in(
        (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "pool"
    ):
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
