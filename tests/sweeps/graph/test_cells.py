"""Which job's spec holds what: one thing is changed at a time, and no other spec may change."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any

import pytest
from support.job_graphs import DIAMOND, by_key, graph

from oneshui.errors import InputError
from oneshui.spec import RECIPE_VERSION, FacesSpec
from sweeps.config import load
from sweeps.graph import cells
from sweeps.graph.cells import index_job, remaining_chain
from sweeps.graph.job import canonical_json
from sweeps.graph.plan import Plan, expand
from sweeps.graph.spec import DatasetSpec

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
        # Beside a relative range it is what the study's first point runs with.
        (["++sweep.rows.ssd.alpha=3.0"], {"trial", "choose", "true_tow", "unlearn"}),
        (["sweep.rows.ssd.space={share: [1e-4, 1e-2]}"], {"trial"}),
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
    made = plan("sweep.seeds=[4]", "sweep.fixed_seed=9", "tuning.cells=own", f"sweep.vary={vary}")

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
        assert set(spec["defaults"]) == set(spec["space"]) == {"share"}


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
    made = plan("tuning.seeds=[0,1,2]", "sweep.seeds=[3]")
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


DRAWN = DatasetSpec(name="drawn", layout="celebahq", generate=FacesSpec())
BROUGHT = DatasetSpec(name="brought", layout="celebahq")
SMOKE = ("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0]")


@pytest.mark.parametrize(
    "change", [{"identities": 401}, {"pictures": 9}, {"size": 65}, {"seed": 1}], ids=str
)
def test_faces_drawn_otherwise_are_another_dataset(change: dict[str, int]) -> None:
    other = dataclasses.replace(DRAWN, generate=FacesSpec(**change))
    assert index_job(other).key != index_job(DRAWN).key


def test_another_recipe_of_drawing_or_layout_is_another_dataset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = [index_job(dataset).key for dataset in (DRAWN, BROUGHT)]
    assert index_job(dataclasses.replace(DRAWN, layout="celeba")).key != before[0]
    assert index_job(dataclasses.replace(BROUGHT, layout="celeba")).key != before[1]
    monkeypatch.setattr(cells, "RECIPE_VERSION", RECIPE_VERSION + 1)
    drawn, brought = (index_job(dataset).key for dataset in (DRAWN, BROUGHT))
    assert drawn != before[0]
    assert brought == before[1], "nobody drew it"


def test_brought_datasets_are_told_apart_by_name_and_drawn_ones_by_their_recipe() -> None:
    for dataset in (BROUGHT, DRAWN):
        other = index_job(dataclasses.replace(dataset, name="renamed"))
        assert (other.key == index_job(dataset).key) == (dataset is DRAWN)


def test_what_a_package_brings_is_the_same_under_every_name() -> None:
    one, other = (index_job(DatasetSpec(name=name, layout="orl")) for name in ("orl", "faces"))
    assert one.key == other.key
    assert one.spec == {"layout": "orl", "dataset": "orl"}


@pytest.mark.parametrize(
    "change",
    [{"path": "x"}, {"crop_size": 64}, {"forget_sizes": (3,)}, {"training": {"epochs": 1}}],
    ids=str,
)
def test_what_is_done_with_a_dataset_does_not_make_another(change: dict[str, Any]) -> None:
    assert index_job(dataclasses.replace(BROUGHT, **change)).key == index_job(BROUGHT).key


def keys(stage: str, *overrides: str) -> set[str]:
    jobs = expand(load([*SMOKE, "sweep.methods=[pretrain,ssd]", *overrides]).sweep).jobs
    return {key for key, job in jobs.items() if job.stage == stage}


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("sweep.preprocessing=reference", True),
        ("sweep.model.image_size=32", True),
        ("datasets.synthetic_tiny.crop_size=48", False),
        ("sweep.forget_sizes=[3]", False),
    ],
)
def test_decoded_pictures_depend_on_how_they_are_resized(override: str, changes: bool) -> None:
    (before,) = keys("cache", "sweep.model.image_size=40")
    assert (before not in keys("cache", "sweep.model.image_size=40", override)) == changes
    # All that is computed from them changes with them.
    kept = keys("pretrain", "sweep.model.image_size=40") & keys(
        "pretrain", "sweep.model.image_size=40", override
    )
    assert not (changes and kept)


def test_the_walk_is_part_of_the_split_and_of_all_that_comes_of_it() -> None:
    other = "datasets.synthetic_tiny.walk=corrected"
    for stage, changes in (("index", False), ("cache", False), ("split", True), ("pretrain", True)):
        before = keys(stage)
        assert bool(before & keys(stage, other)) != changes, stage
        # The layout's own way, said aloud, is no other.
        assert keys(stage, "datasets.synthetic_tiny.walk=reference") == before


def test_a_dataset_of_ones_own_is_split_by_the_corrected_walk() -> None:
    own = DatasetSpec(name="own", layout="table")
    assert (own.split_walk, BROUGHT.split_walk) == ("corrected", "reference")
    assert dataclasses.replace(own, walk="reference").split_walk == "reference"
    with pytest.raises(InputError, match=r"datasets\.synthetic_tiny\.walk is 'other'"):
        load([*SMOKE, "datasets.synthetic_tiny.walk=other"])


def test_crops_are_cut_from_pictures_resized_as_the_reference_trains() -> None:
    larger = ("sweep.model.image_size=40", "datasets.synthetic_tiny.crop_size=48")
    both = [
        keys("cache", *larger, f"sweep.preprocessing={how}") for how in ("corrected", "reference")
    ]
    assert [len(found) for found in both] == [2, 2]
    assert len(both[0] & both[1]) == 1


def test_the_longest_of_the_chains_behind_a_job_counts() -> None:
    jobs = graph(DIAMOND | {"e": ["d"], "f": ["b"]})
    seconds = {"a": 1.0, "b": 20.0, "c": 300.0, "d": 4000.0, "e": 50000.0, "f": 600000.0}
    found = remaining_chain(by_key(jobs), lambda job: seconds[job.label])
    assert {name: found[job.key] for name, job in jobs.items()} == {
        "a": 600021.0,
        "b": 600020.0,
        "c": 54300.0,
        "d": 54000.0,
        "e": 50000.0,
        "f": 600000.0,
    }


def test_only_the_pretrained_model_s_features_are_kept() -> None:
    made = plan("sweep.reference_copies=true", "profile=paper")
    evaluated = [job for job in made.jobs.values() if job.stage == "evaluate"]
    of_pretrained = [made.jobs[job.inputs["weights"]].stage == "pretrain" for job in evaluated]
    assert [job.spec["features"] for job in evaluated] == of_pretrained
    assert of_pretrained.count(True) == 1
    assert of_pretrained.count(False) > 3


def test_crops_of_the_network_s_own_size_are_cut_from_its_own_cache() -> None:
    for crop_size, caches in ((40, 1), (48, 2)):
        found = keys(
            "cache",
            "sweep.preprocessing=reference",
            "sweep.model.image_size=40",
            f"datasets.synthetic_tiny.crop_size={crop_size}",
        )
        assert len(found) == caches
