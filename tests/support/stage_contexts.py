"""What a stage is handed, put together from a store, and the sets of a split read by hand."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from support.inline_sweep import InlineSweep
from torch import nn

from oneshui import methods
from oneshui.data.images import LabelledImages, make_images
from oneshui.requests import PrepareRequest, UnlearnRequest
from oneshui.sources import source_of
from sweeps.graph.job import Job, Stage
from sweeps.stages.context import JobContext
from sweeps.store import Entry


@dataclass
class Asked:
    """What methods of a test were asked, and how they answer.

    Attributes:
        methods: Alpha and beta of each method that unlearned.
        unlearn: The requests to unlearn.
        prepare: The requests to prepare.
        prepared: What they prepare.
        does: What else they do while they unlearn.
    """

    methods: list[tuple[float, float]] = field(default_factory=list)
    unlearn: list[UnlearnRequest] = field(default_factory=list)
    prepare: list[PrepareRequest] = field(default_factory=list)
    prepared: dict[str, torch.Tensor] = field(default_factory=lambda: {"kept": torch.ones(3)})
    does: Callable[[], object] = lambda: None


def run_jobs(sweep: InlineSweep, keys: Iterable[str]) -> None:
    """Run jobs of a sweep's plan whose inputs are done, those that are not done themselves."""
    for key in keys:
        job = sweep.plan.jobs[key]
        if sweep.store.find(job.stage, key) is None:
            failure = sweep.execute(job)
            assert failure is None, failure


def entry_of(sweep: InlineSweep, key: str) -> Entry:
    found = sweep.store.find(sweep.plan.jobs[key].stage, key)
    assert found is not None
    return found


def context_of(sweep: InlineSweep, job: Job, folder: Path) -> JobContext:
    """The job's view of the world, as a worker makes it."""
    return JobContext(
        job=job,
        entries={role: entry_of(sweep, key) for role, key in job.inputs.items()},
        series={r: tuple(entry_of(sweep, key) for key in keys) for r, keys in job.series.items()},
        folder=folder,
        env=sweep.env,
    )


def jobs_of(sweep: InlineSweep, stage: Stage, **spec: Any) -> list[Job]:
    """The plan's jobs of a stage that are asked for these things."""
    return [
        job
        for job in sweep.plan.jobs.values()
        if job.stage == stage and spec.items() <= job.spec.items()
    ]


def changed(job: Job, **spec: Any) -> Job:
    """The job with other things in its spec; another method comes with its own code."""
    return dataclasses.replace(job, spec=with_source({**job.spec, **spec}))


def with_source(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with the hash of its method's code, if it names a method."""
    name = spec.get("method")
    return dict(spec) if name is None else {**spec, "source": source_of(methods.get(name))}


def identity_of_rows(sweep: InlineSweep) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Identity of every picture, int64 [N]."""
    (index,) = jobs_of(sweep, "index")
    return pd.read_parquet(entry_of(sweep, index.key).folder / "images.parquet")[
        "identity"
    ].to_numpy()


def split_document(sweep: InlineSweep, job: Job, place: int | None = None) -> dict[str, list[int]]:
    """What the split of a job says; of a study's job that of the cell at a place."""
    key = job.inputs["split"] if place is None else job.series["split"][place]
    text = (entry_of(sweep, key).folder / "split.json").read_text()
    document: dict[str, list[int]] = json.loads(text)
    return document


def rows_of(sweep: InlineSweep, document: dict[str, list[int]], name: str) -> list[int]:
    """Rows of one set: everybody's pictures but those that became S."""
    if name == "support":
        return document["support"]
    members, support = set(document[name]), set(document["support"])
    return [
        row
        for row, identity in enumerate(identity_of_rows(sweep).tolist())
        if identity in members and row not in support
    ]


def images_of(sweep: InlineSweep, document: dict[str, list[int]], name: str) -> LabelledImages:
    """One set with its pictures and labels, multilabel."""
    (index,) = jobs_of(sweep, "index")
    table = pd.read_parquet(entry_of(sweep, index.key).folder / "images.parquet")
    (cache,) = jobs_of(sweep, "cache", size=32)
    pixels = np.load(entry_of(sweep, cache.key).folder / "images.npy", mmap_mode="r")
    labels = np.stack(table["label"].to_list())
    rows = np.array(rows_of(sweep, document, name))
    return make_images(pixels, labels, table["identity"].to_numpy(), rows)


def moved(model: nn.Module) -> nn.Module:
    """A copy whose weights differ by noise that is always the same."""
    found = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in found.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return found
