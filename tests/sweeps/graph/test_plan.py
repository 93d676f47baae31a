from __future__ import annotations

import subprocess
import sys

import pytest

from oneshui.spec import Access
from sweeps.composition import sweep_names
from sweeps.config import load
from sweeps.graph.cells import remaining_chain
from sweeps.graph.job import STAGES, TRAINING
from sweeps.graph.plan import Plan, expand

ONE = "sweep.datasets=[synthetic_tiny]"


def plan(*overrides: str) -> Plan:
    return expand(load(overrides).sweep)


@pytest.mark.parametrize("name", sweep_names())
def test_every_sweep_plans_and_every_job_comes_after_its_inputs(name: str) -> None:
    made = plan(f"sweep={name}")
    seen: set[str] = set()
    for key, job in made.jobs.items():
        assert key == job.key
        assert set(job.needs) <= seen
        seen.add(key)
    spec = load([f"sweep={name}"]).sweep
    assert len(made.results) == sum(len(rows) for rows in spec.rows.values())
    without = set() if made.studies else {"simulate", "trial", "choose", "true_tow"}
    without |= {"weights"} if spec.model.weights == "random" else set()
    without |= set() if spec.tuning.true_tow else {"true_tow"}
    without |= set() if spec.sequence else {"sequence"}
    without |= set() if spec.audit and spec.audit.probes else {"probe"}
    without |= set() if spec.audit and spec.audit.pool else {"examine", "lira", "memorisation"}
    without |= set() if spec.audit and spec.audit.completeness else {"untrained", "completeness"}
    assert {job.stage for job in made.jobs.values()} == set(STAGES) - without


def test_jobs_are_counted_as_the_product_with_sharing() -> None:
    methods = "[pretrain,retrain,ssd,jit,gradient_ascent]"
    counts = plan("sweep=smoke", ONE, f"sweep.methods={methods}", "sweep.seeds=[0,1,2]").counts()
    assert counts == {
        "index": 1,
        "cache": 1,
        "split": 3,
        "pretrain": 3,
        "retrain": 3,
        "prepare": 3,
        "unlearn": 9,
        # Each cell's pictures are also shown to the retrained model of one other split.
        "evaluate": 18,
        "score": 15,
    }


def test_people_trained_for_longer_are_decoded_and_split_once() -> None:
    made = plan("sweep=saturation")
    counts = made.counts()
    assert {stage: counts[stage] for stage in ("index", "cache", "split")} == {
        "index": 1,
        "cache": 1,
        "split": 3,
    }
    # Four lengths of training, of every seed, and each retrained twice.
    assert {stage: counts[stage] for stage in ("pretrain", "retrain")} == {
        "pretrain": 4 * 3,
        "retrain": 4 * 3 * 2,
    }
    trained = [job.spec["training"] for job in made.jobs.values() if job.stage in TRAINING]
    assert sum(training["epochs"] for training in trained) == (2 + 4 + 8 + 16) * 9
    people = plan("sweep=people", "sweep.methods=[pretrain]", "sweep.datasets=[orl]").jobs
    assert {key for key, job in people.items() if job.stage == "cache"} <= made.jobs.keys()


def test_rows_that_differ_in_a_hyperparameter_share_the_preparation() -> None:
    made = plan(
        "sweep=smoke",
        ONE,
        "sweep.seeds=[0]",
        "sweep.methods=[pretrain,ssd,other]",
        "+sweep.rows.other={method: ssd, alpha: 7.0, dampening: 0.5}",
    )
    counts = made.counts()
    assert counts["prepare"] == 1
    assert counts["unlearn"] == 2
    fewer_batches = plan(
        "sweep=smoke",
        ONE,
        "sweep.seeds=[0]",
        "sweep.methods=[pretrain,ssd,other]",
        "+sweep.rows.other={method: ssd, batch_size: 16}",
    )
    assert fewer_batches.counts()["prepare"] == 2


