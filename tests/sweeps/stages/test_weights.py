"""Starting weights: they count by what is in them, and are in the store before anything trains."""

from __future__ import annotations

import dataclasses
import io
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from support.inline_sweep import InlineSweep, inline_sweep
from support.people import needs_people
from support.stage_contexts import changed, context_of, jobs_of

from oneshui.errors import InputError
from oneshui.named_weights import NAMED
from oneshui.spec import ModelSpec
from oneshui.training.converted import converted
from oneshui.training.models import imagenet_origin, make_model, save_weights
from sweeps.cli.datasets import prepare_weights
from sweeps.config import load
from sweeps.graph.artifacts import WEIGHTS
from sweeps.graph.cells import weights_job
from sweeps.graph.job import Job
from sweeps.graph.plan import Plan, expand
from sweeps.stages.context import new_model
from sweeps.stages.weights import are_current, weights
from sweeps.store import Entry, LocalStore
from sweeps.store.status import scan

SMOKE = ("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0]")
METHODS = "sweep.methods=[pretrain,retrain,ssd,finetune]"
MODEL = load(SMOKE).sweep.model


def write(path: Path, seed: int) -> Path:
    save_weights(make_model(MODEL, 7, seed=seed), path)
    return path


def plan_of(weights: object) -> Plan:
    return expand(load([*SMOKE, METHODS, f"sweep.model.weights={weights}"]).sweep)


def prepared(weights: object, store: LocalStore, said: io.StringIO | None = None) -> Entry:
    sweep = load([*SMOKE, METHODS, f"sweep.model.weights={weights}"]).sweep
    prepare_weights(sweep, store, store.root / "logs", Console(file=said or io.StringIO()))
    job = weights_job(sweep)
    assert job is not None
    entry = store.find("weights", job.key)
    assert entry is not None
    return entry


def test_a_file_counts_by_its_content_and_not_by_its_path(tmp_path: Path) -> None:
    first = plan_of(write(tmp_path / "a.safetensors", 1))
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "a.safetensors").rename(tmp_path / "elsewhere" / "b.safetensors")
    assert plan_of(moved).jobs.keys() == first.jobs.keys()
    other = plan_of(write(tmp_path / "a.safetensors", 2))
    same = {other.jobs[key].stage for key in other.jobs.keys() & first.jobs.keys()}
    assert same == {"index", "cache", "split"}
    # Nor is it the same as weights that are drawn, or timm's.
    for others in ("random", "imagenet"):
        stages = {job.stage for key, job in plan_of(others).jobs.items() if key in first.jobs}
        assert stages == {"index", "cache", "split"}


@needs_people
def test_named_weights_are_converted_into_the_store_and_count_by_content(tmp_path: Path) -> None:
    sweep, store = load(["sweep=people"]).sweep, LocalStore(tmp_path / "store")
    job = weights_job(sweep)
    assert job is not None
    assert job.spec["content"] == NAMED["lite0"].sha256
    assert job.label == "lite0 weights of tf_efficientnet_lite0"
    prepare_weights(sweep, store, tmp_path / "logs", Console(file=io.StringIO()))
    entry = store.find("weights", job.key)
    assert entry is not None
    stored = load_file(entry.file(WEIGHTS))
    expected = converted(NAMED["lite0"])
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name], expected[name]) for name in expected)
    said = io.StringIO()
    prepare_weights(sweep, store, tmp_path / "logs", Console(file=said))
    assert said.getvalue() == ""


def test_what_trains_needs_the_weights_and_nothing_else_does(tmp_path: Path) -> None:
    plan = plan_of(write(tmp_path / "w.safetensors", 1))
    (job,) = [job for job in plan.jobs.values() if job.stage == "weights"]
    needing = {it.label.split(" synthetic")[0] for it in plan.jobs.values() if job.key in it.needs}
    assert needing == {"pretrain", "retrain", "unlearn finetune"}


def test_an_exchanged_file_is_told_as_the_reason(tmp_path: Path) -> None:
    file, store = write(tmp_path / "w.safetensors", 1), LocalStore(tmp_path / "store")
    entries: dict[str, Entry] = {}
    for key, job in plan_of(file).jobs.items():
        with store.work(job) as work:
            contents = {name: entries[needed].content for name, needed in job.needed.items()}
            entries[key] = work.publish({"of": key}, contents, {})
    assert not scan(plan_of(file), store, discard=False).reasons
    plan = plan_of(write(file, 2))
    reasons = scan(plan, store, discard=False).reasons
    by_stage = {plan.jobs[key].stage: reason for key, reason in reasons.items()}
    assert by_stage.pop("weights") == "weights changed"
    assert by_stage.keys() == {"pretrain", "retrain", "prepare", "unlearn", "evaluate", "score"}
    assert set(by_stage.values()) == {"input changed"}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    folder = tmp_path_factory.mktemp("started")
    file = write(folder / "w.safetensors", 1)
    return inline_sweep(folder, *SMOKE, "sweep.methods=[pretrain]", f"sweep.model.weights={file}")


