"""What every stage is told about its worker: protected folders and measured time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.inline_sweep import InlineSweep
from support.stage_contexts import context_of, jobs_of

from sweeps.stages.context import WorkerEnvironment
from sweeps.store import LocalStore
from sweeps.store.datasets import RemoteFolder


def test_protected_are_data_results_and_what_is_kept_of_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONESHUI_CACHE", str(tmp_path / "copies"))
    store = LocalStore(tmp_path / "elsewhere" / "store")
    remote = RemoteFolder(uri="s3://bucket/data", name="faces")
    folders: dict[str, Path | RemoteFolder] = {"a": tmp_path / "faces", "b": remote}
    env = WorkerEnvironment(store=store, data_folders=folders, logs=tmp_path / "out" / "logs")
    expected = {
        tmp_path / "faces",
        remote.folder,
        store.root,
        tmp_path / "out",
        tmp_path / "copies",
    }
    assert set(env.protected) == expected


def test_a_part_of_a_job_is_measured_from_its_own_begin(cells: InlineSweep, draft: Path) -> None:
    context = context_of(cells, jobs_of(cells, "index")[0], draft)
    time.sleep(0.2)
    assert context.timed("method_seconds", lambda: time.sleep(0.05) or 7) == 7  # type: ignore[func-returns-value]
    assert 0.05 <= context.cost["method_seconds"] < 0.2
    assert context.cost["peak_bytes"] > 2**20
