"""Which job's spec holds what: one thing is changed at a time, and no other spec may change."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from sweeps.config import load
from sweeps.graph.job import canonical_json
from sweeps.graph.plan import Plan, expand

BASE = (
    "sweep=leak_cost",
    "scale=toy",
    "sweep.seeds=[0]",
    "sweep.methods=[pretrain,retrain,retrain_again,ssd,scrub]",
    "tuning.rows=[ssd]",
    "tuning.trials=3",
    "tuning.objective=support_only",
)


def plan(*overrides: str) -> Plan:
    return expand(load([*BASE, *overrides]).sweep)


def specs(made: Plan) -> dict[str, list[str]]:
    """The specs of each stage's jobs, as text."""
    found: dict[str, list[str]] = defaultdict(list)
    for job in made.jobs.values():
        found[job.stage].append(canonical_json(job.spec))
    return {stage: sorted(texts) for stage, texts in found.items()}


STUDY = {"trial", "choose", "true_tow"}


@pytest.mark.parametrize(
    ("overrides", "stages"),
    [
        (["datasets.synthetic_tiny.generate.seed=1"], {"index"}),
        (["sweep.preprocessing=reference"], {"cache"}),
        (["sweep.forget_sizes=[3]"], {"split", "prepare"}),
        (["sweep.training.epochs=3"], {"pretrain", "retrain", "unlearn"}),
        (["sweep.views=3"], {"evaluate"}),
        (["++sweep.rows.retrain_again.reseed=5"], {"retrain"}),
        (["++sweep.rows.scrub.epochs=3"], {"unlearn"}),
        # SSD's preparation depends on its batches; the study varies neither.
        (["++sweep.rows.ssd.batch_size=7"], {"prepare", "unlearn"} | STUDY),
        # What varies is the first trial's, and in no other spec.
        (["++sweep.rows.ssd.alpha=3.0"], {"trial"}),
        (["+sweep.rows.ssd.space={alpha: [2, 90]}"], {"trial"}),
        (["tuning.sampler=random"], {"trial"}),
        (["tuning.carried=1"], {"choose"}),
        (["tuning.requests=1"], {"simulate"}),
        (["tuning.objective=simulated"], {"choose"}),
        # Drawn together: inputs, not spec.
        (["tuning.batch=1"], set()),
    ],
    ids=lambda it: "-".join(it) if isinstance(it, list) else "",
)
def test_a_change_is_in_the_specs_that_it_is_about(overrides: list[str], stages: set[str]) -> None:
    before, after = specs(plan()), specs(plan(*overrides))
    assert before.keys() == after.keys()
    assert {stage for stage in before if before[stage] != after[stage]} == stages


def values(made: Plan, name: str) -> dict[str, set[Any]]:
    """What the specs of each stage have under a name."""
    found: dict[str, set[Any]] = defaultdict(set)
    for job in made.jobs.values():
        if name in job.spec:
            found[job.stage].add(job.spec[name])
    return dict(found)


@pytest.mark.parametrize("vary", ["all", "split", "support", "training", "unlearning"])
def test_each_level_of_seeds_reaches_the_jobs_that_draw_by_it(vary: str) -> None:
    made = plan("sweep.seeds=[4]", "sweep.fixed_seed=9", "tuning.seeds=[4]", f"sweep.vary={vary}")

    def seed(level: str) -> set[int]:
        return {4 if vary in ("all", level) else 9}

    assert values(made, "split_seed") == {"split": seed("split")}
    assert values(made, "support_seed") == {"split": seed("support")}
    assert values(made, "training_seed") == {
        "pretrain": seed("training"),
        "retrain": seed("training"),
        "unlearn": seed("training"),
    }
    assert values(made, "unlearning_seed") == {
        stage: seed("unlearning") for stage in ("prepare", "simulate", "unlearn", *STUDY)
    }
    assert values(made, "reseed")["retrain"] == {0, 1}


