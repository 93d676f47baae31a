"""A cell that stands for several requests: what they share, and what each has of its own."""

from __future__ import annotations

from collections import Counter

import pytest
from support.several_requests import REQUESTS, SEVERAL

from oneshui.errors import InputError
from oneshui.spec import Access, Role
from sweeps.config import load
from sweeps.graph.job import PICTURES, Job
from sweeps.graph.plan import Plan, expand

ALL = "sweep.methods=[pretrain,retrain,retrain_again,ssd,jit,scrub]"


def plan(*overrides: str) -> Plan:
    return expand(load([*SEVERAL, *overrides]).sweep)


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_trainings_and_preparations_are_shared_by_the_requests(seeds: list[int]) -> None:
    made = plan(ALL, f"sweep.seeds={seeds}", "sweep.reference_copies=false")
    assert made.counts() == {
        "index": 1,
        "cache": 1,
        "split": len(seeds) * (1 + REQUESTS),
        "pretrain": len(seeds),
        "retrain": len(seeds) * 2,
        "prepare": len(seeds),
        "unlearn": len(seeds) * 3 * REQUESTS,
        # Doing nothing and retraining are looked at once for all requests.
        "evaluate": len(seeds) * (3 + 3 * REQUESTS + (len(seeds) > 1)),
        "score": len(seeds) * 6,
    }
    assert len(made.results) == len(seeds) * 6


def test_all_of_a_cell_is_trained_and_prepared_on_one_drawing() -> None:
    made = plan(ALL)
    (drawn,) = {row.split_key for row in made.results}
    assert made.jobs[drawn].spec["num_forget"] == REQUESTS
    assert made.jobs[drawn].spec["min_images"] == 6, "as of one who asks alone"
    for stage in ("pretrain", "retrain", "prepare"):
        jobs = [job for job in made.jobs.values() if job.stage == stage]
        assert jobs
        assert {job.inputs["split"] for job in jobs} == {drawn}
        # A method prepares for requests of the size that will come.
        assert {job.spec.get("num_forget", 1) for job in jobs} == {1}


def test_every_request_is_unlearned_from_its_own_split_with_its_own_seed() -> None:
    made = plan(ALL)
    for row in made.results:
        shared = row.row.role is Role.PRETRAIN or row.row.role.is_retrained
        count = 1 if shared else REQUESTS
        assert (len(row.model_keys), len(row.evaluate_keys)) == (count, count)
        assert row.requests == REQUESTS
        splits = [made.jobs[key].inputs["split"] for key in row.evaluate_keys]
        if shared:
            assert splits == [row.split_key]
            assert made.jobs[row.score_key].inputs["predictions"] == row.evaluate_key
            continue
        jobs = [made.jobs[key] for key in row.model_keys]
        assert [job.inputs["split"] for job in jobs] == splits
        assert [made.jobs[key].spec["request"] for key in splits] == list(range(REQUESTS))
        assert {made.jobs[key].inputs["drawn"] for key in splits} == {row.split_key}
        assert len({job.spec["unlearning_seed"] for job in jobs}) == REQUESTS
        assert {job.inputs.get("prepared") for job in jobs} == {row.prepare_key}
        for evaluated, key in zip(row.evaluate_keys, row.model_keys, strict=True):
            assert made.jobs[evaluated].inputs["weights"] == key
        assert made.jobs[row.score_key].series["predictions"] == row.evaluate_keys
    again = plan(ALL, "sweep.seeds=[1]")
    seeds = [job.spec["unlearning_seed"] for p in (made, again) for job in unlearned(p)]
    assert max(Counter(seeds).values()) <= 5, "rows share a request's seed, cells do not"


def unlearned(made: Plan) -> list[Job]:
    return [job for job in made.jobs.values() if job.stage == "unlearn"]


def test_no_request_of_a_one_shot_row_has_a_way_to_pictures() -> None:
    made = plan(ALL)
    rows = [row for row in made.results if row.row.name in ("ssd", "jit")]
    assert all(row.row.access is not Access.FULL for row in rows)
    for row in rows:
        for key in row.model_keys:
            job = made.jobs[key]
            assert not {*job.inputs} & {*PICTURES}
            assert {made.jobs[it].stage for it in job.needs} <= {"pretrain", "split", "prepare"}


def test_each_request_is_attacked_with_its_own_copy_of_the_retrained_model() -> None:
    made = plan(ALL)
    rows = {row.row.name: row for row in made.results}
    for name, row in rows.items():
        series = made.jobs[row.score_key].series
        references = () if name == "retrain" else (rows["retrain"].evaluate_key,)
        assert series["references"] == references
        assert bool(series["copies"]) == (name in ("ssd", "jit"))
        if not series["copies"]:
            continue
        for copy, own in zip(series["copies"], row.evaluate_keys, strict=True):
            assert made.jobs[copy].inputs["split"] == made.jobs[own].inputs["split"]
            made_by = made.jobs[made.jobs[copy].inputs["weights"]]
            assert made.jobs[made_by.inputs["pretrained"]].stage == "retrain"


def test_a_is_tuned_on_the_drawing_of_another_seed() -> None:
    made = plan(ALL, "sweep.seeds=[0,1]")
    for row in made.results:
        inputs = made.jobs[row.score_key].inputs
        other = made.jobs[inputs["paired_split"]]
        assert (other.spec["num_forget"], other.spec["split_seed"]) == (REQUESTS, 1 - row.cell.seed)


def test_requests_of_several_people_share_the_trainings_of_one_that_is_as_large() -> None:
    trained = ("pretrain", "retrain", "cache", "index")
    keys = [
        {key for key, job in plan(*size).jobs.items() if job.stage in trained}
        for size in (["sweep.forget_sizes=[2]"], ["sweep.forget_sizes=[8]", "sweep.requests=1"])
    ]
    assert keys[0] == keys[1]


def test_a_single_request_is_planned_as_before_there_were_several() -> None:
    made = plan(ALL, "sweep.requests=1", "sweep.reference_copies=false")
    splits = [job for job in made.jobs.values() if job.stage == "split"]
    names = {"num_forget", "split_seed", "support_seed", "walk"}
    assert [(set(job.spec), set(job.inputs)) for job in splits] == [(names, {"index", "cache"})]
    assert splits[0].label == "split synthetic_tiny n1 s0"
    assert splits[0].key == "44d5c876154256dd"
    for row in made.results:
        assert (row.model_keys, row.evaluate_keys) == ((row.model_key,), (row.evaluate_key,))
        score = made.jobs[row.score_key]
        assert (score.inputs["predictions"], set(score.series)) == (
            row.evaluate_key,
            {"references", "copies"},
        )
    assert {
        job.spec["unlearning_seed"] for job in made.jobs.values() if job.stage == "unlearn"
    } == {0}


@pytest.mark.parametrize("number", [0, -1, 1001])
def test_a_cell_stands_for_one_request_at_least(number: int) -> None:
    with pytest.raises(InputError, match=f"^sweep.requests is {number}, but it must be 1 to 1000$"):
        load([*SEVERAL, f"sweep.requests={number}"])


def test_the_single_identity_sweep_trains_as_often_as_with_one_request() -> None:
    counts = [
        expand(load(["sweep=single_identity", "profile=paper", *more]).sweep).counts()
        for more in ([], ["sweep.requests=1"])
    ]
    for stage in ("pretrain", "retrain", "prepare", "score"):
        assert counts[0][stage] == counts[1][stage]
    assert counts[0]["unlearn"] == 20 * counts[1]["unlearn"]
