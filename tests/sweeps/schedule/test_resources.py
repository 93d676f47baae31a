from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.config import load
from sweeps.graph.job import Job
from sweeps.graph.launch import ClusterSpec
from sweeps.graph.plan import Plan, expand
from sweeps.graph.spec import StageResources
from sweeps.schedule.resources import GPU_SHARE, HEADROOM, SHARES, ResourceRequests, default_request
from sweeps.schedule.room import Request

GPU = 80 * 2**30


@functools.cache
def grid(*extra: str) -> Plan:
    return expand(
        load(
            [
                "sweep=full",
                "sweep.datasets=[celeba,mufac]",
                "sweep.forget_sizes=[5,10]",
                "sweep.seeds=[0]",
                "sweep.methods=[pretrain,retrain,ssd,jit]",
                *extra,
            ]
        ).sweep
    )


def find(label: str, plan: Plan | None = None) -> Job:
    (job,) = [job for job in (plan or grid()).jobs.values() if job.label == label]
    return job


def requests(
    plan: Plan | None = None,
    *,
    has_gpu: bool = True,
    gpu_bytes: int = GPU,
    measured: Mapping[str, float] | None = None,
    **cluster: Any,
) -> ResourceRequests:
    plan = plan or grid()
    peaks = [(find(label, plan), share * GPU) for label, share in (measured or {}).items()]
    return ResourceRequests(
        plan.sweep,
        ClusterSpec(**cluster),
        plan.jobs,
        peaks,
        has_gpu=has_gpu,
        gpu_bytes=gpu_bytes,
    )


TRAINING = "pretrain celeba n5 s0"


def test_without_configuration_all_jobs_are_alike() -> None:
    assert requests(has_gpu=False).all_requests() == [Request(cpus=1)]
    assert requests().all_requests() == [Request(cpus=1, gpus=GPU_SHARE)]


def test_the_default_is_what_the_cluster_says() -> None:
    cluster = ClusterSpec(cpus_per_worker=3, gpus_per_worker=0.0, memory_gb_per_worker=4)
    assert default_request(cluster, has_gpu=True) == Request(cpus=3, gpus=0, memory_gb=4)
    assert requests(cpus_per_worker=2, gpus_per_worker=1.0).default == Request(cpus=2, gpus=1)


def test_a_stage_can_have_resources_of_its_own() -> None:
    own = requests(
        cpus_per_worker=2,
        memory_gb_per_worker=4.0,
        stages={"pretrain": StageResources(gpus=1.0), "cache": StageResources(cpus=4, gpus=0.0)},
    )
    assert own.request(find(TRAINING)) == Request(cpus=2, gpus=1.0, memory_gb=4)
    assert own.request(find("cache mufac")) == Request(cpus=4, gpus=0.0, memory_gb=4)
    assert own.request(find("unlearn ssd mufac n5 s0")) == own.default
    assert len(own.all_requests()) == 3


def test_a_dataset_can_have_resources_of_its_own() -> None:
    plan = grid("+datasets.celeba.resources={pretrain: {gpus: 0.25}, unlearn: {memory_gb: 9.5}}")
    own = requests(plan, stages={"pretrain": StageResources(cpus=4, gpus=1.0)})
    assert own.request(find(TRAINING, plan)) == Request(cpus=4, gpus=0.25)
    assert own.request(find("pretrain mufac n5 s0", plan)) == Request(cpus=4, gpus=1.0)
    there = own.request(find("unlearn ssd celeba n5 s0", plan))
    assert there == Request(cpus=1, gpus=GPU_SHARE, memory_gb=9.5)
    assert own.request(find("unlearn ssd mufac n5 s0", plan)) == own.default


@given(st.floats(0.001, 3.0))
def test_a_measured_peak_is_packed_with_headroom(share: float) -> None:
    request = requests(measured={TRAINING: share}).request(find(TRAINING))
    assert request.cpus == 1
    assert request.gpus in SHARES
    assert request.gpus == 1.0 or request.gpus >= share * HEADROOM
    smaller = [size for size in SHARES if size < request.gpus]
    assert not smaller or smaller[-1] < share * HEADROOM


