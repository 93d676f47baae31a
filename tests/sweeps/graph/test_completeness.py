"""What says how complete forgetting is: one job per row, one ignorant network per cell."""

from __future__ import annotations

import functools

from support.several_requests import SEVERAL

from sweeps.config import load
from sweeps.graph.job import Job
from sweeps.graph.plan import Plan, ResultRow, expand

PLAIN = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.seeds=[0,1]",
    "sweep.methods=[pretrain,retrain,retrain_again,ssd,scrub]",
    "+sweep.rows.retrain_again={method: retrain, reseed: 1}",
)
ASKED = (*PLAIN, "+sweep.audit={probes: false}")


@functools.cache
def plan(*overrides: str) -> Plan:
    return expand(load(overrides or ASKED).sweep)


def row_of(made: Plan, name: str, seed: int = 0) -> ResultRow:
    (found,) = [one for one in made.results if (one.row.name, one.cell.seed) == (name, seed)]
    return found


def job_of(made: Plan, name: str, seed: int = 0) -> Job:
    key = row_of(made, name, seed).completeness_key
    assert key is not None
    return made.jobs[key]


def test_a_sweep_that_does_not_ask_has_the_jobs_it_always_had() -> None:
    plain, asked = plan(*PLAIN), plan()
    added = asked.jobs.keys() - plain.jobs.keys()
    assert plain.jobs.keys() < asked.jobs.keys()
    assert {asked.jobs[key].stage for key in added} == {"untrained", "completeness"}
    assert asked.counts()["completeness"] == len(asked.results) == 10
    assert asked.counts()["untrained"] == 2
    refused = plan(*PLAIN, "+sweep.audit={probes: false, completeness: false}")
    assert refused.jobs.keys() == plain.jobs.keys()


def test_a_row_is_held_against_models_that_never_saw_the_people() -> None:
    made = plan()
    known = {name: row_of(made, name).evaluate_key for name in ("pretrain", "retrain")}
    again = row_of(made, "retrain_again").evaluate_key
    for name in ("pretrain", "retrain_again", "ssd", "scrub"):
        job = job_of(made, name)
        assert job.series["strangers"] == (known["retrain"],), name
        assert job.series["predictions"] == row_of(made, name).evaluate_keys
        assert job.inputs["retrained"] == known["retrain"]
        assert job.inputs["pretrained"] == known["pretrain"]
    assert job_of(made, "retrain").series["strangers"] == (again,)
    assert len({job_of(made, row.row.name).inputs["untrained"] for row in made.results}) == 1


def test_further_retrained_models_are_further_strangers() -> None:
    made = plan(
        *ASKED,
        "sweep.methods=[retrain,retrain_again,third,ssd]",
        "+sweep.rows.third={method: retrain, reseed: 2}",
    )
    keys = {name: row_of(made, name).evaluate_key for name in ("retrain", "third")}
    assert job_of(made, "ssd").series["strangers"] == (keys["retrain"], keys["third"])
    assert job_of(made, "retrain_again").series["strangers"] == (keys["retrain"], keys["third"])
    assert job_of(made, "third").series["strangers"] == (keys["retrain"],)


def test_without_a_second_retraining_only_the_retrained_row_has_no_stranger() -> None:
    made = plan(*ASKED, "sweep.methods=[retrain,ssd]")
    assert job_of(made, "retrain").series["strangers"] == ()
    assert len(job_of(made, "ssd").series["strangers"]) == 1


def test_all_requests_of_a_row_are_one_job() -> None:
    made = plan(*SEVERAL, "+sweep.audit={probes: false}")
    job = job_of(made, "ssd")
    assert len(job.series["predictions"]) == 4
    assert made.counts()["untrained"] == 1


def test_an_audit_is_no_part_of_what_a_row_needs_to_be_scored() -> None:
    made = plan()
    row = row_of(made, "ssd")
    assert row.completeness_key in row.audit_keys
    assert row.completeness_key not in made.needed(row)
    assert row.completeness_key in made.needed(row, with_chains=True)
