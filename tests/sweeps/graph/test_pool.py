"""The pool of the likelihood audit: who trains which model, and what the jobs share."""

from __future__ import annotations

import functools
from collections import Counter

import pytest
from support.pool import MODELS, POOL

from oneshui.errors import InputError
from sweeps.config import load
from sweeps.graph.audits import POOL_SEED
from sweeps.graph.job import PICTURES, Job
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.graph.pool import designed

PLAIN = (*POOL[:-2], "sweep.seeds=[0,1]")
AUDITED = (*PLAIN, "+sweep.audit={probes: false, completeness: false, pool: 8, models: 8}")


@functools.cache
def plan(*overrides: str) -> Plan:
    return expand(load(overrides).sweep)


def row_of(made: Plan, name: str, seed: int = 0) -> ResultRow:
    found = [one for one in made.results if (one.row.name, one.cell.seed) == (name, seed)]
    return found[0]


def lira_of(made: Plan, name: str, seed: int = 0) -> Job:
    key = row_of(made, name, seed).lira_key
    assert key is not None
    return made.jobs[key]


def of_pool(made: Plan, stage: str) -> set[str]:
    """Keys of the pool's own jobs of a stage that trains."""
    return {
        key
        for key, job in made.jobs.items()
        if job.stage == stage and job.spec.get("training_seed", 0) >= POOL_SEED
    }