def test_equal_rows_are_computed_once() -> None:
    made = plan(
        "sweep=smoke",
        ONE,
        "sweep.seeds=[0]",
        "sweep.methods=[ssd,twin]",
        "+sweep.rows.twin={method: ssd, alpha: 50.0, dampening: 1.0}",
    )
    assert made.counts()["unlearn"] == 1
    assert len(made.results) == 2
    assert len({row.score_key for row in made.results}) == 1


def test_a_one_shot_job_has_no_way_to_the_training_data() -> None:
    made = plan("sweep=demo", "sweep.reference_copies=true")
    full = {row.model_key for row in made.results if row.row.access is Access.FULL}
    unlearn = [job for job in made.jobs.values() if job.stage == "unlearn" and job.key not in full]
    assert unlearn
    for job in unlearn:
        # What a study chose is numbers.
        assert set(job.inputs) <= {"pretrained", "split", "prepared", "tuned"}
        assert "tuned" not in job.inputs or made.jobs[job.inputs["tuned"]].stage == "choose"
        stages = {made.jobs[key].stage for key in job.needs}
        assert not stages & {"index", "cache"}
    for row in made.results:
        assert (row.prepare_key is not None) == (row.row.access is Access.PREPARED)


def test_only_trainings_on_random_crops_wait_for_the_pictures_that_these_are_cut_from() -> None:
    methods = "sweep.methods=[pretrain,retrain,ssd,scrub]"
    before = plan("sweep=smoke", ONE, methods)
    made = plan("sweep=smoke", ONE, methods, "datasets.synthetic_tiny.crop_size=64")
    assert made.counts()["cache"] == 2
    larger = next(k for k, j in made.jobs.items() if j.stage == "cache" and j.spec["size"] == 64)
    using = {job.stage for job in made.jobs.values() if larger in job.needs}
    assert using == {"pretrain", "retrain", "unlearn"}
    for row in made.results:
        inputs = made.jobs[row.model_key].inputs
        one_shot = (
            row.row.access in (Access.SUPPORT, Access.PREPARED) and row.row.name != "pretrain"
        )
        assert ("crops" in inputs) != one_shot
    same = plan("sweep=smoke", ONE, methods, "datasets.synthetic_tiny.crop_size=32")
    assert set(same.jobs) == set(before.jobs)


def test_what_cannot_change_a_result_is_not_in_any_key() -> None:
    keys = set(plan("sweep=smoke").jobs)
    assert keys == set(plan("sweep=smoke", "cluster.workers=3", "output_dir=/elsewhere").jobs)
    assert keys == set(plan("sweep=smoke", "data_dir=/d", "store.uri=/s", "mode=plan").jobs)


@pytest.mark.parametrize(
    "change",
    [
        "sweep.seeds=[5,6]",
        "sweep.training.epochs=3",
        "sweep.model.image_size=24",
        "datasets.synthetic_tiny.generate.seed=1",
        "datasets.synthetic_tiny.crop_size=64",
        "sweep.forget_sizes=[3]",
    ],
)
def test_what_can_change_a_result_changes_every_score(change: str) -> None:
    before = {row.score_key for row in plan("sweep=smoke", ONE).results}
    after = {row.score_key for row in plan("sweep=smoke", ONE, change).results}
    assert not before & after


AGAIN = (
    "sweep=smoke",
    ONE,
    "sweep.seeds=[0,1,2]",
    "sweep.methods=[pretrain,retrain,retrain_again,ssd,jit,scrub]",
    "+sweep.rows.retrain_again={method: retrain, reseed: 1}",
)


def attackers(made: Plan, role: str) -> dict[tuple[int, str], list[str]]:
    """Keys of the evaluations that each row is attacked with, by seed and row."""
    return {
        (row.cell.seed, row.row.name): list(made.jobs[row.score_key].series[role])
        for row in made.results
    }


