"""A cell whose four people ask one after the other, with everything that a chain can have."""

from __future__ import annotations

from pathlib import Path

from support.inline_sweep import InlineSweep, inline_sweep

from sweeps.graph.plan import Plan, ResultRow
from sweeps.graph.sequence import Chain

IN_TURN = (
    "sweep=sequence",
    "scale=toy",
    "profile=paper",
    "sweep.sequence.people_per_request=[1,2]",
    "sweep.sequence.orders=[0,hardest]",
    "sweep.sequence.references=[2]",
    "sweep.methods=[pretrain,retrain,retrain_again,gradient_ascent,ssd]",
    "sweep.rows.gradient_ascent.learning_rate=0.05",
)


def people_in_turn(folder: Path) -> InlineSweep:
    made = inline_sweep(folder, *IN_TURN)
    assert not made.scheduler.failures()
    return made


def row_of(plan: Plan, name: str) -> ResultRow:
    (found,) = [row for row in plan.results if row.row.name == name]
    return found


def chain_of(
    plan: Plan, name: str, schedule: str, order: object = 0, *, keeps: bool = False
) -> Chain:
    (found,) = [
        chain
        for chain in row_of(plan, name).chains
        if (chain.schedule, chain.order, chain.keeps_support) == (schedule, order, keeps)
    ]
    return found


def steps_of(plan: Plan, chain: Chain) -> list[str]:
    """Keys of a chain's unlearn jobs, the first request's first."""
    key, found = plan.jobs[chain.score_key].series["weights"][-1], list[str]()
    while plan.jobs[key].stage == "unlearn":
        found.insert(0, key)
        key = plan.jobs[key].inputs["pretrained"]
    return found
