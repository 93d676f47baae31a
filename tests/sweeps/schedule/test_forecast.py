from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.config import load
from sweeps.graph.cells import remaining_chain
from sweeps.graph.job import STAGES, Job
from sweeps.graph.launch import ClusterSpec
from sweeps.graph.plan import expand
from sweeps.schedule.estimates import Estimates
from sweeps.schedule.forecast import forecast, makespan, useful_workers
from sweeps.schedule.resources import ResourceRequests

Graph = tuple[dict[str, Job], dict[str, float]]


@st.composite
def layered_graphs(draw: st.DrawFn) -> Graph:
    """Jobs whose stages follow one another, as in a sweep, and their seconds."""
    jobs: dict[str, Job] = {}
    seconds: dict[str, float] = {}
    places = sorted(draw(st.lists(st.integers(2, len(STAGES) - 1), min_size=1, max_size=14)))
    for number, place in enumerate(places):
        known = list(jobs)
        inputs = draw(st.lists(st.sampled_from(known), unique=True, max_size=3)) if known else []
        job = Job(
            stage=STAGES[place],
            spec={"number": number},
            inputs={f"input {key}": key for key in inputs},
            label=f"j{number}",
        )
        jobs[job.key] = job
        seconds[job.key] = draw(st.integers(0, 64)) / 4
    return jobs, seconds


def chain_of(graph: Graph) -> float:
    jobs, seconds = graph
    return max(remaining_chain(jobs, lambda job: seconds[job.key]).values())


def line(*seconds: float, chained: bool) -> Graph:
    jobs: dict[str, Job] = {}
    took = {}
    for number, each in enumerate(seconds):
        inputs = {"before": list(jobs)[-1]} if chained and jobs else {}
        job = Job(stage="unlearn", spec={"number": number}, inputs=inputs, label=str(number))
        jobs[job.key] = job
        took[job.key] = each
    return jobs, took


@given(layered_graphs())
@settings(deadline=None)
def test_one_worker_takes_the_sum_and_many_take_the_longest_chain(graph: Graph) -> None:
    jobs, seconds = graph
    assert makespan(jobs, seconds, 1) == sum(seconds.values())
    assert makespan(jobs, seconds, len(jobs)) == chain_of(graph)


@given(layered_graphs(), st.integers(1, 6))
@settings(deadline=None)
def test_lies_between_the_bounds(graph: Graph, workers: int) -> None:
    jobs, seconds = graph
    work, chain = sum(seconds.values()), chain_of(graph)
    took = makespan(jobs, seconds, workers)
    assert max(work / workers, chain) <= took <= work
    # Graham's bound of every schedule that leaves no worker idle while a job is ready.
    assert took <= work / workers + (1 - 1 / workers) * chain + 1e-9


@given(layered_graphs())
@settings(deadline=None)
def test_useful_workers_suffice_and_one_less_does_not(graph: Graph) -> None:
    jobs, seconds = graph
    found = useful_workers(jobs, seconds)
    good = 1.02 * chain_of(graph)
    assert makespan(jobs, seconds, found) <= good
    if found > 1:
        assert makespan(jobs, seconds, found - 1) > good


@pytest.mark.parametrize(("workers", "took"), [(1, 12.0), (2, 6.0), (3, 4.0), (5, 4.0), (9, 2.0)])
def test_equal_jobs_go_in_rounds(workers: int, took: float) -> None:
    assert makespan(*line(*[2.0] * 6, chained=False), workers) == took


def test_the_longest_chain_goes_first() -> None:
    jobs, seconds = line(1.0, 1.0, 4.0, chained=False)
    assert makespan(jobs, seconds, 2) == 4.0


def test_inputs_outside_of_the_graph_count_as_done() -> None:
    jobs, seconds = line(3.0, 5.0, chained=True)
    last = list(jobs)[-1]
    assert makespan({last: jobs[last]}, seconds, 1) == 5.0


def test_how_many_workers_help() -> None:
    assert useful_workers({}, {}) == 0
    assert useful_workers(*line(1.0, 2.0, 3.0, chained=True)) == 1
    assert useful_workers(*line(*[1.0] * 7, chained=False)) == 7
    assert useful_workers(*line(10.0, *[1.0] * 10, chained=False)) == 2
    assert makespan({}, {}, 3) == 0.0


def test_only_what_must_run_is_forecast() -> None:
    one_cell = ["sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0]"]
    plan = expand(load([*one_cell, "sweep.methods=[pretrain,retrain,ssd]"]).sweep)
    (row,) = [row for row in plan.results if row.row.name == "ssd"]
    left = {row.model_key: "new", row.evaluate_key: "needs", row.score_key: "needs"}
    found = forecast(
        plan,
        left,
        Estimates(plan.jobs, [(job, 100.0) for job in plan.jobs.values()]),
        ResourceRequests(plan.sweep, ClusterSpec(), plan.jobs, has_gpu=True),
        interruptions_per_hour=0.0,
    )
    assert {stage: (of.jobs, of.done) for stage, of in found.stages.items()} == {
        "index": (1, 1),
        "cache": (1, 1),
        "split": (1, 1),
        "pretrain": (1, 1),
        "retrain": (1, 1),
        "prepare": (1, 1),
        "unlearn": (1, 0),
        "evaluate": (3, 2),
        "score": (3, 2),
    }
    assert found.stages["evaluate"].reasons == {"needs": 1}
    assert found.chain_seconds == 300.0
    assert found.seconds == {1: 300.0}
    assert found.useful_workers == 1
    # Two share a GPU; a machine comes after four minutes.
    assert found.gpu_hours == pytest.approx(300 * 0.5 / 3600)
    assert found.places == 2
    assert {of.seconds for pair in found.simulated.values() for of in pair} == {540.0}
