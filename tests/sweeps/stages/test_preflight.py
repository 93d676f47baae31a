"""What a method cannot do is said before anything trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.inline_sweep import inline_sweep

from oneshui.errors import InputError
from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.stages.context import WorkerEnvironment
from sweeps.stages.memory import gpu_bytes
from sweeps.stages.preflight import preflight
from sweeps.store import LocalStore
from sweeps.store.objects import MissingCredentialsError, StoreUnreachableError


def check(folder: Path, *overrides: str) -> None:
    """Preflight of a sweep whose datasets are indexed, as workers do it."""
    indexed = inline_sweep(
        folder, "sweep=smoke", "sweep.seeds=[0]", "sweep.methods=[pretrain]", *overrides[:1]
    )
    plan = expand(load(["sweep=smoke", "sweep.seeds=[0]", *overrides]).sweep)
    preflight(plan.jobs.values(), indexed.env)


def test_all_methods_of_the_smoke_sweep_pass(tmp_path: Path) -> None:
    check(tmp_path, "sweep.datasets=[synthetic_tiny_mufac]")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{method: scrub, divergence: bernoulli}", "scrub cannot be used here: .*bernoulli"),
        ("{method: pgu, entropy: bernoulli}", "pgu cannot be used here: .*'softmax'"),
    ],
)
def test_a_method_that_does_not_fit_the_task_is_refused(
    tmp_path: Path, row: str, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        check(
            tmp_path,
            "sweep.datasets=[synthetic_tiny_mufac]",
            f"+sweep.rows.wrong={row}",
            "sweep.methods=[wrong]",
        )


def test_a_machine_without_the_dataset_is_named_before_anything_is_read(tmp_path: Path) -> None:
    swept = inline_sweep(
        tmp_path,
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny]",
        "sweep.seeds=[0]",
        "sweep.methods=[pretrain]",
    )
    elsewhere = dict.fromkeys(swept.env.data_folders, tmp_path / "nowhere")
    env = dataclasses.replace(swept.env, data_folders=elsewhere)
    # Everything is decoded already: the pictures are not needed any more.
    preflight(swept.plan.jobs.values(), env)
    (cache,) = (job for job in swept.plan.jobs.values() if job.stage == "cache")
    swept.store.discard(cache.stage, cache.key)
    with pytest.raises(InputError, match=r"has no dataset folder .*nowhere"):
        preflight(swept.plan.jobs.values(), env)
    table = tmp_path / "pets.csv"
    env = dataclasses.replace(env, data_folders=dict.fromkeys(elsewhere, table))
    with pytest.raises(InputError, match=r"has no table .*pets\.csv; put the data there"):
        preflight(swept.plan.jobs.values(), env)
    table.touch()
    preflight(swept.plan.jobs.values(), env)


def test_a_gpu_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    env = WorkerEnvironment(
        store=LocalStore(tmp_path), data_folders={}, logs=tmp_path, device="cuda:99"
    )
    with pytest.raises(InputError, match=r"cannot use it as cuda:99; .*say device=cpu"):
        preflight([], env)
    assert gpu_bytes("cuda:99") == 0


@pytest.mark.parametrize(
    ("error", "is_refused"),
    [(MissingCredentialsError("no credentials"), True), (StoreUnreachableError("away"), False)],
    ids=lambda it: type(it).__name__,
)
def test_a_store_that_is_away_is_the_jobs_matter_but_one_that_is_closed_is_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: StoreUnreachableError,
    is_refused: bool,
) -> None:
    store = LocalStore(tmp_path)
    plan = expand(load(["sweep=smoke", "sweep.seeds=[0]"]).sweep)

    def find(*_: object) -> None:
        raise error

    monkeypatch.setattr(store, "find", find)
    env = WorkerEnvironment(store=store, data_folders={}, logs=tmp_path)
    if is_refused:
        with pytest.raises(InputError, match=r"^on the machine .*: no credentials"):
            preflight(plan.jobs.values(), env)
    else:
        preflight(plan.jobs.values(), env)
        assert "away" in caplog.text