@pytest.mark.parametrize(
    ("peak", "share"),
    [(0.01, 0.125), (0.1, 0.125), (0.11, 0.25), (0.2, 0.25), (0.4, 0.5), (0.41, 1.0), (2.0, 1.0)],
)
def test_shares_come_in_few_sizes(peak: float, share: float) -> None:
    assert requests(measured={TRAINING: peak}).request(find(TRAINING)).gpus == share


def test_the_largest_peak_of_a_kind_counts_and_nothing_measured_says_nothing() -> None:
    own = requests()
    job = find(TRAINING)
    for peak, share in ((0.0, GPU_SHARE), (0.05, 0.125), (0.3, 0.5), (0.05, 0.5)):
        own.record(job, peak * GPU)
        assert own.request(job).gpus == share


def test_a_peak_is_used_for_other_forget_sizes_but_not_for_other_kinds() -> None:
    own = requests(measured={TRAINING: 0.05, "unlearn ssd celeba n5 s0": 0.2})
    for label, share in {
        "pretrain celeba n10 s0": 0.125,
        "unlearn ssd celeba n10 s0": 0.25,
        "unlearn jit celeba n5 s0": GPU_SHARE,
        "unlearn ssd mufac n5 s0": GPU_SHARE,
        "pretrain mufac n5 s0": GPU_SHARE,
        "retrain celeba n5 s0": GPU_SHARE,
    }.items():
        assert own.request(find(label)).gpus == share, label


@pytest.mark.parametrize(
    "how",
    [
        {"stages": {"pretrain": StageResources(gpus=1.0)}},
        {"gpu_bytes": 0},
        {"pack_gpus": False, "gpus_per_worker": 1.0},
    ],
    ids=["configured", "size unknown", "switched off"],
)
def test_peaks_change_nothing_where_they_must_not(how: dict[str, Any]) -> None:
    job = find(TRAINING)
    assert requests(measured={TRAINING: 0.05}, **how).request(job) == requests(**how).request(job)


def test_peaks_on_a_machine_without_gpus_change_nothing() -> None:
    own = requests(has_gpu=False, measured={TRAINING: 0.05})
    assert own.request(find(TRAINING)) == Request(cpus=1)


def test_peaks_count_from_when_the_size_of_the_gpu_is_known() -> None:
    own = requests(gpu_bytes=0, measured={TRAINING: 0.05})
    assert own.request(find(TRAINING)).gpus == GPU_SHARE
    own.gpu_bytes = GPU
    assert own.request(find(TRAINING)).gpus == 0.125


def test_a_job_that_ran_out_of_memory_gets_twice_as_much_and_its_kind_does_not() -> None:
    own = requests(measured={TRAINING: 0.05}, memory_gb_per_worker=3.0)
    job, other = find(TRAINING), find("pretrain celeba n10 s0")
    for share, memory in ((0.25, 6.0), (0.5, 12.0), (1.0, 24.0), (1.0, 48.0)):
        own.enlarge(job)
        assert own.request(job) == Request(cpus=1, gpus=share, memory_gb=memory)
    assert own.request(other) == Request(cpus=1, gpus=0.125, memory_gb=3.0)


@pytest.mark.parametrize(("share", "enlarged"), [(0.0, 0.0), (0.75, 1.0), (1.0, 1.0)])
def test_no_job_is_enlarged_beyond_a_whole_gpu(share: float, enlarged: float) -> None:
    own = requests(gpus_per_worker=share, pack_gpus=False)
    own.enlarge(find(TRAINING))
    assert own.request(find(TRAINING)).gpus == enlarged


@pytest.mark.parametrize(("has_gb", "gets"), [(6.0, (0.25, 6.0)), (5.0, (0.25, 3.0))])
def test_no_job_asks_for_memory_that_no_machine_has(
    has_gb: float, gets: tuple[float, float]
) -> None:
    own = requests(measured={TRAINING: 0.05}, memory_gb_per_worker=3.0)
    own.enlarge(find(TRAINING), lambda request: request.memory_gb <= has_gb)
    assert own.request(find(TRAINING)) == Request(cpus=1, gpus=gets[0], memory_gb=gets[1])


def test_a_job_that_no_machine_could_give_more_asks_for_what_it_had() -> None:
    own = requests(measured={TRAINING: 0.05}, memory_gb_per_worker=3.0)
    own.enlarge(find(TRAINING), lambda request: request.gpus < 0.25)
    assert own.request(find(TRAINING)) == Request(cpus=1, gpus=0.125, memory_gb=3.0)
