"""What every stage is told about its worker: protected folders and measured time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from support.inline_sweep import InlineSweep
from support.stage_contexts import context_of, entry_of, jobs_of

from sweeps.stages.context import WorkerEnvironment, images, load_split
from sweeps.store import LocalStore
from sweeps.store.datasets import RemoteFolder


def test_protected_are_data_results_and_what_is_kept_of_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONESHUI_CACHE", str(tmp_path / "copies"))
    store = LocalStore(tmp_path / "elsewhere" / "store")
    remote = RemoteFolder(uri="s3://bucket/data", name="faces")
    table = tmp_path / "mine" / "pets.csv"
    folders: dict[str, Path | RemoteFolder] = {"a": tmp_path / "faces", "b": remote, "c": table}
    env = WorkerEnvironment(store=store, data_folders=folders, logs=tmp_path / "out" / "logs")
    expected = {
        tmp_path / "faces",
        remote.folder,
        table.parent,
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


def test_a_set_has_the_larger_pictures_where_the_job_may_crop(
    cells: InlineSweep, draft: Path
) -> None:
    (training, _) = jobs_of(cells, "pretrain")
    context = context_of(cells, training, draft)
    found = images(context, load_split(context), "train")
    large = np.load(entry_of(cells, training.inputs["crops"]).folder / "images.npy")
    assert found.pixels.shape[1:] == (3, 32, 32)
    assert large.shape[1:] == (3, 48, 48)
    assert found.detail is not None
    assert np.array_equal(found.detail, large)
    context = context_of(cells, jobs_of(cells, "evaluate")[0], draft)
    assert images(context, load_split(context), "test").detail is None
