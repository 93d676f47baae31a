"""The support-only constraint: what a one-shot method can reach when it unlearns, and what not."""

from __future__ import annotations

import copy
import dataclasses
import gc
import itertools
import os
import re
import signal
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.inline_sweep import InlineSweep, inline_sweep
from support.several_requests import REQUESTS, row_of, split_stored
from support.stage_contexts import with_source
from torch import nn

from oneshui.data.images import LabelledImages
from oneshui.data.splits import Split
from oneshui.data.table import ImageTable
from oneshui.deletion import deleted
from oneshui.enclosure import protection
from oneshui.methods import base
from oneshui.requests import FullAccessRequest, PrepareRequest, SupportSet, UnlearnRequest
from oneshui.spec import Access
from oneshui.tuning import objectives
from sweeps.graph.artifacts import WEIGHTS
from sweeps.graph.job import PICTURES, Job
from sweeps.stages.context import JobContext
from sweeps.store import Entry

FORBIDDEN = (LabelledImages, ImageTable, Split, Entry, np.memmap, Path, FullAccessRequest)
tries = itertools.count()
"""Makes every job of a test another one, which the store does not have."""
attack: list[Callable[[Any], object]] = []
"""What the curious method does with its request, in the process that it runs in."""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    return inline_sweep(
        tmp_path_factory.mktemp("constraint"),
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny]",
        "datasets.synthetic_tiny.crop_size=48",
        "sweep.seeds=[0]",
        "sweep.methods=[ssd,metaunlearn]",
    )


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method for this test alone, which does what ``attack`` says."""
    base.names()
    monkeypatch.setattr(base.METHODS, "known", dict(base.METHODS.known))

    @base.register
    @dataclass(frozen=True, kw_only=True)
    class Curious:
        name: ClassVar[str] = "curious"
        access: ClassVar[Access] = Access.SUPPORT
        search_space: ClassVar[dict[str, base.Range]] = {}
        # Those of SSD, so that it can take its place in a study.
        share: float = 0.0
        alpha: float = 1.0
        dampening: float = 1.0
        batch_size: int = 1
        importance: str = "batch"

        def unlearn(self, request: UnlearnRequest) -> nn.Module:
            for action in attack:
                action(request)
            return copy.deepcopy(request.model)

    @base.register
    @dataclass(frozen=True, kw_only=True)
    class Provident(Curious):
        name: ClassVar[str] = "provident"
        access: ClassVar[Access] = Access.PREPARED
        prepare_fields: ClassVar[tuple[str, ...]] = ()

        def prepare(self, request: PrepareRequest) -> dict[str, torch.Tensor]:
            for action in attack:
                action(request)
            return {"numbers": torch.ones(3)}

    attack.clear()


def curious_job(sweep: InlineSweep, like: str, request: int = 0) -> Job:
    """The unlearn job of a row with the method exchanged for the curious one."""
    row = next(row for row in sweep.plan.results if row.row.name == like)
    job = sweep.plan.jobs[row.model_keys[request]]
    return Job(
        stage="unlearn",
        spec=with_source(
            {**job.spec, "method": "curious", "hyperparameters": {}, "try": next(tries)}
        ),
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


def assert_only_support(sweep: InlineSweep, objects: list[object], support: SupportSet) -> None:
    """S is among the objects, and nothing from which a picture of anybody else could be read."""
    assert any(value is support.images for value in objects)
    for value in objects:
        assert not isinstance(value, FORBIDDEN), type(value)
        if isinstance(value, str):
            assert str(sweep.store.root.parent) not in value
    # The largest uint8 tensor in reach is S itself.
    pictures = [v for v in objects if isinstance(v, torch.Tensor) and v.dtype == torch.uint8]
    assert sum(picture.numel() for picture in pictures) == support.images.numel()


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("like", ["ssd", "metaunlearn"])
def test_nothing_reachable_from_the_request_opens_a_picture(sweep: InlineSweep, like: str) -> None:
    split = next(job for job in sweep.plan.jobs.values() if job.stage == "split")
    entry = sweep.store.find("split", split.key)
    assert entry is not None
    people = entry.value["num_identities"]["forget"]

    def look(request: UnlearnRequest) -> None:
        objects = reachable(request)
        assert len(objects) > 100
        assert_only_support(sweep, objects, request.support)
        assert len(request.support) == people
        raise LookedError("at all of it")

    attack.append(look)
    failure = sweep.execute(curious_job(sweep, like))
    assert failure is not None
    assert failure.message == "LookedError: at all of it"


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("number", [0, REQUESTS - 1])
def test_of_several_requests_each_reaches_its_own_person_s_picture_alone(
    several: InlineSweep, number: int
) -> None:
    job = curious_job(several, "ssd", number)
    assert not {*job.inputs} & {*PICTURES}
    (who,) = split_stored(several, row_of(several, "ssd").model_keys[number])["forget"]

    def look(request: UnlearnRequest) -> None:
        assert_only_support(several, reachable(request), request.support)
        assert request.support.identities.tolist() == [who]
        raise LookedError("at all of it")

    attack.append(look)
    failure = several.execute(job)
    assert failure is not None
    assert failure.message == "LookedError: at all of it"


class LookedError(Exception):
    """Raised at the end: a method's own process brings nothing else back."""


