"""What jobs compute on: what the command names, what Ray hands out, what a worker makes of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import played_device

from oneshui.errors import InputError
from sweeps.config import load
from sweeps.executor import before_ray, tune
from sweeps.executor.trainable import JobTrainable
from sweeps.graph.launch import Device
from sweeps.schedule.room import Node
from sweeps.stages.context import environment
from sweeps.stages.devices import count_named, device_of_share
from sweeps.store import LocalStore


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("device=gpu", "device is 'gpu'"),
        ("device=cuda:1", "device is 'cuda:1'"),
        ("precision=half", "precision is 'half'"),
        ("sweep.model.precision=fp16", r"sweep\.model\.precision is 'fp16'"),
    ],
)
def test_a_name_that_means_nothing_is_refused(given: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load([given])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["device=cpu", "cluster.gpus_per_worker=0.5"], "gpus_per_worker is 0.5, but device is"),
        (["device=cpu", "+cluster.stages.pretrain.gpus=1"], r"stages\.pretrain\.gpus is 1, but"),
        (["device=mps", "cluster.gpus_per_worker=0"], "gpus_per_worker is 0, but device is 'mps'"),
    ],
)
def test_shares_that_do_not_fit_the_device_are_refused(given: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(given)
    assert load(given[:1]).device == given[0].partition("=")[2]


def handed_to_ray(device: Device, monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, Any]:
    handed: dict[str, Any] = {}

    def init(**options: Any) -> Any:
        handed.update(options)
        return SimpleNamespace(dashboard_url="")

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with tune.ray_cluster(load([]).cluster, folder, device):
        return handed


def test_ray_counts_its_own_gpus_and_is_told_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for device in ("auto", "cuda"):
        assert "num_gpus" not in handed_to_ray(device, monkeypatch, tmp_path)
    assert handed_to_ray("cpu", monkeypatch, tmp_path)["num_gpus"] == 0
    monkeypatch.setattr(tune, "count_named", lambda device: {"mps": 1}[device])
    assert handed_to_ray("mps", monkeypatch, tmp_path)["num_gpus"] == 1


@played_device.needed
def test_a_named_accelerator_is_counted_where_it_is_and_refused_where_it_is_not() -> None:
    with played_device.played() as device:
        assert count_named(device.type) == 1
    with pytest.raises(InputError, match=r"device mps cannot be used: .*; say device=cpu"):
        count_named("mps")


def test_a_named_accelerator_that_no_machine_has_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = load([]).cluster
    for nodes, found in (([Node(cpus=4)], False), ([Node(cpus=4), Node(cpus=2, gpus=1)], True)):
        monkeypatch.setattr(tune, "cluster_nodes", lambda _, nodes=nodes: nodes)
        assert tune.has_gpus(cluster, "auto") is found
        assert not tune.has_gpus(cluster, "cpu")
        if found:
            assert tune.has_gpus(cluster, "xpu")
            continue
        with pytest.raises(InputError, match="no machine of the cluster has a GPU"):
            tune.has_gpus(cluster, "xpu")


def device_of_worker(
    monkeypatch: pytest.MonkeyPatch, folder: Path, gpus: float, *command: str
) -> str:
    spec = load([*command, f"output_dir={folder}"])
    env = environment(spec, LocalStore(folder / "store"), {})
    node = SimpleNamespace(get_node_id=lambda: "node 1")
    monkeypatch.setattr("ray.get_runtime_context", lambda: node)
    worker = JobTrainable.__new__(JobTrainable)
    worker.setup({"gpus": gpus}, jobs={}, env=env)
    return worker._env.device


def test_a_job_with_a_share_computes_on_the_accelerator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert device_of_worker(monkeypatch, tmp_path, 0.0, "device=mps") == "cpu"
    assert device_of_worker(monkeypatch, tmp_path, 0.5, "device=mps") == "mps"
    assert device_of_worker(monkeypatch, tmp_path, 0.0) == "cpu"


def test_without_a_name_it_is_what_torch_finds(accelerator: torch.device) -> None:
    assert device_of_share("") == accelerator.type
    assert device_of_share("mps") == "mps"


@played_device.needed
def test_a_gpu_of_ray_s_that_torch_does_not_find_is_called_what_the_check_refuses() -> None:
    assert device_of_share("") == "cuda"


def test_a_plan_is_for_gpus_where_a_maker_s_tool_is_or_they_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(before_ray.VISIBLE, raising=False)
    for tool in ("nvidia-smi", "rocm-smi", "xpu-smi"):
        monkeypatch.setattr("shutil.which", lambda name, tool=tool: name if name == tool else None)
        assert before_ray.sees_gpus(None, "auto")
        assert not before_ray.sees_gpus((), "auto")
        assert not before_ray.sees_gpus(None, "cpu")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert not before_ray.sees_gpus(None, "auto")
    assert before_ray.sees_gpus(None, "mps")
