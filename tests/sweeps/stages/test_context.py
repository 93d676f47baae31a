"""What every stage is told about its worker: protected folders and measured time."""

from __future__ import annotations

import time
from pathlib import Path

from support.inline_sweep import InlineSweep
from support.stage_contexts import context_of, jobs_of

from sweeps.stages.context import WorkerEnvironment
from sweeps.store import LocalStore
from sweeps.store.datasets import RemoteFolder


def test_training_data_are_the_datasets_and_what_was_read_of_them(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    remote = RemoteFolder(uri="s3://bucket/data", name="faces")
    env = WorkerEnvironment(
        store=store, data_folders={"a": tmp_path / "faces", "b": remote}, logs=tmp_path
    )
    expected = {tmp_path / "faces", remote.folder, store.root / "cache", store.root / "index"}
    assert set(env.training_data) == expected


def test_a_part_of_a_job_is_measured_from_its_own_begin(cells: InlineSweep, draft: Path) -> None:
    context = context_of(cells, jobs_of(cells, "index")[0], draft)
    time.sleep(0.2)
    assert context.timed("method_seconds", lambda: time.sleep(0.05) or 7) == 7  # type: ignore[func-returns-value]
    assert 0.05 <= context.cost["method_seconds"] < 0.2
    assert context.cost["peak_bytes"] > 2**20