def files_of(sweep: InlineSweep) -> tuple[Path, Path]:
    """The pictures of the network's size, and a file of the dataset."""
    caches = (sweep.store.root / "cache").glob("*/images.npy")
    pixels = min(caches, key=lambda path: path.stat().st_size)
    (folder,) = sweep.env.data_folders.values()
    assert isinstance(folder, Path)
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
    attack.append(lambda _request: way(pixels, picture))
    failure = sweep.execute(curious_job(sweep, "ssd"))
    assert failure is not None
    assert failure.kind == "access"
    assert "DataAccessError: method curious tried to open" in failure.message
    assert "declare Access.FULL" in failure.message


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (lambda _: sys.exit(5), r"method curious raised SystemExit\(5\)"),
        (lambda _: os._exit(0), "method curious ended its process with status 0"),
        (lambda _: os.kill(os.getpid(), signal.SIGSEGV), "method curious ended its .* SIGSEGV"),
    ],
)
def test_a_method_that_ends_its_process_fails_its_job_and_no_more(
    sweep: InlineSweep, ending: Callable[[object], object], reason: str
) -> None:
    attack.append(ending)
    job = curious_job(sweep, "ssd")
    failure = sweep.execute(job)
    assert failure is not None
    assert failure.kind == "error"
    assert re.search(reason, failure.message)
    attack.clear()
    assert sweep.execute(job) is None
    entry = sweep.store.find("unlearn", job.key)
    assert entry is not None
    assert entry.cost["protection"] == protection()


@pytest.mark.usefixtures("method")
def test_another_model_is_no_answer(sweep: InlineSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.get("curious"), "unlearn", lambda _self, _request: nn.Linear(2, 3))
    failure = sweep.execute(curious_job(sweep, "ssd"))
    assert failure is not None
    assert "method curious returned another model than it was handed: bias differs" in (
        failure.message
    )


def provident_job(sweep: InlineSweep) -> Job:
    job = next(job for job in sweep.plan.jobs.values() if job.stage == "prepare")
    changes = {"method": "provident", "hyperparameters": {}, "try": next(tries)}
    spec = with_source({**job.spec, **changes})
    return Job(stage="prepare", spec=spec, inputs=job.inputs, label="prepare provident")


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("wanted", ["split/*/split.json", "retrain/*/weights.safetensors"])
def test_a_preparation_learns_neither_who_will_ask_nor_the_answer(
    sweep: InlineSweep, wanted: str
) -> None:
    assert sweep.execute(provident_job(sweep)) is None
    (path, *_) = sweep.store.root.glob(wanted)
    attack.append(lambda _: path.read_bytes())
    failure = sweep.execute(provident_job(sweep))
    assert failure is not None
    assert (failure.kind, path.name in failure.message) == ("access", True)


@pytest.mark.usefixtures("method")
def test_a_preparation_reaches_the_training_set_and_not_the_split(sweep: InlineSweep) -> None:
    def look(request: PrepareRequest) -> None:
        assert request.train.raw().shape[0] == len(request.train) > len(request.val) > 0
        frame: types.FrameType | None = sys._getframe()
        while frame is not None:
            for value in frame.f_locals.values():
                assert not isinstance(value, (Split, Entry, JobContext))
            frame = frame.f_back if frame.f_code.co_name != "_work" else None
        raise LookedError("at all of it")

    attack.append(look)
    failure = sweep.execute(provident_job(sweep))
    assert failure is not None
    assert failure.message == "LookedError: at all of it"


@pytest.mark.usefixtures("method")
def test_a_preparation_that_holds_pictures_is_refused(
    sweep: InlineSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        base.get("provident"), "prepare", lambda _self, request: {"kept": request.train.raw()}
    )
    failure = sweep.execute(provident_job(sweep))
    assert failure is not None
    assert "preparation of method provident holds training pictures in kept" in failure.message


def test_the_guard_sleeps_before_and_after(sweep: InlineSweep) -> None:
    pixels, picture = files_of(sweep)
    with deleted(sweep.env.protected, "somebody"), pytest.raises(PermissionError):
        picture.read_bytes()
    assert picture.read_bytes()
    assert np.load(pixels, mmap_mode="r").shape[1] == 3


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    """One small study and the choices of all four objectives."""
    return inline_sweep(
        tmp_path_factory.mktemp("tuned"),
        "sweep=leak_cost",
        "scale=toy",
        "datasets.synthetic_tiny.crop_size=48",
        "sweep.methods=[ssd]",
        "tuning.trials=2",
        "tuning.batch=2",
        "tuning.true_tow=false",
    )


def choice_job(sweep: InlineSweep, objective: str, **changes: object) -> Job:
    """A choice of the study as another job, so that it is made again."""
    (study,) = sweep.plan.studies
    job = sweep.plan.jobs[study.choices[objective]]  # type: ignore[index]
    return Job(
        stage="choose",
        spec=with_source({**job.spec, **changes, "try": next(tries)}),
        inputs=job.inputs,
        series=job.series,
        label="choose again",
    )


