"""One job from its inputs to its result, and how a worker's process computes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from contracts.store_contract import publish
from support.worker_jobs import JOBS, PRETRAIN, SPLIT, found, write_hello

from sweeps.stages.context import JobContext, WorkerEnvironment
from sweeps.stages.run import STAGES, limit_threads, run
from sweeps.store import DamagedEntryError, LocalStore


@pytest.fixture
def env(tmp_path: Path) -> WorkerEnvironment:
    return WorkerEnvironment(store=LocalStore(tmp_path), data_folders={}, logs=tmp_path / "logs")


def test_an_input_that_has_disappeared_is_damage_of_the_input(env: WorkerEnvironment) -> None:
    with pytest.raises(DamagedEntryError) as caught:
        run(PRETRAIN, JOBS, env)
    assert (caught.value.stage, caught.value.key) == ("split", SPLIT.key)
    assert env.store.find("pretrain", PRETRAIN.key) is None


def test_a_result_says_what_it_was_made_from_and_what_it_cost(
    env: WorkerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = publish(env.store, SPLIT)
    seen: list[JobContext] = []

    def compute(context: JobContext) -> dict[str, int]:
        seen.append(context)
        write_hello(context)
        return {"value": 3}

    monkeypatch.setitem(STAGES, "pretrain", compute)
    checkpoint = env.store.root / ".checkpoints" / f"pretrain-{PRETRAIN.key}"
    checkpoint.mkdir()
    made = run(PRETRAIN, JOBS, env)
    assert not checkpoint.exists()
    assert made == found(env, PRETRAIN)
    assert (made.value, made.inputs) == ({"value": 3}, {"split": split.content})
    assert made.cost["method_seconds"] == 1.5
    assert 0 < made.cost["seconds"] < 60
    assert made.cost["worker"].endswith(f":{os.getpid()}")
    (context,) = seen
    assert context.entries == {"split": split}
    assert not context.folder.exists()
    # Done: nothing is computed a second time.
    assert run(PRETRAIN, JOBS, env) == made
    assert len(seen) == 1


@pytest.fixture
def settings() -> Iterator[None]:
    threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(exact, warn_only=warn)


@pytest.mark.usefixtures("settings")
def test_a_worker_computes_with_its_threads_and_the_same_every_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)
    limit_threads(2)
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
