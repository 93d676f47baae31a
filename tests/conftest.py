from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.commands import launch
from support.inline_sweep import results_kept_in
from support.installed import Installed, install
from support.played_device import PLAYED, is_on_device, played, register
from xdist.scheduler import LoadFileScheduling

# As in workers: a result depends on the number of threads, and several tests share the processors.
torch.set_num_threads(1)

HAS_ACCELERATOR = torch.accelerator.is_available()
IS_PLAYED = os.environ.get(PLAYED) == "1"
if IS_PLAYED:
    register()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background of a script, and handed down to commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave tests on an accelerator, where there is none, to a process of their own.

    A process with a device of Python's own cannot compute in its children after a backward pass.
    """
    if HAS_ACCELERATOR or IS_PLAYED or not is_on_device(collection_path):
        return None
    return True


@functools.cache
def starts_ray(file: Path) -> bool:
    """Whether tests of the file have the mark ``ray``."""
    return "pytest.mark.ray" in file.read_text(encoding="utf-8")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; what is long is slow as well, for ``-m "not slow"``."""
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: (not starts_ray(item.path), not item.get_closest_marker("slow")))


class FilesWhole(LoadFileScheduling):  # type: ignore[misc]
    """Each file in one process, for its fixtures' sake, and all that start Ray in the same.

    Two clusters at once would want twice the processors and the memory. xdist's own groups are no
    way: its names for them do not reach the controller with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "ray" if starts_ray(self.config.rootpath / file) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesWhole:
    return FilesWhole(config, log)


@pytest.fixture(scope="session", autouse=True)
def _shared_results(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[None]:
    own = tmp_path_factory.getbasetemp()
    # The variable of the environment reaches processes that tests start, too, which would find
    # what another day and another checkout left in the machine's own folder.
    is_of_xdist = hasattr(pytestconfig, "workerinput")
    with results_kept_in((own.parent if is_of_xdist else own) / "pool"):
        yield


@pytest.fixture
def accelerator() -> Iterator[torch.device]:
    """This machine's accelerator; where there is none, one that the processor plays."""
    if HAS_ACCELERATOR:
        found = torch.accelerator.current_accelerator()
        assert found is not None
        yield torch.device(found.type, 0)
        return
    with played() as device:
        yield device


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of this checkout, installed."""
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke sweep; tests must not change it."""
    folder = tmp_path_factory.mktemp("smoke")
    done = launch("sweep=smoke", f"output_dir={folder}")
    assert done.status == 0, done.out + done.err
    assert "Traceback" not in done.out + done.err
    (folder / "printed.txt").write_text(done.out)
    return folder
