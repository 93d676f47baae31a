"""Values that no sweep may have are refused with their key."""

from __future__ import annotations

from typing import Any

import pytest

from oneshui.errors import InputError
from oneshui.spec import Access, Role
from sweeps.config import load
from sweeps.graph.launch import ClusterSpec, MachineType
from sweeps.graph.spec import BEYOND_SUPPORT, Cell, Row, StageResources


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"gpus_per_worker": 1.5}, "cluster.gpus_per_worker is 1.5"),
        ({"gpus_per_worker": 2.0}, "cluster.gpus_per_worker is 2.*no job computes on two"),
        ({"gpus_per_worker": -0.5}, "cluster.gpus_per_worker is -0.5"),
        ({"workers": 1025}, "cluster.workers is 1025"),
        ({"cpus_per_worker": 0}, "cluster.cpus_per_worker is 0"),
        ({"heartbeat_seconds": 1.9}, "cluster.heartbeat_seconds is 1.9"),
        ({"start_seconds": 4.9}, "cluster.start_seconds is 4.9"),
        ({"max_job_hours": 0.0}, "cluster.max_job_hours is 0"),
        ({"checkpoint_seconds": -1.0}, "cluster.checkpoint_seconds is -1"),
        ({"price_per_gpu_hour": -0.1}, "cluster.price_per_gpu_hour is -0.1"),
        ({"machines": {"a": MachineType(cpus=1, most=1)}}, "cluster.machines is for"),
    ],
    ids=lambda it: next(iter(it)) if isinstance(it, dict) else "",
)
def test_a_cluster_that_cannot_be_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ClusterSpec(**values)


def test_what_is_at_the_edge_is_accepted() -> None:
    for gpus in (None, 0.0, 0.5, 1.0):
        assert ClusterSpec(gpus_per_worker=gpus).gpus_per_worker == gpus
    ClusterSpec(heartbeat_seconds=2.0, start_seconds=5.0, max_job_hours=0.01, workers=1024)
    ClusterSpec(mode="existing", machines={"a": MachineType(cpus=1, most=1)})
    for gpus in (1.5, 2.0):
        with pytest.raises(InputError, match=rf"gpus is {gpus:g}.*no job computes on two"):
            StageResources(gpus=gpus)


@pytest.mark.parametrize("views", [0, 65])
def test_the_attack_looks_at_one_view_at_least(views: int) -> None:
    with pytest.raises(InputError, match=f"sweep.views is {views}"):
        load(["sweep=smoke", f"sweep.views={views}"])
    assert load(["sweep=smoke", "sweep.views=1"]).sweep.views == 1


def test_only_what_s_and_simulation_can_say_is_fair() -> None:
    assert {"support_and_val", "oracle"} == BEYOND_SUPPORT


def test_a_row_knows_its_study_and_what_no_study_varies() -> None:
    values: dict[str, Any] = {"role": Role.METHOD, "access": Access.SUPPORT, "method": "ssd"}
    values["source"] = "0123456789abcdef"
    space: Any = {"alpha": object()}
    row = Row(
        name="a@oracle",
        hyperparameters={"alpha": 1.0, "batch_size": 3},
        prepare=None,
        space=space,
        objective="oracle",
        **values,
    )
    assert row.study == "a"
    assert row.fixed == {"batch_size": 3}
    plain = Row(name="a@oracle", hyperparameters={"alpha": 1.0}, prepare=None, **values)
    assert plain.study == "a@oracle"


@pytest.mark.parametrize("vary", ["all", "split", "training", "unlearning", "support"])
def test_a_cell_s_seed_varies_what_it_shall_and_leaves_the_rest_fixed(vary: Any) -> None:
    cell = Cell(dataset="a", num_forget=4, seed=7, vary=vary, fixed_seed=3)
    for level in ("split", "training", "unlearning", "support"):
        assert getattr(cell, f"{level}_seed") == (7 if vary in ("all", level) else 3)


@pytest.mark.parametrize("key", ["seeds=[1,1]", "forget_sizes=[4,4]"])
def test_a_cell_stands_in_a_sweep_once(key: str) -> None:
    with pytest.raises(InputError, match="repeats a value"):
        load(["sweep=smoke", "sweep.datasets=[synthetic_tiny]", f"sweep.{key}"])


@pytest.mark.parametrize(
    ("size", "is_accepted"), [(31, False), (32, True), (4096, True), (4097, False)]
)
def test_crops_are_cut_from_pictures_no_smaller_than_the_network_s(
    size: int, is_accepted: bool
) -> None:
    command = ["sweep=smoke", f"datasets.synthetic_tiny.crop_size={size}"]
    if is_accepted:
        assert load(command).sweep.datasets["synthetic_tiny"].crop_size == size
    else:
        with pytest.raises(InputError, match=f"crop_size is {size}, but it must be 32 "):
            load(command)
