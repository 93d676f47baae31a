"""What every stage is told about its worker: protected folders and measured time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from support.inline_sweep import InlineSweep
from support.stage_contexts import context_of, entry_of, jobs_of

from sweeps.stages.context import WorkerEnvironment, images, load_split
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
