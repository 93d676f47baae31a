"""Which GPUs Ray may use: looked at where they are handed over, so that no GPU is needed."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oneshui.errors import InputError
from sweeps.config import load
from sweeps.executor.before_ray import VISIBLE, hides_gpus, only_gpus


@pytest.mark.parametrize(
    ("chosen", "before", "shown"),
    [
        ([0, 1], None, "0,1"),
        ([3], None, "3"),
        ([], None, ""),
        ([1], "2,5", "5"),
        ([1, 0], "GPU-aa, MIG-bb", "MIG-bb,GPU-aa"),
        ([], "2,5", ""),
        (None, "2,5", "2,5"),
        (None, None, None),
    ],
)
def test_what_is_started_sees_the_named_gpus_alone(
    chosen: list[int] | None,
    before: str | None,
    shown: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    if before is not None:
        monkeypatch.setenv(VISIBLE, before)
    with only_gpus(chosen, lambda: 4):
        assert os.environ.get(VISIBLE) == shown
    assert os.environ.get(VISIBLE) == before


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (None, r"names GPU 2, but this machine shows 2 \(CUDA_VISIBLE_DEVICES is not set\)"),
        ("7", r"names GPU 2, but this machine shows 1 \(CUDA_VISIBLE_DEVICES is '7'\)"),
        ("7,-1,8,9", "shows 1 "),
        ("", "shows 0 "),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(
    before: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    if before is not None:
        monkeypatch.setenv(VISIBLE, before)
    with pytest.raises(InputError, match=said), only_gpus([2], lambda: 2):
        raise AssertionError("nothing may start")


def test_ray_is_started_with_the_gpus_of_the_command_and_without_the_user_s_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps.executor import tune

    handed: dict[str, Any] = {}

    def init(**options: Any) -> Any:
        handed.update(options, visible=os.environ.get(VISIBLE))
        return SimpleNamespace(dashboard_url="")

    monkeypatch.setenv(VISIBLE, "4,5,6")
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with tune.ray_cluster(load(["cluster.gpus=[0,2]"]).cluster, tmp_path):
        assert handed["visible"] == "4,6"
    # Ray counts the visible ones itself, up to those that there are.
    assert "num_gpus" not in handed
    job = handed["job_config"]
    assert job._py_driver_sys_path == [str(Path(tune.__file__).parents[2])]
    assert job._runtime_env_has_working_dir()


def test_a_plan_knows_that_gpus_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    assert not hides_gpus(None)
    assert not hides_gpus((0,))
    assert hides_gpus(())
    for shown in ("", "-1", "NoDevFiles"):
        monkeypatch.setenv(VISIBLE, shown)
        assert hides_gpus(None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("cluster.gpus=[0,0]", "each once"),
        ("cluster.gpus=[-1]", "each once"),
        ("cluster.machine_workers=-1", "cluster.machine_workers is -1"),
    ],
)
def test_what_makes_no_sense_is_refused(given: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load([given])
    with pytest.raises(InputError, match=r"cluster\.gpus is for cluster=local"):
        load(["cluster=existing", "cluster.gpus=[0]"])