@pytest.mark.parametrize(
    ("sampler", "known"),
    [("tpe", set()), ("grid", {"trials"}), ("cmaes", {"batch"}), ("gp", set()), ("random", set())],
)
def test_a_sampler_is_told_what_it_needs_and_no_more(sampler: str, known: set[str]) -> None:
    made = plan(f"tuning.sampler={sampler}", "tuning.trials=4", "tuning.batch=3")
    (study,) = made.studies
    for place, key in enumerate(study.trials):
        spec = made.jobs[key].spec
        assert spec.keys() & {"trials", "batch"} == known
        assert spec["place"] == place
        assert spec["sampler"] == sampler
        assert spec.get("trials", 4) == 4
        assert spec.get("batch", 3) == 3
        assert set(spec["defaults"]) == set(spec["space"]) == {"alpha", "dampening"}


def test_each_dataset_is_trained_by_its_own_recipe() -> None:
    made = plan(
        "sweep.datasets=[synthetic_tiny,synthetic_tiny_mufac]",
        "+datasets.synthetic_tiny_mufac.training={epochs: 5}",
    )
    epochs = {
        job.label.split()[1]: job.spec["training"]["epochs"]
        for job in made.jobs.values()
        if job.stage == "pretrain"
    }
    assert epochs == {"synthetic_tiny": 2, "synthetic_tiny_mufac": 5}


def test_every_evaluation_measures_against_the_cell_s_retrained_weights() -> None:
    made = plan("sweep.seeds=[0,1]")
    for job in made.jobs.values():
        if job.stage == "evaluate":
            yardstick = made.jobs[job.inputs["retrained_weights"]]
            assert (yardstick.stage, yardstick.spec["reseed"]) == ("retrain", 0)
            assert yardstick.inputs["split"] == job.inputs["split"]


def test_a_copy_of_the_retrained_model_is_prepared_and_unlearned_by_itself() -> None:
    made = plan("sweep.reference_copies=true", "profile=paper")
    of_ssd = [job for job in made.jobs.values() if job.label.startswith("prepare ssd")]
    assert [made.jobs[job.inputs["pretrained"]].stage for job in of_ssd] == ["pretrain", "retrain"]
    for job in made.jobs.values():
        if "prepared" in job.inputs:
            prepared = made.jobs[job.inputs["prepared"]]
            assert prepared.inputs["pretrained"] == job.inputs["pretrained"]


def test_a_score_s_yardsticks_are_the_evaluations_of_its_own_cell() -> None:
    made = plan("sweep.seeds=[0,1]", "sweep.forget_sizes=[4,3]")
    for row in made.results:
        inputs = made.jobs[row.score_key].inputs
        own = made.jobs[row.evaluate_key].inputs
        for role, stage in (("pretrained", "pretrain"), ("retrained", "retrain")):
            yardstick = made.jobs[inputs[role]]
            assert made.jobs[yardstick.inputs["weights"]].stage == stage
            assert yardstick.inputs["split"] == own["split"]
        paired = made.jobs[inputs["paired_split"]].spec
        mine = made.jobs[own["split"]].spec
        assert paired["num_forget"] == mine["num_forget"]
        assert paired["split_seed"] == 1 - mine["split_seed"]


def test_the_jobs_behind_a_row_are_told_with_their_distance() -> None:
    made = plan("profile=paper")
    row = next(row for row in made.results if row.row.name == "scrub")
    far = made.needed(row)
    for key, distance in far.items():
        below = [far[needing] for needing in far if key in made.jobs[needing].needs]
        assert distance == (1 + min(below) if below else 0)
    assert [key for key, distance in far.items() if distance == 0] == [row.score_key]


def test_true_tows_are_measured_cell_by_cell() -> None:
    made = plan("tuning.seeds=[0,1,2]", "sweep.seeds=[0]")
    (study,) = made.studies
    for of_trial in study.true_tows:
        for place, key in enumerate(of_trial):
            job = made.jobs[key]
            evaluation = made.jobs[job.inputs["retrained"]]
            assert made.jobs[job.inputs["split"]].spec["split_seed"] == place
            assert evaluation.inputs["split"] == job.inputs["split"]
            assert made.jobs[job.inputs["pretrained"]].spec["training_seed"] == place
            assert made.jobs[job.inputs["simulated"]].spec["unlearning_seed"] == place
            assert made.jobs[job.inputs["prepared"]].spec["unlearning_seed"] == place
