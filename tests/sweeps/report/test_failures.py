from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeps.config import load
from sweeps.graph.plan import Plan, expand
from sweeps.report.failures import Cause, group_failures, smallest_command
from sweeps.schedule.failure import Failure

COMMAND = ("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "cluster.workers=2")


def plan_of(overrides: Sequence[str]) -> Plan:
    return expand(load(overrides).sweep)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(COMMAND)


def test_failures_that_differ_in_numbers_and_paths_have_one_cause(plan: Plan) -> None:
    keys = [row.model_key for row in plan.results if row.row.name == "ssd"]
    other = plan.results[0].evaluate_key
    failures = {
        other: Failure(kind="memory", message="out of memory"),
        keys[0]: Failure(kind="numerical", message="loss is 1e30 in /tmp/a/b at step 3"),
        keys[1]: Failure(kind="numerical", message="loss is 2e31 in /tmp/c/d at step 17"),
    }
    first, second = group_failures(
        plan, failures, (), logs=Path("logs"), command=lambda key: f"again {key}"
    )
    assert first.count == 2
    assert first.labels == tuple(plan.jobs[key].label for key in keys)
    assert first.log == Path("logs") / f"{keys[0]}.log"
    assert first.command == f"again {keys[0]}"
    assert second.cause == "out of memory"
    assert "and 1 more jobs" in first.lines()[0]


def test_equal_messages_of_another_class_or_stage_are_another_cause(plan: Plan) -> None:
    unlearn = next(row.model_key for row in plan.results if row.row.name == "ssd")
    evaluate = plan.results[0].evaluate_key
    message = Failure(kind="error", message="broken")
    failures = {unlearn: message, evaluate: message}
    causes = group_failures(plan, failures, (), logs=Path("logs"), command=lambda key: key)
    assert len(causes) == 2


def test_what_waits_for_a_failure_is_counted_with_it(plan: Plan) -> None:
    row = next(row for row in plan.results if row.row.name == "ssd")
    failures = {row.model_key: Failure(kind="error", message="broken")}
    (cause,) = group_failures(
        plan,
        failures,
        (row.evaluate_key, row.score_key),
        logs=Path("logs"),
        command=lambda key: key,
    )
    assert cause.blocked == 2


@pytest.mark.parametrize("name", ["ssd", "metaunlearn", "scrub"])
def test_the_smallest_command_plans_that_very_job_and_little_else(plan: Plan, name: str) -> None:
    row = [row for row in plan.results if row.row.name == name][-1]
    for key in (row.model_key, row.score_key):
        command = smallest_command(plan, key, COMMAND, plan_of)
        words = shlex.split(command)
        assert words[:2] == ["python", "launch.py"]
        assert "cluster.workers=2" in words
        small = plan_of(words[2:])
        assert key in small.jobs
        assert len(small.jobs) < len(plan.jobs)


def test_the_smallest_command_of_a_study_keeps_whom_the_other_cells_forget() -> None:
    tuned = ("profile=tuned", "tuning.rows=[ssd]", "tuning.trials=2")
    command = (*COMMAND, *tuned, "sweep.forget_sizes=[4,3]")
    plan = plan_of(command)
    (study, _) = plan.studies
    for key in (study.trials[1], study.choices["support_only"]):
        words = shlex.split(smallest_command(plan, key, command, plan_of))
        assert "sweep.forget_sizes=[4,3]" in words
        small = plan_of(words[2:])
        assert key in small.jobs
        assert len(small.jobs) < len(plan.jobs)
    # What no study has a part in needs no other size.
    plain = next(row for row in plan.results if row.row.name == "jit")
    assert "sweep.forget_sizes=[4]" in smallest_command(plan, plain.model_key, command, plan_of)


def test_a_job_that_every_row_shares_is_repeated_by_one_row(plan: Plan) -> None:
    index = next(key for key, job in plan.jobs.items() if job.stage == "cache")
    small = plan_of(shlex.split(smallest_command(plan, index, COMMAND, plan_of))[2:])
    assert index in small.jobs
    assert len(small.results) == 1


@pytest.mark.parametrize("planned", [True, False])
def test_the_smallest_command_writes_elsewhere_than_the_sweep(plan: Plan, planned: bool) -> None:
    key = plan.results[0].model_key if planned else "nothing of this plan"
    typed = [*COMMAND, "output_dir=here", "mode=report"]
    places = ("output_dir=there", "store.uri=here/store")
    words = shlex.split(smallest_command(plan, key, typed, plan_of, places))
    assert {"output_dir=there", "store.uri=here/store"} <= set(words)
    assert not {"output_dir=here", "mode=report"} & set(words)
    assert "sweep=smoke" in words


def test_a_cause_is_told_in_three_lines() -> None:
    cause = Cause(
        cause="broken",
        labels=("first", "second", "third"),
        blocked=4,
        command="python launch.py x",
        log=Path("logs/abc.log"),
    )
    assert cause.lines() == [
        "failed: first and 2 more jobs: broken; 4 jobs wait for it",
        "        again: python launch.py x",
        "        log logs/abc.log",
    ]
    alone = dataclasses.replace(cause, labels=("first",), blocked=0)
    assert alone.lines()[0] == "failed: first: broken"


def test_the_most_frequent_cause_comes_first_and_only_blocked_jobs_count(plan: Plan) -> None:
    ssd = [row for row in plan.results if row.row.name == "ssd"]
    other = next(row for row in plan.results if row.row.name == "metaunlearn")
    failures = {other.model_key: Failure(kind="error", message="rare")}
    failures |= {row.model_key: Failure(kind="error", message="common at step 7") for row in ssd}
    first, second = group_failures(
        plan,
        failures,
        (ssd[0].score_key, plan.results[0].score_key),
        logs=Path("logs"),
        command=lambda key: key,
    )
    assert (first.cause, first.count, first.blocked) == ("common at step 7", len(ssd), 1)
    assert (second.cause, second.count, second.blocked) == ("rare", 1, 0)
