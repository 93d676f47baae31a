from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.commands import launch

# As in workers: a result depends on the number of threads, and several tests share the processors.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke sweep; tests must not change it."""
    folder = tmp_path_factory.mktemp("smoke")
    done = launch("sweep=smoke", f"output_dir={folder}")
    assert done.status == 0, done.out + done.err
    assert "Traceback" not in done.out + done.err
    (folder / "printed.txt").write_text(done.out)
    return folder
