"""Requests one after the other, as jobs: who asks when, what a step is handed, what is shared."""

from __future__ import annotations

import pytest
from support.in_turn import IN_TURN, chain_of, row_of, steps_of

from oneshui.errors import InputError
from oneshui.seeding import derive_seed
from oneshui.spec import Access
from sweeps.config import load
from sweeps.graph.orders import places_of
from sweeps.graph.plan import Plan, expand
from sweeps.report.failures import smallest_command


def plan(*overrides: str) -> Plan:
    return expand(load([*IN_TURN, *overrides]).sweep)


MADE = plan()
KEPT = plan("sweep.sequence.keep_support=true")


def asked(made: Plan, key: str) -> tuple[list[int], list[int]]:
    """Who asks in a step, and who has asked before, by their places in the drawing."""
    spec = made.jobs[made.jobs[key].inputs["split"]].spec
    return spec["people"], spec["gone"]


def test_every_person_asks_once_and_each_step_works_on_the_model_before() -> None:
    order = places_of(1, 4)
    assert sorted(order) == [0, 1, 2, 3]
    assert order != [0, 1, 2, 3], "of order 0 alone"
    made = plan("sweep.sequence.orders=[1]")
    steps = steps_of(made, chain_of(made, "ssd", "4x1", 1))
    assert [asked(made, key) for key in steps] == [
        ([person], sorted(order[:place])) for place, person in enumerate(order)
    ]
    pairs = steps_of(made, chain_of(made, "ssd", "2x2", 1))
    assert [asked(made, key)[0] for key in pairs] == [sorted(order[:2]), sorted(order[2:])]
    first = made.jobs[steps[0]]
    assert made.jobs[first.inputs["pretrained"]].stage == "pretrain"
    seeds = [made.jobs[key].spec["unlearning_seed"] for key in steps]
    assert seeds == [0, *(derive_seed(0, "request", number) for number in (1, 2, 3))]


@pytest.mark.parametrize("made", [MADE, KEPT])
def test_a_step_has_no_way_to_the_training_data_or_to_other_supports(made: Plan) -> None:
    for row in made.results:
        assert bool(row.chains) == (row.row.name in ("gradient_ascent", "ssd"))
        for chain in row.chains:
            splits = []
            for key in steps_of(made, chain):
                inputs = made.jobs[key].inputs
                assert set(inputs) - {"prepared"} == {"pretrained", "split"}
                assert not made.jobs[key].series
                if row.row.access is Access.PREPARED:
                    assert inputs["prepared"] == row.prepare_key, "from before the first request"
                splits.append(made.jobs[inputs["split"]])
            people = [split.spec["num_forget"] for split in splits]
            so_far = [chain.people * (place + 1) for place in range(chain.requests)]
            assert people == (so_far if chain.keeps_support else [chain.people] * chain.requests)


def test_all_at_once_is_the_ordinary_row_in_whichever_order() -> None:
    row = row_of(MADE, "ssd")
    (chain,) = [chain for chain in row.chains if chain.requests == 1]
    job = MADE.jobs[chain.score_key]
    assert job.series["weights"] == row.model_keys
    assert job.series["predictions"] == row.evaluate_keys
    assert chain.order is None
    assert {(c.schedule, c.order) for c in row.chains} == {
        ("1x4", None),
        *((schedule, order) for schedule in ("4x1", "2x2") for order in (0, "hardest")),
    }


def test_what_chains_have_in_common_is_one_job() -> None:
    forgetful, keeping = (
        steps_of(KEPT, chain_of(KEPT, "ssd", "4x1", keeps=keeps)) for keeps in (False, True)
    )
    assert forgetful[0] == keeping[0], "at the first request there is nothing to be kept"
    assert not set(forgetful[1:]) & set(keeping[1:])
    # These two orders of four people begin with the same two.
    assert (places_of(2, 4), places_of(13, 4)) == ([3, 1, 2, 0], [3, 1, 0, 2])
    made = plan("sweep.sequence.orders=[2,13]")
    one, other = (steps_of(made, chain_of(made, "ssd", "4x1", order)) for order in (2, 13))
    assert one[:2] == other[:2]
    assert not set(one[2:]) & set(other[2:])


