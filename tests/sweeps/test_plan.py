from __future__ import annotations

import subprocess
import sys

import pytest

from oneshui.spec import Access
from sweeps.config import load, sweep_names
from sweeps.jobs import STAGES
from sweeps.plan import Plan, expand, remaining_chain


def plan(*overrides: str) -> Plan:
    return expand(load(overrides).sweep)


@pytest.mark.parametrize("name", sweep_names())
def test_every_sweep_plans_and_every_job_comes_after_its_inputs(name: str) -> None:
    made = plan(f"sweep={name}")
    seen: set[str] = set()
    for key, job in made.jobs.items():
        assert key == job.key
        assert set(job.inputs.values()) <= seen
        seen.add(key)
    spec = load([f"sweep={name}"]).sweep
    assert len(made.results) == sum(len(rows) for rows in spec.rows.values())
    assert {job.stage for job in made.jobs.values()} == set(STAGES)


def test_jobs_are_counted_as_the_product_with_sharing() -> None:
    methods = "[pretrain,retrain,ssd,jit,gradient_ascent]"
    counts = plan("sweep=smoke", f"sweep.methods={methods}", "sweep.seeds=[0,1,2]").counts()
    assert counts == {
        "index": 1,
        "cache": 1,
        "split": 3,
        "pretrain": 3,
        "retrain": 3,
        "prepare": 3,
        "unlearn": 9,
        "evaluate": 15,
        "score": 15,
    }


def test_rows_that_differ_in_a_hyperparameter_share_the_preparation() -> None:
    made = plan(
        "sweep=smoke",
        "sweep.seeds=[0]",
        "sweep.methods=[pretrain,ssd,other]",
        "+sweep.rows.other={method: ssd, alpha: 7.0, dampening: 0.5}",
    )
    counts = made.counts()
    assert counts["prepare"] == 1
    assert counts["unlearn"] == 2
    fewer_batches = plan(
        "sweep=smoke",
        "sweep.seeds=[0]",
        "sweep.methods=[pretrain,ssd,other]",
        "+sweep.rows.other={method: ssd, batch_size: 16}",
    )
    assert fewer_batches.counts()["prepare"] == 2


def test_equal_rows_are_computed_once() -> None:
    made = plan(
        "sweep=smoke",
        "sweep.seeds=[0]",
        "sweep.methods=[ssd,twin]",
        "+sweep.rows.twin={method: ssd, alpha: 50.0, dampening: 1.0}",
    )
    assert made.counts()["unlearn"] == 1
    assert len(made.results) == 2
    assert len({row.score_key for row in made.results}) == 1


def test_a_one_shot_job_has_no_way_to_the_training_data() -> None:
    made = plan("sweep=demo")
    unlearn = [job for job in made.jobs.values() if job.stage == "unlearn"]
    assert unlearn
    for job in unlearn:
        assert set(job.inputs) <= {"pretrained", "split", "prepared"}
        stages = {made.jobs[key].stage for key in job.inputs.values()}
        assert not stages & {"index", "cache"}
    for row in made.results:
        assert (row.prepare_key is not None) == (row.row.access is Access.PREPARED)


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
        "sweep.forget_sizes=[3]",
    ],
)
def test_what_can_change_a_result_changes_every_score(change: str) -> None:
    before = {row.score_key for row in plan("sweep=smoke").results}
    after = {row.score_key for row in plan("sweep=smoke", change).results}
    assert not before & after


def test_the_longest_chain_of_a_cell_runs_through_training() -> None:
    made = plan("sweep=smoke", "sweep.seeds=[0]")
    chain = remaining_chain(made.jobs, lambda _: 1.0)
    index = next(key for key, job in made.jobs.items() if job.stage == "index")
    # index, cache, split, pretrain, prepare, unlearn, evaluate, score
    assert chain[index] == 8.0


def test_planning_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys\n"
        "from sweeps.config import load\n"
        "from sweeps.plan import expand\n"
        "expand(load(['sweep=full']).sweep)\n"
        "print(sorted({'torch', 'ray', 'mlflow', 'sklearn', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