def test_training_begins_with_the_file_s_weights_and_a_classifier_of_its_own(
    started: InlineSweep, tmp_path: Path
) -> None:
    (job,) = jobs_of(started, "pretrain")
    context = context_of(started, job, tmp_path)
    begins = new_model(context, seed=5).state_dict()
    file = make_model(MODEL, 7, seed=1).state_dict()
    num_outputs = context.entries["split"].value["num_outputs"]
    assert num_outputs != 7
    drawn = make_model(MODEL, num_outputs, seed=5).state_dict()
    for name, tensor in begins.items():
        expected = drawn[name] if name.startswith("head.fc") else file[name]
        assert torch.equal(tensor, expected), name


def test_a_file_that_is_gone_or_another_is_named(started: InlineSweep, tmp_path: Path) -> None:
    (job,) = jobs_of(started, "weights")
    (tmp_path / "draft").mkdir()
    with pytest.raises(InputError, match=r"weights.* changed while the sweep ran; run the same"):
        weights(context_of(started, changed(job, content="0" * 64), tmp_path / "draft"))
    assert started.env.weights_file is not None
    aside = started.env.weights_file.rename(started.env.weights_file.with_suffix(".aside"))
    try:
        with pytest.raises(InputError, match=r"cannot read sweep.model.weights .*w.safetensors"):
            weights(context_of(started, job, tmp_path / "draft"))
        with pytest.raises(InputError, match=r"w.safetensors cannot be read .*; set it to a file"):
            plan_of(started.env.weights_file)
    finally:
        aside.rename(started.env.weights_file)


def test_they_are_prepared_once(tmp_path: Path) -> None:
    file, store = write(tmp_path / "w.safetensors", 1), LocalStore(tmp_path / "store")
    said = io.StringIO()
    first = prepared(file, store, said)
    assert "preparing the file weights of convnext_atto" in said.getvalue()
    again = io.StringIO()
    assert prepared(file, store, again) == first
    assert again.getvalue() == ""
    (first.folder / "weights.safetensors").write_bytes(b"spoiled")
    assert prepared(file, store).file("weights.safetensors").stat().st_size > 1000


def test_a_file_of_another_network_is_refused_with_the_reason_and_nothing_is_kept(
    tmp_path: Path,
) -> None:
    deeper = {"depths": [2, 1, 1, 1], "dims": [8, 16, 24, 32]}
    other = make_model(dataclasses.replace(MODEL, options=deeper), 7, seed=1)
    file, store = tmp_path / "w.safetensors", LocalStore(tmp_path / "store")
    save_weights(other, file)
    with pytest.raises(InputError, match=r"w\.safetensors does not fit the model: .*depth"):
        prepared(file, store)
    assert store.keys("weights") == set()


TOY = """
import timm
from timm.models import generate_default_cfgs, register_model
from timm.models.convnext import _create_convnext

default_cfgs = generate_default_cfgs({"oneshui_toy.first": {"file": FILE, "num_classes": 7}})

@register_model
def oneshui_toy(pretrained=False, **options):
    sizes = dict(conv_mlp=True, depths=[1, 1, 1, 1], dims=[8, 16, 24, 32])
    return _create_convnext("oneshui_toy", pretrained=pretrained, **{**sizes, **options})
"""


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Path]:
    """A model of timm with published weights, which are in a file of this machine."""
    module = types.ModuleType("oneshui_toy_models")
    module.__dict__["FILE"] = str(write(tmp_path / "published.safetensors", 1))
    sys.modules[module.__name__] = module
    exec(TOY, module.__dict__)
    yield tmp_path / "published.safetensors"
    del sys.modules[module.__name__]


def published_entry(store: LocalStore) -> tuple[Job, Entry]:
    sweep = load([*SMOKE, "sweep.model.name=oneshui_toy", "sweep.model.weights=imagenet"]).sweep
    prepare_weights(sweep, store, store.root / "logs", Console(file=io.StringIO()))
    job = weights_job(sweep)
    assert job is not None
    entry = store.find("weights", job.key)
    assert entry is not None
    return job, entry


def test_timm_s_weights_are_kept_and_fetched_again_only_when_timm_brings_others(
    published: Path, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "store")
    job, first = published_entry(store)
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes(first.file("weights.safetensors").read_bytes())
    from_file = ModelSpec(name=MODEL.name, image_size=32, weights=str(kept), options=MODEL.options)
    ours, theirs = make_model(from_file, 7, seed=9).state_dict(), make_model(MODEL, 7, seed=1)
    assert all(torch.equal(ours[name], it) for name, it in theirs.state_dict().items())
    assert are_current(store, job)
    assert published_entry(store)[1] == first
    write(published, 2)
    assert not are_current(store, job)
    job_again, second = published_entry(store)
    assert job_again.key == job.key
    assert second.content != first.content


def test_a_model_without_published_weights_says_so() -> None:
    with pytest.raises(InputError, match=r"timm has no ImageNet weights for vit_giant_patch14_224"):
        imagenet_origin("vit_giant_patch14_224")
