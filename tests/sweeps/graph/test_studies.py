"""The jobs of studies: how many, what they share, and what each choice may see."""

from __future__ import annotations

import pytest

from oneshui.errors import InputError
from sweeps.config import load
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.graph.spec import OBJECTIVES, TuningObjective

BASE = ("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0,1]")
TUNED = (*BASE, "profile=tuned", "tuning.trials=6", "tuning.batch=4", "tuning.rows=[ssd,jit]")
LEAK = ("sweep=leak_cost", "scale=toy", "sweep.methods=[pretrain,ssd]", "tuning.trials=3")


def plan(*overrides: str) -> Plan:
    return expand(load(overrides).sweep)


def rows_of(made: Plan, name: str) -> list[ResultRow]:
    return [row for row in made.results if row.row.name == name]


def test_a_study_has_its_trials_one_choice_and_one_true_tow_a_trial() -> None:
    made, plain = plan(*TUNED), plan(*BASE)
    assert [study.name for study in made.studies] == [
        "ssd synthetic_tiny n4 s1000",
        "jit synthetic_tiny n4 s1000",
    ]
    # Two studies of one held-out cell, whose trainings and simulated requests they share.
    assert more(made, plain) == {
        "split": 1,
        "pretrain": 1,
        "retrain": 1,
        "prepare": 1,
        "evaluate": 1,
        "simulate": 1,
        "trial": 12,
        "choose": 2,
        "true_tow": 12,
    }


def more(made: Plan, plain: Plan) -> dict[str, int]:
    """Jobs by stage that one plan has beyond the other's."""
    before = plain.counts()
    counts = {str(stage): n - before.get(stage, 0) for stage, n in made.counts().items()}
    return {stage: count for stage, count in counts.items() if count}


def test_a_cell_that_only_tunes_is_not_retrained_where_nobody_looks_at_it() -> None:
    made = plan(*TUNED, "tuning.true_tow=false")
    assert more(made, plan(*BASE)) == {
        "split": 1,
        "pretrain": 1,
        "prepare": 1,
        "simulate": 1,
        "trial": 12,
        "choose": 2,
    }


def test_several_seeds_are_several_cells_of_one_study() -> None:
    made = plan(*TUNED, "tuning.seeds=[5,7]")
    counts = made.counts()
    assert (counts["simulate"], counts["trial"], counts["choose"]) == (2, 12, 2)
    assert counts["true_tow"] == 24
    (study, _) = made.studies
    series = made.jobs[study.trials[0]].series
    assert {role: len(keys) for role, keys in series.items()} == {
        "pretrained": 2,
        "split": 2,
        "simulated": 2,
        "prepared": 2,
        "trials": 0,
    }


def test_trials_of_a_batch_know_the_batches_before_and_not_each_other() -> None:
    (study, _) = plan(*TUNED).studies
    made = plan(*TUNED)
    for place, key in enumerate(study.trials):
        assert made.jobs[key].series["trials"] == study.trials[: place - place % 4]


def test_eleven_cells_of_a_study_stay_in_their_order() -> None:
    seeds = list(range(20, 32))
    made = plan(*TUNED, f"tuning.seeds={seeds}", "tuning.trials=2", "tuning.true_tow=false")
    (study, _) = made.studies
    assert [cell.seed for cell in study.cells] == seeds
    assert study.name == "ssd synthetic_tiny n4 s20-31"
    trial = made.jobs[study.trials[0]]
    for place, seed in enumerate(seeds):
        assert made.jobs[trial.series["simulated"][place]].spec["unlearning_seed"] == seed
        assert made.jobs[trial.series["split"][place]].spec["split_seed"] == seed
        assert made.jobs[trial.series["pretrained"][place]].spec["training_seed"] == seed
        assert made.jobs[trial.series["prepared"][place]].spec["unlearning_seed"] == seed
    assert study.simulated == trial.series["simulated"]


def test_a_study_that_is_given_more_trials_keeps_those_it_has() -> None:
    (few, _), (many, _) = plan(*TUNED).studies, plan(*TUNED, "tuning.trials=10").studies
    assert many.trials[:6] == few.trials
    assert not set(few.choices.values()) & set(many.choices.values())


def test_a_study_of_a_reported_cell_shares_preparation_and_training_with_its_row() -> None:
    made, plain = plan(*TUNED, "tuning.cells=own"), plan(*BASE)
    assert more(made, plain) == {"simulate": 2, "trial": 24, "choose": 4, "true_tow": 24}
    assert [study.name for study in made.studies] == [
        "ssd synthetic_tiny n4 s0",
        "jit synthetic_tiny n4 s0",
        "ssd synthetic_tiny n4 s1",
        "jit synthetic_tiny n4 s1",
    ]
    for row, study in zip(rows_of(made, "ssd"), made.studies[::2], strict=True):
        assert made.jobs[study.trials[0]].series["prepared"] == (row.prepare_key,)
        assert row.choose_key == study.choices["support_only"]