@pytest.mark.parametrize("further", [(), ("third", "fourth")])
def test_all_rows_of_a_cell_are_attacked_with_the_same_retrained_models(
    further: tuple[str, ...],
) -> None:
    rows = [
        f"+sweep.rows.{name}={{method: retrain, reseed: {place + 2}}}"
        for place, name in enumerate(further)
    ]
    methods = ["pretrain", "retrain", "ssd", "retrain_again", *further, "scrub"]
    made = plan(*AGAIN, f"sweep.methods=[{','.join(methods)}]", *rows)
    own = {(row.cell.seed, row.row.name): row.evaluate_key for row in made.results}
    found = attackers(made, "references")
    assert found.keys() == own.keys()
    for (seed, name), keys in found.items():
        # The first that retrains again is attacked as methods are; a reference is not attacked.
        fixed = [own[seed, other] for other in ("retrain", *further)]
        assert keys == ([] if name in ("retrain", *further) else fixed)


def test_without_retraining_again_the_retrained_model_is_the_reference() -> None:
    made = plan("sweep=smoke", ONE, "sweep.methods=[retrain,ssd]", "sweep.seeds=[0]")
    found = attackers(made, "references")
    own = {row.row.name: row.evaluate_key for row in made.results}
    assert found == {(0, "retrain"): [], (0, "ssd"): [own["retrain"]]}


def test_rows_that_retrain_with_the_same_random_numbers_are_one_model() -> None:
    twice = "+sweep.rows.twice={method: retrain, reseed: 1}"
    made = plan(*AGAIN, "sweep.methods=[pretrain,retrain,retrain_again,twice]", twice)
    found = attackers(made, "references")
    assert len(found[0, "pretrain"]) == len(found[0, "twice"]) == 1


def test_unlearned_copies_of_the_retrained_model_are_references_of_their_own() -> None:
    made = plan(*AGAIN, "sweep.reference_copies=true")
    assert attackers(made, "references") == attackers(plan(*AGAIN), "references")
    assert not any(attackers(plan(*AGAIN), "copies").values())
    found = attackers(made, "copies")
    copied = {name: len(found[0, name]) for name in ("pretrain", "retrain", "ssd", "jit", "scrub")}
    assert copied == {"pretrain": 0, "retrain": 0, "ssd": 1, "jit": 1, "scrub": 0}
    copy = made.jobs[made.jobs[found[0, "ssd"][-1]].inputs["weights"]]
    assert made.jobs[copy.inputs["pretrained"]].stage == "retrain"
    assert set(copy.inputs) == {"pretrained", "split", "prepared"}
    ours = {row.model_key for row in plan(*AGAIN).results}
    assert copy.key not in ours


def test_a_is_tuned_with_another_split_s_retrained_model() -> None:
    made = plan(*AGAIN)
    for row in made.results:
        inputs = made.jobs[row.score_key].inputs
        paired = made.jobs[inputs["paired"]]
        own_split = made.jobs[row.evaluate_key].inputs["split"]
        assert paired.inputs["split"] == own_split != inputs["paired_split"]
        assert made.jobs[paired.inputs["weights"]].inputs["split"] == inputs["paired_split"]
    for change in ("sweep.seeds=[0]", "sweep.vary=training"):
        alone = plan(*AGAIN, change)
        assert all("paired" not in alone.jobs[row.score_key].inputs for row in alone.results)


def test_the_longest_chain_of_a_cell_runs_through_training() -> None:
    made = plan("sweep=smoke", "sweep.seeds=[0]")
    chain = remaining_chain(made.jobs, lambda _: 1.0)
    index = next(key for key, job in made.jobs.items() if job.stage == "index")
    # index, cache, split, pretrain, prepare, unlearn, evaluate, score
    assert chain[index] == 8.0


def test_planning_loads_nothing_that_computes_or_draws() -> None:
    code = (
        "import sys\n"
        "from sweeps.config import load\n"
        "from sweeps.graph.plan import expand\n"
        "import sweeps.schedule.estimates\n"
        "plan = expand(load(['sweep=full']).sweep)\n"
        "sweeps.schedule.estimates.Estimates(plan.jobs)\n"
        "heavy = {'torch', 'numpy', 'pandas', 'PIL', 'ray', 'mlflow', 'sklearn', 'matplotlib'}\n"
        "print(sorted(name for name in sys.modules\n"
        "             if name in heavy or name.startswith('oneshui.faces')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
