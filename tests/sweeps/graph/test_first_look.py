"""What is shown first: the first cell's rows as they are given, if any of them competes."""

from __future__ import annotations

import pytest

from sweeps.config import load
from sweeps.graph.first_look import first_look
from sweeps.graph.plan import Plan, expand


def planned(*overrides: str) -> Plan:
    return expand(load(["sweep=demo", "scale=toy", *overrides]).sweep)


def shown(plan: Plan) -> list[tuple[int, str]]:
    return [(row.cell.seed, row.row.name) for row in first_look(plan)]


METHODS = "sweep.methods=[pretrain,retrain,jit,ssd,finetune]"


def test_rows_that_a_study_serves_are_not_waited_for() -> None:
    plan = planned(METHODS, "sweep.seeds=[3,4]", "sweep.tuning.rows=[ssd]")
    assert shown(plan) == [(3, name) for name in ("pretrain", "retrain", "jit", "finetune")]
    stages = {plan.jobs[key].stage for row in first_look(plan) for key in plan.needed(row)}
    assert not stages & {"simulate", "trial", "choose"}


def test_of_one_seed_it_is_shown_before_the_studies_too() -> None:
    plan = planned(METHODS, "sweep.seeds=[0]", "sweep.tuning.rows=[ssd]")
    assert len(shown(plan)) == 4


def test_where_every_method_that_competes_is_tuned_the_whole_seed_comes_first() -> None:
    plan = planned(METHODS, "sweep.seeds=[0,1]", "sweep.tuning.rows=[jit,ssd]")
    assert [seed for seed, _ in shown(plan)] == [0] * 5


@pytest.mark.parametrize("profile", ["paper", "tuned"])
def test_the_whole_sweep_is_no_first_look(profile: str) -> None:
    every = "sweep.tuning.rows=[jit,ssd]"
    assert not shown(planned(METHODS, "sweep.seeds=[0]", f"profile={profile}", every))