def test_a_cell_that_is_tuned_by_itself_has_the_keys_of_the_first_seed_s_studies() -> None:
    """Pinned when studies got a point that does nothing: what they compute stays theirs.

    The first half of a key: the second changes with every letter of the method's code, and so do
    the keys of all that needs it.
    """
    made = plan(*TUNED, "tuning.cells=own")
    known = {study.name: study.trials[0][:8] for study in made.studies}
    assert known["jit synthetic_tiny n4 s0"] == "f8d7aa90"
    assert known["jit synthetic_tiny n4 s1"] == "cd747f48"


def test_rows_of_every_seed_run_with_what_the_study_chose() -> None:
    made = plan(*TUNED)
    (study, _) = made.studies
    for row in rows_of(made, "ssd"):
        assert row.choose_key == study.choices["support_only"]
        assert made.jobs[row.model_key].inputs["tuned"] == row.choose_key
        assert not row.row.space.keys() & made.jobs[row.model_key].spec["hyperparameters"].keys()


def test_keys_of_rows_that_are_not_tuned_do_not_change() -> None:
    made, plain = plan(*TUNED), plan(*BASE)
    for row in plain.results:
        (other,) = [r for r in rows_of(made, row.row.name) if r.cell == row.cell]
        same = row.score_key == other.score_key
        assert same == (row.row.name not in ("ssd", "jit"))
        assert (other.choose_key is None) == same
    assert plan(*TUNED, "profile=paper").jobs == plain.jobs


def test_the_demo_tunes_four_rows_and_leaves_the_others_alone() -> None:
    made, plain = plan("sweep=demo"), plan("sweep=demo", "profile=paper")
    names = {study.row for study in made.studies}
    assert {study.seeds for study in made.studies} == {"s1000+1001"}
    assert names == {"gradient_ascent", "gradient_ascent_classifier", "ssd", "jit"}
    keys = {(r.cell, r.row.name): r.score_key for r in plain.results}
    for row in made.results:
        same = keys[row.cell, row.row.name] == row.score_key
        assert same == (row.row.name not in names)


def roles(made: Plan, objective: TuningObjective) -> set[str]:
    (study,) = made.studies
    job = made.jobs[study.choices[objective]]
    return {*job.inputs, *job.series}


def test_each_choice_is_handed_what_its_objective_may_see() -> None:
    made = plan(*LEAK)
    (study,) = made.studies
    after = {"pretrained", "split", "simulated", "prepared"}
    assert study.choices.keys() == set(OBJECTIVES)
    assert roles(made, "simulated") == {"trials", "simulated"}
    assert roles(made, "support_only") == {"trials"} | after
    assert roles(made, "support_and_val") == {"trials", "index", "cache"} | after
    assert roles(made, "oracle") == {"trials", "retrained", "index", "cache"} | after


def behind(made: Plan, key: str) -> set[str]:
    """Stages of all jobs that a job's result depends on."""
    found, waiting = set[str](), [key]
    while waiting:
        job = made.jobs[waiting.pop()]
        found.add(job.stage)
        waiting += job.needs
    return found


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if o != "oracle"])
def test_no_choice_but_the_oracle_s_depends_on_retraining_or_a_true_tow(
    objective: TuningObjective,
) -> None:
    made = plan(*LEAK)
    (study,) = made.studies
    stages = behind(made, study.choices[objective])
    assert "trial" in stages
    assert not {"retrain", "evaluate", "score", "true_tow", "unlearn"} & stages
    oracle = behind(made, study.choices["oracle"])
    assert "retrain" in oracle
    assert "true_tow" not in oracle


def test_a_tuned_reference_row_is_chosen_by_simulation() -> None:
    made = plan(*BASE, "profile=tuned", "tuning.rows=[scrub]", "tuning.trials=2")
    (study,) = made.studies
    assert made.jobs[study.choices["support_only"]].spec["objective"] == "simulated"
    assert "split" not in roles(made, "support_only")