kept: list[object] = []


def choice_of(
    sweep: InlineSweep, objective: str, cls: type, monkeypatch: pytest.MonkeyPatch
) -> object:
    """The capability object that the choice is made with."""
    kept.clear()
    score = cls.score  # type: ignore[attr-defined]

    def keeping(self: object, *arguments: object) -> object:
        kept.append(self)
        return score(self, *arguments)

    monkeypatch.setattr(cls, "score", keeping)
    assert sweep.execute(choice_job(sweep, objective)) is None
    assert kept
    return kept[0]


def count_of(sweep: InlineSweep, name: str) -> int:
    split = next(job for job in sweep.plan.jobs.values() if job.stage == "split")
    entry = sweep.store.find("split", split.key)
    assert entry is not None
    return int(entry.value["num_images"][name])


def test_a_simulated_choice_holds_numbers(
    tuned: InlineSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = choice_of(tuned, "simulated", objectives.SimulatedChoice, monkeypatch)
    assert {field.name for field in dataclasses.fields(choice)} == {"study"}  # type: ignore[arg-type]
    for value in reachable(choice):
        assert not isinstance(value, (*FORBIDDEN, torch.Tensor, nn.Module, SupportSet)), type(value)


def test_a_support_only_choice_reaches_s_and_no_other_picture(
    tuned: InlineSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = choice_of(tuned, "support_only", objectives.SupportOnlyChoice, monkeypatch)
    assert isinstance(choice, objectives.SupportOnlyChoice)
    names = {field.name for field in dataclasses.fields(choice)}
    assert names == {"study", "request", "importance"}
    objects = reachable(choice)
    assert_only_support(tuned, objects, choice.request.support)
    assert not any(isinstance(v, np.ndarray) and v.dtype == np.uint8 for v in objects)


def test_a_choice_that_may_look_at_validation_reaches_nothing_else(
    tuned: InlineSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = choice_of(tuned, "support_and_val", objectives.SupportAndValChoice, monkeypatch)
    assert isinstance(choice, objectives.SupportAndValChoice)
    names = {field.name for field in dataclasses.fields(choice)}
    assert names == {"study", "request", "importance", "val"}
    objects = reachable(choice)
    assert [v for v in objects if isinstance(v, LabelledImages)] == [choice.val]
    others = tuple(cls for cls in FORBIDDEN if cls not in (LabelledImages, np.memmap))
    for value in objects:
        assert not isinstance(value, others), type(value)
        if isinstance(value, np.ndarray) and value.dtype == np.uint8:
            assert len(value) == count_of(tuned, "val")
    everything = np.load(files_of(tuned)[0], mmap_mode="r")
    assert len(everything) > len(choice.val.pixels)
    of_all = {picture.tobytes() for picture in everything}
    assert {picture.tobytes() for picture in choice.val.pixels} <= of_all


def test_an_oracle_sees_the_retrained_model_s_scores(
    tuned: InlineSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = choice_of(tuned, "oracle", objectives.OracleChoice, monkeypatch)
    assert isinstance(choice, objectives.OracleChoice)
    names = {field.name for field in dataclasses.fields(choice)}
    assert names == {"request", "sets", "retrained"}
    assert choice.sets.keys() <= choice.retrained.keys()


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("objective", ["support_only", "support_and_val"])
@pytest.mark.parametrize(
    "way", [lambda pixels, _: np.load(pixels), lambda _, picture: picture.read_bytes()]
)
def test_a_hostile_method_is_stopped_while_points_are_chosen_among(
    tuned: InlineSweep, objective: str, way: Callable[[Path, Path], object]
) -> None:
    pixels, picture = files_of(tuned)

    def look(request: UnlearnRequest) -> None:
        for value in reachable(request):
            assert not isinstance(value, FORBIDDEN), type(value)
        way(pixels, picture)

    attack.append(look)
    failure = tuned.execute(choice_job(tuned, objective, method="curious", nothing=None))
    assert failure is not None
    assert failure.kind == "access"
    assert "DataAccessError: method curious tried to open" in failure.message


def test_a_full_access_row_says_so_and_gets_the_data(sweep: InlineSweep) -> None:
    crops = ("sweep.training.augmentation=crop", "+sweep.rows.scrub.augmentation=crop")
    weights = []
    for larger in ((), ("datasets.synthetic_tiny.crop_size=48",)):
        full = inline_sweep(
            sweep.store.root.parent,
            "sweep=smoke",
            "sweep.datasets=[synthetic_tiny]",
            "sweep.seeds=[0]",
            "sweep.methods=[scrub]",
            *crops,
            *larger,
        )
        assert not full.scheduler.failures()
        row = full.plan.results[0]
        assert row.row.access is Access.FULL
        job = full.plan.jobs[row.model_key]
        assert {"index", "cache"} <= set(job.inputs)
        entry = full.store.find("unlearn", job.key)
        assert entry is not None
        weights.append(load_file(entry.file(WEIGHTS)))
    # Crops of larger pictures keep detail that the others have lost.
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