def test_a_model_is_retrained_for_every_time_and_group_of_people_and_once_for_all() -> None:
    made = plan("sweep.sequence.references=[1,2]", "sweep.sequence.orders=[0]")
    fine, coarse = (chain_of(made, "ssd", schedule) for schedule in ("4x1", "2x2"))
    assert (fine.times, coarse.times) == ((1, 2, 4), (2, 4))
    references = [
        made.jobs[chain.score_key].series["retrained_weights"] for chain in (fine, coarse)
    ]
    assert references[1] == references[0][1:]
    (retrained,) = (row.model_key for row in made.results if row.row.name == "retrain")
    assert references[0][-1] == retrained, "the cell's own"
    for key, people in zip(references[0][:-1], ([0], [0, 1]), strict=True):
        job = made.jobs[key]
        assert (job.stage, job.spec["reseed"]) == ("retrain", 0)
        assert made.jobs[job.inputs["split"]].spec["people"] == people
    assert made.counts()["retrain"] == 4  # two of these, the cell's own, and that again


def test_a_job_of_a_chain_that_fails_is_its_row_s() -> None:
    command = [*IN_TURN, "mode=run"]
    (first, *_) = steps_of(MADE, chain_of(MADE, "ssd", "4x1"))
    again = smallest_command(MADE, first, command, lambda some: expand(load(some).sweep))
    assert "sweep.methods=[ssd]" in again
    row = row_of(MADE, "ssd")
    assert first not in MADE.needed(row)


def test_an_ordinary_sweep_has_the_jobs_it_always_had() -> None:
    ordinary = plan("sweep.sequence=null")
    assert not any(row.chains for row in ordinary.results)
    assert ordinary.jobs.keys() < MADE.jobs.keys()
    assert "sequence" not in ordinary.counts()


def test_the_order_by_hardness_waits_for_both_models_predictions() -> None:
    steps = steps_of(MADE, chain_of(MADE, "ssd", "4x1", "hardest"))
    for place, key in enumerate(steps):
        split = MADE.jobs[MADE.jobs[key].inputs["split"]]
        assert {"order": "hardest", "first": place, "last": place + 1}.items() <= split.spec.items()
        evaluated = [MADE.jobs[split.inputs[role]] for role in ("pretrained", "retrained")]
        stages = [MADE.jobs[job.inputs["weights"]].stage for job in evaluated]
        assert stages == ["pretrain", "retrain"]


def test_a_study_of_requests_in_turn_is_another_study_and_says_how_many_ask() -> None:
    made = expand(load(["sweep=sequence", "scale=toy"]).sweep)
    specs = {
        (study.row, "in_steps_of" in made.jobs[key].spec, made.jobs[key].spec.get("in_steps_of"))
        for study in made.studies
        for key in (*study.trials, *study.choices.values())
    }
    assert specs == {
        ("gradient_ascent_classifier", False, None),
        ("gradient_ascent_in_turn", True, 1),
    }
    for row in made.results:
        for key in row.model_keys:
            assert "in_steps_of" not in made.jobs[key].spec


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["sweep.sequence.people_per_request=[3]"], "holds 3, but 4 people .* divisor of 4"),
        (["sweep.sequence.people_per_request=[4]"], "no cell has more than 4 people"),
        (["sweep.sequence.people_per_request=[]"], "people_per_request .* at least one"),
        (["sweep.sequence.people_per_request=[0]"], "numbers from 1 on"),
        (["sweep.sequence.orders=[0,0]"], r"orders is \[0, 0\].* names each once"),
        (["sweep.sequence.orders=[worst]"], "sweep.sequence.orders is 'worst', .* 'hardest' or"),
        (["sweep.requests=2"], "sweep.requests is 2, .* sweep.sequence"),
        (["+sweep.rows.ssd.tune_on=both"], "tune_on is 'both', .* 'request' or 'sequence'"),
        (
            ["sweep.sequence=null", "+sweep.rows.ssd.tune_on=sequence"],
            "set sweep.sequence.people_per_request",
        ),
        (
            ["sweep.methods=[scrub]", "+sweep.rows.scrub={tune_on: sequence}"],
            "scrub sees the training data",
        ),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(overrides: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load([*IN_TURN, *overrides])
