"""Which probes there are: one of a model and a request, shared by the rows that need it."""

from __future__ import annotations

import functools

from support.several_requests import SEVERAL

from oneshui.spec import Access
from sweeps.config import load
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.graph.probes import RELEARNING, Probes
from sweeps.schedule.estimates import guess, images_of

ASKED = (
    "sweep=smoke",
    "sweep.audit.completeness=false",
    "sweep.methods=[pretrain,retrain,retrain_again,ssd,jit,scrub]",
    "+sweep.rows.retrain_again={method: retrain, reseed: 1}",
    "sweep.audit.probes=true",
)


@functools.cache
def plan(*overrides: str) -> Plan:
    return expand(load(overrides or ASKED).sweep)


def probes_of(row: ResultRow) -> Probes:
    assert row.probes is not None
    return row.probes


def test_a_sweep_that_asks_for_none_has_the_jobs_it_always_had() -> None:
    without = plan(ASKED[0], *ASKED[2:-1])
    assert not any(row.probes for row in without.results)
    assert "probe" not in without.counts()
    others = plan(*ASKED[:-1], "sweep.audit.probes=false")
    assert others.jobs.keys() == without.jobs.keys()
    added = plan().jobs.keys() - without.jobs.keys()
    assert without.jobs.keys() < plan().jobs.keys()
    assert {plan().jobs[key].stage for key in added} == {"probe"}


def test_there_is_one_probe_of_every_model_and_rows_share_the_retrained_one_s() -> None:
    made = plan()
    weights = {key for row in made.results for key in row.model_keys}
    assert made.counts()["probe"] == len(weights)
    for cell in made.sweep.cells:
        rows = {row.row.name: row for row in made.results if row.cell == cell}
        asked = {name: probes_of(row) for name, row in rows.items()}
        for role, name in (("retrained", "retrain"), ("pretrained", "pretrain")):
            assert {getattr(one, role) for one in asked.values()} == {asked[name].own}
        assert {one.again for one in asked.values()} == {asked["retrain_again"].own}
        score = rows["retrain_again"].score_key
        assert {one.again_score for one in asked.values()} == {score}
        for name, one in asked.items():
            (key,) = one.own
            assert made.jobs[key].inputs["weights"] == rows[name].model_key


def test_a_probe_depends_on_weights_pictures_and_recipe_and_on_no_method() -> None:
    made = plan()
    row = next(row for row in made.results if row.row.name == "ssd")
    job = made.jobs[probes_of(row).own[0]]
    assert set(job.inputs) == {"weights", "index", "cache", "split"}
    assert set(job.spec) == {"model", "recipe"}
    assert set(job.spec["recipe"]) == set(RELEARNING)
    longer = plan(*ASKED, "sweep.training.learning_rate=0.001")
    assert made.jobs[job.key].spec["recipe"]["learning_rate"] == 0.004
    other = next(row for row in longer.results if row.row.name == "ssd")
    assert longer.jobs[probes_of(other).own[0]].spec["recipe"]["learning_rate"] == 0.001


def test_audits_run_afterwards_and_no_method_has_a_way_to_them() -> None:
    made = plan()
    probes = {key for key, job in made.jobs.items() if job.stage == "probe"}
    for job in made.jobs.values():
        assert not probes & set(job.needs), "nothing is computed from a probe but the report"
    for row in made.results:
        if row.row.access is not Access.FULL:
            assert not {made.jobs[key].stage for key in row.model_keys} - {"unlearn", "pretrain"}
            assert not probes & made.needed(row).keys()
            assert probes & made.needed(row, with_chains=True).keys()


def test_without_a_second_retraining_there_is_no_noise_to_compare_with() -> None:
    made = plan("sweep=smoke", "sweep.methods=[ssd]", "sweep.audit.probes=true")
    for row in made.results:
        found = probes_of(row)
        assert found.again == ()
        assert found.again_score is None
        # The models to compare with are probed though nobody shows them as rows.
        assert {made.jobs[key].inputs["weights"] for key in found.retrained} <= {
            key for key, job in made.jobs.items() if job.stage == "retrain"
        }
        assert set(found.keys) == {*found.own, *found.retrained, *found.pretrained}


def test_every_request_has_probes_of_its_own_people() -> None:
    made = plan(*SEVERAL, "sweep.audit.probes=true")
    rows = {row.row.name: probes_of(row) for row in made.results}
    splits = [made.jobs[key].inputs["split"] for key in rows["ssd"].own]
    assert len(set(splits)) == len(splits) == 4
    for name in ("pretrain", "retrain", "retrain_again"):
        assert [made.jobs[key].inputs["split"] for key in rows[name].own] == splits
        assert len({made.jobs[key].inputs["weights"] for key in rows[name].own}) == 1
    assert rows["ssd"].retrained == rows["retrain"].own


def test_a_probe_s_guess_does_not_grow_with_the_dataset() -> None:
    made = plan()
    job = next(job for job in made.jobs.values() if job.stage == "probe")
    assert images_of(job, made.jobs) > 0
    seconds = guess(job, made.jobs, gpu=False)
    larger = plan(*ASKED, "datasets.synthetic_tiny.generate.identities=600")
    other = next(job for job in larger.jobs.values() if job.stage == "probe")
    assert guess(other, larger.jobs, gpu=False) == seconds
    assert guess(job, made.jobs, gpu=True) < seconds