def test_rows_that_saw_more_say_so_in_their_names() -> None:
    def names(*overrides: str) -> set[str]:
        return {row.row.name for row in plan(*TUNED, "sweep.methods=[ssd]", *overrides).results}

    assert names() == {"ssd"}
    assert names("tuning.objective=simulated") == {"ssd"}
    assert names("tuning.objective=support_and_val") == {"ssd@support_and_val"}
    assert names("tuning.objective=oracle", "tuning.i_know=true") == {"ssd@oracle"}
    assert {row.row.name for row in plan(*LEAK).results} == {
        "pretrain",
        *(f"ssd@{objective}" for objective in OBJECTIVES),
    }


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["tuning.trials=0"], "tuning.trials is 0"),
        (["tuning.batch=0"], "tuning.batch is 0"),
        (["tuning.carried=0"], "tuning.carried is 0"),
        (["tuning.seeds=[]"], "tuning.seeds is []"),
        (["tuning.seeds=[3,3]"], "tuning.seeds is [3, 3]: name each seed once"),
        (["tuning.seeds=[-1]"], "tuning.seeds is [-1]"),
        (["tuning.seeds=[5,1]"], "tuning.seeds holds 1, which sweep.seeds holds too"),
        (["sweep.seeds=[0,1000]"], "tuning.seeds holds 1000, which sweep.seeds holds too"),
        (
            ["tuning.reserved_seeds=[1000]"],
            "tuning.seeds holds 1000, which tuning.reserved_seeds holds too",
        ),
        (
            ["sweep.vary=training", "sweep.fixed_seed=1000"],
            "tuning.seeds holds 1000, which sweep.fixed_seed holds too",
        ),
        (["tuning.reserved_seeds=[2,2]"], "tuning.reserved_seeds is [2, 2]"),
        (["tuning.studies=0"], "tuning.studies is 0"),
        (
            ["tuning.seeds=[5,6,7]", "tuning.studies=2"],
            "tuning.studies is 2, but it must be a divisor of 3",
        ),
        (["tuning.cells=owned"], "tuning.cells is 'owned'"),
        (
            ["tuning.cells=own", "tuning.seeds=[5]"],
            "tuning.seeds is [5], but with tuning.cells=own",
        ),
        (
            ["tuning.cells=own", "tuning.studies=2"],
            "tuning.studies is 2, but with tuning.cells=own",
        ),
        (
            ["tuning.cells=own", "tuning.reserved_seeds=[5]"],
            "tuning.reserved_seeds is [5], but with tuning.cells=own",
        ),
        (["tuning.sampler=tpee"], "tuning.sampler"),
        (["tuning.objective=magic"], "tuning.objective"),
        (["tuning.objective=oracle"], "say tuning.i_know=true"),
        (["tuning.rows=[sdd]"], "unknown row in tuning.rows 'sdd'; did you mean 'ssd'"),
        (["tuning.access=[supprot]"], "tuning.access"),
        (["profile=tunde"], "profile is 'tunde'"),
        (["+sweep.rows.ssd.space={alpha: [50, 50]}"], "ssd.space.alpha: its range 50 to 50 is"),
        (["+sweep.rows.ssd.space={alpha: [50, 5]}"], "is empty"),
        (["+sweep.rows.ssd.space={alpha: [-1, 5]}"], "must be above 0"),
        (["+sweep.rows.ssd.space={alpha: 5}"], "it must be [low, high]"),
        (["+sweep.rows.ssd.space={alhpa: [1, 5]}"], "did you mean 'alpha'"),
        (["+sweep.rows.ssd.space={importance: [1, 5]}"], "cannot be tuned"),
        (["+sweep.rows.ssd.space={batch_size: [1, 64]}"], "prepare depends on it"),
        (["+sweep.rows.jit.space={num_samples: [1.5, 4]}"], "takes whole numbers"),
        (["+sweep.rows.ssd.space=3"], "or map hyperparameters"),
    ],
)
def test_bad_input_is_one_sentence(overrides: list[str], says: str) -> None:
    with pytest.raises(InputError) as error:
        load([*TUNED, *overrides])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_part_of_the_methods_may_leave_tuned_rows_out() -> None:
    made = plan("sweep=demo", "sweep.methods=[pretrain,ssd]")
    assert [study.row for study in made.studies] == ["ssd"]
    assert not plan("sweep=demo", "sweep.methods=[pretrain,retrain]").studies


def test_only_the_studies_of_reference_rows_see_what_random_crops_are_cut_from() -> None:
    made = plan(
        *BASE,
        "profile=tuned",
        "tuning.rows=[scrub,ssd]",
        "tuning.trials=2",
        "datasets.synthetic_tiny.crop_size=64",
    )
    studies = {study.method: study for study in made.studies}
    assert studies.keys() == {"scrub", "ssd"}
    for method, study in studies.items():
        true_tows = [key for of_trial in study.true_tows for key in of_trial]
        assert true_tows
        for key in (*study.trials, *true_tows):
            assert ("crops" in made.jobs[key].inputs) == (method == "scrub")
