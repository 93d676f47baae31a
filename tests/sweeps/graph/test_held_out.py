"""Which cells tune: none that is reported, or each reported one itself."""

from __future__ import annotations

from sweeps.config import load
from sweeps.graph.job import Job
from sweeps.graph.plan import Plan, expand
from sweeps.graph.spec import TuningSpec

TUNED = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "profile=tuned",
    "sweep.methods=[pretrain,ssd]",
    "tuning.trials=2",
)
SPLIT_0, SPLIT_1 = "b58c08c4a8ed42c5", "f3e5e04094b9900c"
"""Keys of the reported splits, from before there were cells that only tune."""


def plan(*overrides: str) -> Plan:
    return expand(load([*TUNED, *overrides]).sweep)


def split_behind(made: Plan, key: str) -> Job:
    """The split of a study's first cell."""
    return made.jobs[made.jobs[key].series["split"][0]]


def reported_splits(made: Plan) -> dict[int, str]:
    """Keys of the splits of the results, by seed."""
    return {row.cell.seed: made.jobs[row.evaluate_key].inputs["split"] for row in made.results}


def test_reported_splits_are_what_they_were_and_the_tuning_split_is_drawn_around_them() -> None:
    made = plan("sweep.seeds=[0,1]")
    assert reported_splits(made) == {0: SPLIT_0, 1: SPLIT_1}
    (study,) = made.studies
    drawn = split_behind(made, study.trials[0])
    assert drawn.series["reported"] == (SPLIT_0, SPLIT_1)
    assert (drawn.spec["split_seed"], drawn.spec["support_seed"]) == (1000, 1000)
    for key in (SPLIT_0, SPLIT_1):
        assert not made.jobs[key].series


def test_the_order_of_seeds_does_not_tune_anew_and_other_rows_do_not_either() -> None:
    (study,) = plan("sweep.seeds=[0,1]").studies
    assert plan("sweep.seeds=[1,0]").studies[0].trials == study.trials
    assert plan("sweep.methods=[retrain,ssd]").studies[0].trials == study.trials


def test_another_reported_seed_tunes_anew_unless_it_was_reserved() -> None:
    (few,) = plan("sweep.seeds=[0,1]").studies
    (more,) = plan("sweep.seeds=[0,1,2]").studies
    assert not {*few.trials, *few.choices.values()} & {*more.trials, *more.choices.values()}
    reserving = plan("sweep.seeds=[0,1]", "tuning.reserved_seeds=[2]")
    assert reserving.studies == (more,)
    assert set(reported_splits(reserving)) == {0, 1}
    # Of the seed that is not reported yet only the split is needed.
    assert {job.stage for job in reserving.jobs.values() if job.label.endswith(" s2")} == {"split"}


def test_all_forget_sizes_of_a_dataset_are_kept_out_and_no_other_dataset_s() -> None:
    made = plan("sweep.seeds=[0,1]", "sweep.forget_sizes=[4,3]")
    for study in made.studies:
        drawn = split_behind(made, study.trials[0])
        kept_out = [made.jobs[key].spec for key in drawn.series["reported"]]
        assert [(one["num_forget"], one["split_seed"]) for one in kept_out] == [
            (3, 0),
            (3, 1),
            (4, 0),
            (4, 1),
        ]
    both = plan("sweep.datasets=[synthetic_tiny,synthetic_tiny_mufac]", "sweep.seeds=[0,1]")
    assert both.studies[0] == plan("sweep.seeds=[0,1]").studies[0]
    drawn = split_behind(both, both.studies[1].trials[0])
    assert not {SPLIT_0, SPLIT_1} & set(drawn.series["reported"])


def test_a_tuning_cell_varies_everything_whatever_the_seeds_vary() -> None:
    made = plan("sweep.seeds=[0,1]", "sweep.vary=training")
    (study,) = made.studies
    drawn = split_behind(made, study.trials[0])
    assert drawn.spec["split_seed"] == 1000
    assert made.jobs[study.simulated[0]].spec["unlearning_seed"] == 1000
    # Both reported cells have one split.
    assert drawn.series["reported"] == (SPLIT_0,)


def test_no_reported_row_needs_a_tuning_cell_s_models_but_through_its_choice() -> None:
    made = plan("sweep.seeds=[0,1]")
    (study,) = made.studies
    tuning = {key for key, job in made.jobs.items() if job.label.endswith("s1000")}
    assert {made.jobs[key].stage for key in tuning} >= {"split", "pretrain", "retrain", "simulate"}
    for row in made.results:
        needed = {row.score_key, *made.needed(row)} & tuning
        assert bool(needed) == (row.row.name == "ssd")
        if needed:
            assert row.choose_key == study.choices["support_only"]
            assert made.jobs[row.model_key].inputs["tuned"] == row.choose_key
        for key in (row.model_key, row.evaluate_key, row.score_key):
            assert not tuning & {*made.jobs[key].inputs.values()}


def test_several_studies_take_turns_over_the_reported_seeds() -> None:
    made = plan("sweep.seeds=[4,2,9]", "tuning.studies=2")
    assert [study.name for study in made.studies] == [
        "ssd synthetic_tiny n4 s1000",
        "ssd synthetic_tiny n4 s1001",
    ]
    first, second = (study.choices["support_only"] for study in made.studies)
    assert first != second
    found = {row.cell.seed: row.choose_key for row in made.results if row.row.name == "ssd"}
    assert found == {4: first, 2: second, 9: first}
    seeds = {made.jobs[study.trials[1]].spec["unlearning_seed"] for study in made.studies}
    assert seeds == {1000, 1001}, "each draws points of its own"


def test_studies_share_the_seeds_out_in_equal_parts() -> None:
    assert TuningSpec().parts == ((1000,),)
    assert TuningSpec(studies=3).parts == ((1000,), (1001,), (1002,))
    assert TuningSpec(seeds=(5, 6, 7, 8), studies=2).parts == ((5, 6), (7, 8))
    assert TuningSpec(seeds=(5, 6)).parts == ((5, 6),)
    made = plan("sweep.seeds=[0]", "tuning.seeds=[5,6,7,8]", "tuning.studies=2")
    # With one reported cell the second study has nobody to tune for.
    assert [study.name for study in made.studies] == ["ssd synthetic_tiny n4 s5+6"]


def test_what_studies_run_on_is_said_in_words() -> None:
    assert TuningSpec().where == "seed 1000, never reported"
    assert TuningSpec(seeds=(5, 6)).where == "seeds 5, 6, never reported"
    assert TuningSpec(studies=2).where == (
        "seeds 1000, 1001, never reported, in 2 independent studies"
    )
    assert TuningSpec(cells="own").where == "a study of its own for every reported cell"


def test_a_sweep_that_tunes_nothing_may_report_any_seed() -> None:
    made = plan("profile=paper", "sweep.seeds=[1000]", "tuning.seeds=[1000]")
    assert {row.cell.seed for row in made.results} == {1000}


def test_a_reserved_seed_that_is_reported_in_the_end_changes_nobody_s_study() -> None:
    def choices(*overrides: str) -> dict[int, str | None]:
        made = plan("tuning.studies=2", *overrides)
        return {row.cell.seed: row.choose_key for row in made.results if row.row.name == "ssd"}

    before = choices("sweep.seeds=[3,0]", "tuning.reserved_seeds=[1]")
    after = choices("sweep.seeds=[3,0,1]")
    assert {seed: after[seed] for seed in before} == before
    assert after[1] == before[3] != before[0]
