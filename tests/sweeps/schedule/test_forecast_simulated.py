from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.graph.job import Job
from sweeps.schedule.forecast import Machines, makespan, simulate


def graph(
    seconds: list[float], needs: list[int], epochs: int = 0
) -> tuple[dict[str, Job], dict[str, float]]:
    """Jobs of which each may need an earlier one: the number is how far back, 0 for none."""
    jobs: dict[str, Job] = {}
    known: dict[str, float] = {}
    for number, (value, back) in enumerate(zip(seconds, needs, strict=True)):
        before = list(jobs)[-back] if 0 < back <= len(jobs) else None
        job = Job(
            stage="pretrain" if epochs else "unlearn",
            spec={"n": number, "training": {"epochs": epochs}},
            inputs={"before": before} if before else {},
            label=str(number),
        )
        jobs[job.key] = job
        known[job.key] = value
    return jobs, known


def flat(count: int, seconds: float, epochs: int = 0) -> tuple[dict[str, Job], dict[str, float]]:
    return graph([seconds] * count, [0] * count, epochs)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3)), min_size=1, max_size=30),
    st.integers(1, 6),
    st.integers(1, 3),
)
@settings(deadline=None)
def test_machines_that_stay_are_what_the_plan_says(
    made: list[tuple[int, int]], most: int, places: int
) -> None:
    jobs, seconds = graph([float(s) for s, _ in made], [back for _, back in made])
    found = simulate(jobs, seconds, Machines(most=most, places=places, always_on=True))
    assert found.seconds == pytest.approx(makespan(jobs, seconds, most * places))
    assert found.machine_seconds == pytest.approx(most * found.seconds)
    assert found.lost_seconds == found.interruptions == 0
    assert found.busy == pytest.approx(sum(seconds.values()) / (found.machine_seconds * places))


def test_a_machine_comes_after_its_start_and_is_paid_from_the_demand_on() -> None:
    jobs, seconds = flat(2, 100.0)
    found = simulate(jobs, seconds, Machines(most=8, start_seconds=60))
    assert found.seconds == 160
    assert found.machine_seconds == 2 * 160
    assert found.busy == pytest.approx(200 / 320)


def test_no_more_machines_come_than_ready_jobs_need() -> None:
    jobs, seconds = graph([100.0] * 5, [0, 1, 1, 1, 1])
    found = simulate(jobs, seconds, Machines(most=8, start_seconds=0))
    assert found.seconds == found.machine_seconds == 500


def test_an_empty_machine_leaves() -> None:
    jobs, seconds = graph([10.0, 1000.0], [0, 0])
    found = simulate(jobs, seconds, Machines(most=2, start_seconds=0, idle_seconds=50))
    assert found.machine_seconds == 1000 + 10 + 50


def test_machines_are_taken_back_at_the_rate_that_was_said() -> None:
    jobs, seconds = flat(40, 3600.0, epochs=360_000)
    found = simulate(jobs, seconds, Machines(most=4, always_on=True, interruptions_per_hour=5.0))
    # About 40 machine-hours: 200 of them, and three times the root of that beside.
    assert 158 <= found.interruptions <= 242


def test_interruptions_cost_at_most_an_epoch_or_a_short_job() -> None:
    often = Machines(most=4, start_seconds=10, interruptions_per_hour=2.0)
    jobs, seconds = flat(20, 3600.0, epochs=60)
    found = simulate(jobs, seconds, often)
    assert found.interruptions > 10
    assert 0 < found.lost_seconds <= 60 * found.interruptions
    calm = simulate(jobs, seconds, Machines(most=4, start_seconds=10))
    assert calm.seconds < found.seconds
    assert calm.busy > found.busy
    whole, known = flat(20, 600.0)
    assert simulate(whole, known, often).lost_seconds > 60


def test_a_preparation_that_trains_goes_on_from_its_checkpoint() -> None:
    often = Machines(most=4, start_seconds=10, interruptions_per_hour=2.0, checkpoint_seconds=20.0)

    def lost(hyperparameters: dict[str, int]) -> tuple[float, int]:
        jobs = {}
        for number in range(20):
            spec = {"n": number, "hyperparameters": hyperparameters}
            job = Job(stage="prepare", spec=spec, inputs={}, label=str(number))
            jobs[job.key] = job
        found = simulate(jobs, dict.fromkeys(jobs, 3600.0), often)
        return found.lost_seconds, found.interruptions

    seconds, interruptions = lost({"epochs": 10})
    assert interruptions > 10
    assert 0 < seconds <= 20 * interruptions
    # One that computes in one go, as the Fisher information, begins anew.
    seconds, interruptions = lost({"batch_size": 32})
    assert seconds > 600 * interruptions


def test_the_same_seed_gives_the_same_numbers() -> None:
    jobs, seconds = flat(50, 500.0)
    often = Machines(most=5, interruptions_per_hour=1.0)
    assert simulate(jobs, seconds, often, 3) == simulate(jobs, seconds, often, 3)
    assert simulate(jobs, seconds, often, 3) != simulate(jobs, seconds, often, 4)


@pytest.mark.parametrize("always_on", [False, True])
@pytest.mark.parametrize("rate", [0.0, 5.0])
def test_every_job_ends(rate: float, always_on: bool) -> None:
    jobs, seconds = graph([30.0, 300.0, 5.0] * 40, [0, 1, 2] * 40)
    of = Machines(most=7, places=2, interruptions_per_hour=rate, always_on=always_on)
    found = simulate(jobs, seconds, of)
    assert found.seconds >= makespan(jobs, seconds, 14)
    assert 0 < found.busy <= 1
    assert simulate({}, {}, of).seconds == 0