@pytest.mark.parametrize(("people", "models"), [(8, 8), (16, 8), (64, 32)])
def test_everybody_trains_half_of_the_models_and_half_of_those_forget_them(
    people: int, models: int
) -> None:
    drawn = designed(people, models)
    assert {len(one.seen) for one in drawn} == {people // 2}
    assert {len(one.asked) for one in drawn} == {people // 4}
    assert all(set(one.asked) < set(one.seen) for one in drawn)
    for kind, times in (("seen", models // 2), ("asked", models // 4)):
        counts = Counter(place for one in drawn for place in getattr(one, kind))
        assert counts == dict.fromkeys(range(people), times)
    assert len({one.seen for one in drawn}) == models, "no two models saw the same people"


def test_who_is_seen_does_not_tell_who_else_is() -> None:
    drawn = designed(64, 1000)
    together = [sum({0, other} <= set(one.seen) for one in drawn) for other in range(1, 64)]
    # 500 of 1,000 models hold the first person; 63 of 127 of those hold another, +- 11.
    assert all(190 < count < 310 for count in together)


def test_of_an_odd_pair_more_some_are_asked_for_once_more() -> None:
    counts = Counter(place for one in designed(16, 10) for place in one.asked)
    assert sorted(counts.values()) == [2] * 8 + [3] * 8


def test_few_models_are_the_first_of_many() -> None:
    few, many = (plan(*PLAIN, f"+sweep.audit={{pool: 8, models: {n}}}") for n in (8, 12))
    assert designed(8, 8) == designed(8, 12)[:8]
    assert of_pool(few, "pretrain") < of_pool(many, "pretrain")
    assert len(of_pool(many, "pretrain")) == 12


def test_a_sweep_without_a_pool_has_the_jobs_it_always_had() -> None:
    plain, audited = plan(*PLAIN), plan(*AUDITED)
    assert plain.jobs.keys() < audited.jobs.keys()
    assert not plain.pools
    new = audited.jobs.keys() - plain.jobs.keys()
    counts = Counter(audited.jobs[key].stage for key in new)
    assert counts == {
        "split": 1 + MODELS,
        "pretrain": MODELS,
        "prepare": MODELS,  # SSD's
        "unlearn": 2 * MODELS,
        "examine": 3 * MODELS,
        "lira": 3,
        "memorisation": 1,
    }


def test_methods_sizes_seeds_and_tunings_share_the_trainings() -> None:
    made = plan(*AUDITED)
    own = of_pool(made, "pretrain")
    assert len(own) == MODELS
    others = (
        ("sweep.seeds=[7]", "sweep.methods=[metaunlearn]"),
        ("sweep.forget_sizes=[3,4]",),
        ("sweep.methods=[ssd]", "profile=tuned", "tuning.trials=2"),
        ("sweep.choose=forgettable",),
        ("sweep.vary=training",),
    )
    for other in others:
        assert of_pool(plan(*AUDITED, *other), "pretrain") == own, other
    for changed in ("sweep.training.epochs=3", "sweep.audit.pool=12", "sweep.model.image_size=48"):
        assert not of_pool(plan(*AUDITED, changed), "pretrain") & own, changed


def test_rows_with_the_same_hyperparameters_share_their_audit() -> None:
    made = plan(*AUDITED, "sweep.forget_sizes=[2,3]")
    for name in ("pretrain", "ssd", "jit"):
        rows = [row for row in made.results if row.row.name == name]
        assert len(rows) == 4
        assert len({row.lira_key for row in rows}) == 1
    changed = plan(*AUDITED, "++sweep.rows.ssd.alpha=3.0")
    assert lira_of(changed, "ssd") != lira_of(made, "ssd")
    assert lira_of(changed, "jit") == lira_of(made, "jit")


def test_a_tuned_row_is_audited_with_what_was_chosen_for_its_cell() -> None:
    tuned = (*AUDITED, "profile=tuned", "tuning.trials=2", "sweep.methods=[pretrain,ssd]")
    for cells, audits in (("held_out", 1), ("own", 2)):
        made = plan(*tuned, f"tuning.cells={cells}")
        rows = [row_of(made, "ssd", seed) for seed in (0, 1)]
        assert len({row.lira_key for row in rows}) == audits
        for row in rows:
            unlearned = unlearn_jobs(made, row)
            assert len(unlearned) == MODELS
            assert {job.inputs["tuned"] for job in unlearned} == {row.choose_key}


def unlearn_jobs(made: Plan, row: ResultRow) -> list[Job]:
    assert row.lira_key is not None
    after = made.jobs[row.lira_key].series["after"]
    return [made.jobs[made.jobs[key].inputs["weights"]] for key in after]


def test_a_one_shot_row_has_no_way_to_the_pool_s_pictures_after_deletion() -> None:
    made = plan(*AUDITED)
    pool = made.pools["synthetic_tiny"]
    for name in ("ssd", "jit"):
        for model, job in zip(pool.models, unlearn_jobs(made, row_of(made, name)), strict=True):
            assert not job.inputs.keys() & {*PICTURES, "weights"}
            assert job.inputs["pretrained"] == model.base.pretrained
            assert job.inputs["split"] == model.base.data["split"]
    prepared = made.jobs[unlearn_jobs(made, row_of(made, "ssd"))[3].inputs["prepared"]]
    assert prepared.inputs["pretrained"] == pool.models[3].base.pretrained
    assert prepared.inputs["split"] == pool.models[3].base.data["split"]
    assert prepared.spec["num_forget"] == 2
    assert (
        len({job.spec["unlearning_seed"] for job in unlearn_jobs(made, row_of(made, "jit"))}) == 8
    )


def test_doing_nothing_is_audited_without_another_job_and_retrained_models_are_not() -> None:
    made = plan(*AUDITED, "sweep.methods=[pretrain,retrain]")
    job = lira_of(made, "pretrain")
    assert job.series["after"] == job.series["before"]
    assert row_of(made, "retrain").lira_key is None


def test_full_access_is_to_the_pool_s_pictures_without_whom_a_model_never_saw() -> None:
    made = plan(*AUDITED, "sweep.methods=[scrub]")
    pool = made.pools["synthetic_tiny"]
    for model, job in zip(pool.models, unlearn_jobs(made, row_of(made, "scrub")), strict=True):
        assert job.inputs == {"pretrained": model.base.pretrained, **model.base.for_training}
        split = made.jobs[job.inputs["split"]]
        assert len(split.spec["people"]) == 2
        assert len(split.spec["gone"]) == 4


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("sweep.audit.pool=6", r"sweep\.audit\.pool is 6"),
        ("sweep.audit.pool=4", r"sweep\.audit\.pool is 4"),
        ("sweep.audit.models=9", r"sweep\.audit\.models is 9"),
        ("sweep.audit.models=6", r"sweep\.audit\.models is 6"),
        ("sweep.seeds=[2003]", r"sweep\.seeds holds 2003, but 2000 to 2007 .*report other seeds"),
        ("sweep.fixed_seed=2000", r"sweep\.fixed_seed holds 2000"),
        ("sweep.choose=hardest", r"sweep\.choose"),
        ("sweep.forget_sizes=[9]", r"sweep\.audit\.pool is 8.*9 or more where sweep\.choose"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(wrong: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load([*AUDITED, "+sweep.choose=memorised", wrong])


def test_choosing_needs_a_pool() -> None:
    with pytest.raises(InputError, match=r"sweep\.audit\.pool is 0.*sweep\.choose=memorised"):
        load([*PLAIN, "+sweep.choose=memorised"])


def test_a_chosen_cell_stands_beside_the_drawn_one_which_stays_as_it_was() -> None:
    drawn, chosen = plan(*AUDITED), plan(*AUDITED, "+sweep.choose=memorised")
    for one, other in zip(drawn.results, chosen.results, strict=True):
        assert one.chosen is None
        assert one.score_key == other.score_key
        assert one.lira_key == other.lira_key
        assert other.chosen is not None
        assert other.chosen.score_key != other.score_key
        assert other.chosen.cell.title.endswith(" memorised")
        split = chosen.jobs[other.chosen.split_key]
        assert split.inputs["memorisation"] == chosen.pools["synthetic_tiny"].memorisation_key
        before = chosen.jobs[other.split_key]
        assert split.spec == {**before.spec, "choose": "memorised"}
    least = plan(*AUDITED, "+sweep.choose=forgettable")
    keys = [
        {row.chosen.score_key for row in made.results if row.chosen} for made in (chosen, least)
    ]
    assert not keys[0] & keys[1]


def test_no_study_forgets_whom_a_chosen_cell_forgets() -> None:
    made = plan(
        *(*AUDITED, "+sweep.choose=memorised", "sweep.methods=[pretrain,ssd]"),
        *("profile=tuned", "tuning.trials=2"),
    )
    (study,) = made.studies
    drawn = made.jobs[made.jobs[study.trials[0]].series["split"][0]]
    reported = {row.split_key for row in made.results}
    chosen = {row.chosen.split_key for row in made.results if row.chosen}
    assert set(drawn.series["reported"]) == reported | chosen
    for row in made.results:
        assert row.chosen is not None
        assert row.chosen.choose_key == row.choose_key
