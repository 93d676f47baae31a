"""What the page says of completeness where a job of it is not done."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.result_frames import frame_of, row

from sweeps.config import load
from sweeps.graph.plan import Plan, expand
from sweeps.report.audits import completeness
from sweeps.report.tracing import said_by


@pytest.fixture(scope="module")
def plan() -> Plan:
    asked = [
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny]",
        "sweep.methods=[pretrain,retrain,jit]",
    ]
    return expand(load([*asked, "sweep.audit.completeness=true"]).sweep)


def test_rows_that_are_not_done_are_named(plan: Plan, tmp_path: Path) -> None:
    frame = frame_of([row(one.row.name, one.cell.seed, 0.9) for one in plan.results])
    part = completeness.part(plan, {}, frame.assign(same_forget=float("nan")), tmp_path)
    assert part is not None
    assert not part.tables
    assert not part.files
    (sentence,) = part.sentences
    assert sentence.startswith("synthetic_tiny, ")
    assert sentence.endswith("is not done or has failed: pretrain, retrain, jit.")


def test_a_number_is_traced_to_its_job_before_that_is_done(plan: Plan) -> None:
    (one, *_) = (found for found in plan.results if found.row.name == "jit")
    assert one.completeness_key is not None
    for measure in ("completeness", "zrf", "same_test"):
        assert said_by(one, measure) == (one.completeness_key,)
    # Nobody asked for a pool.
    assert said_by(one, "lira_auc") == (one.score_key,)
    assert said_by(one, "tow") == (one.score_key,)
