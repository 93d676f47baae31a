"""The support-only constraint: what a one-shot method can reach when it unlearns, and what not."""

from __future__ import annotations

import copy
import gc
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from inline_sweep import InlineSweep, inline_sweep
from PIL import Image
from torch import nn

from oneshui.data.images import LabelledImages
from oneshui.data.table import ImageTable
from oneshui.guard import deleted
from oneshui.methods import base
from oneshui.requests import FullAccessRequest, UnlearnRequest
from oneshui.spec import Access
from oneshui.splits import Split
from sweeps.jobs import Job
from sweeps.store import Entry

FORBIDDEN = (LabelledImages, ImageTable, Split, Entry, np.memmap, Path, FullAccessRequest)
seen: list[UnlearnRequest] = []
attack: list[Callable[[], object]] = []


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    return inline_sweep(
        tmp_path_factory.mktemp("constraint"),
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny]",
        "sweep.seeds=[0]",
        "sweep.methods=[ssd,metaunlearn]",
    )


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method for this test alone: it keeps its request, then does what ``attack`` says."""
    base.names()
    monkeypatch.setattr(base, "_registry", dict(base._registry))

    @base.register
    @dataclass(frozen=True, kw_only=True)
    class Curious:
        name: ClassVar[str] = "curious"
        access: ClassVar[Access] = Access.SUPPORT
        search_space: ClassVar[dict[str, base.Range]] = {}

        def unlearn(self, request: UnlearnRequest) -> nn.Module:
            seen.append(request)
            for action in attack:
                action()
            return copy.deepcopy(request.model)

    seen.clear()
    attack.clear()


def curious_job(sweep: InlineSweep, like: str) -> Job:
    """The unlearn job of a row with the method exchanged for the curious one."""
    row = next(row for row in sweep.plan.results if row.row.name == like)
    job = sweep.plan.jobs[row.model_key]
    return Job(
        stage="unlearn",
        spec={**job.spec, "method": "curious", "hyperparameters": {}, "try": len(seen)},
        inputs=job.inputs,
        label="unlearn curious",
    )


def reachable(start: object) -> list[object]:
    """All objects that can be reached from one, short of the code that everything refers to."""
    stops = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)
    found = {id(start): start}
    queue = [start]
    while queue:
        for next_ in gc.get_referents(queue.pop()):
            if id(next_) not in found and not isinstance(next_, stops):
                found[id(next_)] = next_
                queue.append(next_)
    return list(found.values())


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("like", ["ssd", "metaunlearn"])
def test_nothing_reachable_from_the_request_opens_a_picture(sweep: InlineSweep, like: str) -> None:
    assert sweep.execute(curious_job(sweep, like)) is None
    (request,) = seen
    objects = reachable(request)
    assert any(value is request.support.images for value in objects)
    assert len(objects) > 100
    for value in objects:
        assert not isinstance(value, FORBIDDEN), type(value)
        if isinstance(value, str):
            assert str(sweep.store.root.parent) not in value
    split = next(job for job in sweep.plan.jobs.values() if job.stage == "split")
    entry = sweep.store.find("split", split.key)
    assert entry is not None
    assert len(request.support) == entry.value["num_identities"]["forget"]
    # The largest uint8 tensor in reach is S itself: no picture of anybody else is there.
    pictures = [v for v in objects if isinstance(v, torch.Tensor) and v.dtype == torch.uint8]
    assert sum(picture.numel() for picture in pictures) == request.support.images.numel()


def files_of(sweep: InlineSweep) -> tuple[Path, Path]:
    pixels = next((sweep.store.root / "cache").glob("*/images.npy"))
    (folder,) = sweep.env.data_folders.values()
    return pixels, next(folder.rglob("*.jpg"))


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize(
    "way",
    [
        lambda pixels, _: np.load(pixels),
        lambda pixels, _: np.load(pixels, mmap_mode="r"),
        lambda _, picture: Image.open(picture),
        lambda _, picture: picture.read_bytes(),
        lambda _, picture: list(picture.parent.iterdir()),
        lambda _, picture: open(str(picture).replace("/data/", "/data/../data/"), "rb"),  # noqa: PTH123, SIM115
    ],
)
def test_a_hostile_method_is_stopped_and_named(
    sweep: InlineSweep, way: Callable[[Path, Path], object]
) -> None:
    pixels, picture = files_of(sweep)
    attack.append(lambda: way(pixels, picture))
    failure = sweep.execute(curious_job(sweep, "ssd"))
    assert failure is not None
    assert failure.kind == "access"
    assert "DataAccessError: method curious tried to open" in failure.message
    assert "declare Access.FULL" in failure.message


def test_the_guard_sleeps_before_and_after(sweep: InlineSweep) -> None:
    pixels, picture = files_of(sweep)
    with deleted(sweep.env.training_data, "somebody"), pytest.raises(PermissionError):
        picture.read_bytes()
    assert picture.read_bytes()
    assert np.load(pixels, mmap_mode="r").shape[1] == 3


def test_a_full_access_row_says_so_and_gets_the_data(sweep: InlineSweep) -> None:
    full = inline_sweep(
        sweep.store.root.parent,
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny]",
        "sweep.seeds=[0]",
        "sweep.methods=[scrub]",
    )
    assert not full.scheduler.failures()
    row = full.plan.results[0]
    assert row.row.access is Access.FULL
    assert {"index", "cache"} <= set(full.plan.jobs[row.model_key].inputs)
