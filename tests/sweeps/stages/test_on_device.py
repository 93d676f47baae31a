"""A whole sweep on an accelerator, played where there is none, beside the processor's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support import played_device
from support.inline_sweep import InlineSweep, inline_sweep

from oneshui.accelerator import title_of
from oneshui.enclosure import nursery
from sweeps.graph.artifacts import PREDICTIONS
from sweeps.graph.job import Stage
from sweeps.report.results import made_of

SWEEP = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.seeds=[0]",
    "sweep.reference_copies=true",
    "profile=tuned",
    "tuning.rows=[ssd]",
    "tuning.trials=3",
    "tuning.batch=3",
    "tuning.carried=1",
)
ON_DEVICE: frozenset[Stage] = frozenset({"pretrain", "retrain", "prepare", "unlearn", "trial"})


@pytest.fixture(scope="module", autouse=True)
def _methods_compute_where_the_device_is() -> Iterator[None]:
    """No fork of a process could use a device of Python's own, nor compute beside it."""
    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get(played_device.PLAYED):
            patch.setattr(nursery, "_can_fork", lambda: False)
        yield


@pytest.fixture(scope="module")
def of_processor(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    return inline_sweep(tmp_path_factory.mktemp("processor"), *SWEEP)


def logits_of(sweep: InlineSweep, row: str) -> np.ndarray:
    (found,) = (one for one in sweep.plan.results if one.row.name == row)
    entry = sweep.store.find("evaluate", found.evaluate_key)
    assert entry is not None
    frame = pd.read_parquet(entry.file(PREDICTIONS))
    return np.stack(frame.sort_values(["set", "image"])["logits"].to_list())


@pytest.mark.slow
def test_a_sweep_computes_on_a_device_what_it_computes_on_the_processor(
    tmp_path: Path, of_processor: InlineSweep, accelerator: torch.device
) -> None:
    found = inline_sweep(tmp_path, *SWEEP, device=str(accelerator))
    assert found.scheduler.finished
    assert found.plan.jobs.keys() == of_processor.plan.jobs.keys()
    for key, job in found.plan.jobs.items():
        entry = found.store.find(job.stage, key)
        assert entry is not None
        assert entry.made["device"] == title_of(accelerator)
        assert entry.made["precision"] == "bfloat16"
        if job.stage in ON_DEVICE:
            assert entry.cost["peak_gpu_bytes"] > 0
    # Weights of bfloat16 trainings, and what was unlearned from them.
    for row, near in (("pretrain", 0.1), ("retrain", 0.1), ("jit", 0.1), ("pgu", 0.2)):
        own, there = logits_of(of_processor, row), logits_of(found, row)
        assert own.shape == there.shape
        assert 0 < np.abs(own - there).max() <= near * np.abs(own).max()


@pytest.mark.slow
def test_what_is_asked_for_is_recorded(tmp_path: Path) -> None:
    narrow = ["sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0]"]
    narrow += ["sweep.methods=[pretrain,retrain]", "sweep.training.epochs=1"]
    found = inline_sweep(tmp_path, *narrow, "precision=bfloat16")
    for key, job in found.plan.jobs.items():
        entry = found.store.find(job.stage, key)
        assert entry is not None
        has_network = "model" in job.spec
        assert entry.made["precision"] == ("bfloat16" if has_network else "float32")
        assert entry.made["device"] == "cpu"
    entries = {key: found.store.find(job.stage, key) for key, job in found.plan.jobs.items()}
    for row in found.plan.results:
        made = made_of(found.plan, row, {key: it for key, it in entries.items() if it is not None})
        # One, and so without the mark of rows that mix several.
        assert made["precision"] == "bfloat16"
