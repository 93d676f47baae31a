"""What is behind every number, as the page holds it."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import pytest

from sweeps.config import load
from sweeps.graph.plan import Plan, expand
from sweeps.report.tracing import cost_in_words, jobs_behind, packed, row_id, traces
from sweeps.store import Entry


@pytest.fixture(scope="module")
def plan() -> Plan:
    return expand(
        load(
            ["sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.methods=[pretrain,ssd]"]
        ).sweep
    )


def entry(plan: Plan, key: str, **cost: object) -> Entry:
    return Entry(
        stage=plan.jobs[key].stage,
        key=key,
        folder=Path("/nowhere"),
        files={},
        value={"tow": 0.123456789, "fingerprint": "f" * 64},
        content="c" * 64,
        inputs={},
        cost=cost,
    )


def test_every_row_has_its_seeds_and_each_its_jobs_score_first(plan: Plan, tmp_path: Path) -> None:
    row = next(r for r in plan.results if r.row.name == "ssd")
    (tmp_path / f"{row.model_key}.log").touch()
    found = traces(plan, {row.score_key: entry(plan, row.score_key)}, ["tow", "mia_auc"], tmp_path)
    assert set(found["rows"]) == {row_id(r) for r in plan.results}
    own = found["rows"]["synthetic_tiny 4 ssd"]
    assert [seed for seed, *_ in own["seeds"]] == list(
        dict.fromkeys(c.seed for c in plan.sweep.cells)
    )
    _, values, made, places = own["seeds"][0]
    assert values == {"tow": 0.123457}
    assert made == {}
    jobs = [found["jobs"][place] for place in places]
    assert [job[1] for job in jobs] == jobs_behind(row, plan)
    assert (jobs[0][0], jobs[-1][0]) == ("score", "index")
    assert {job[1] for job in jobs if job[7]} == {row.model_key}
    assert (jobs[0][3], jobs[0][5]) == ("c" * 16, "f" * 64)
    assert jobs[1][3:6] == ("", "", "")
    by_name = dict(jobs[0][6])
    assert {found["jobs"][place][1] for place in by_name.values()} == set(
        plan.jobs[row.score_key].needed.values()
    )
    (text,) = own["hyperparameters"]
    assert json.loads(text) == dict(row.row.hyperparameters)


def test_jobs_are_told_once_however_many_rows_share_them(plan: Plan, tmp_path: Path) -> None:
    found = traces(plan, {}, ["tow"], tmp_path / "absent")
    keys = [job[1] for job in found["jobs"]]
    assert len(set(keys)) == len(keys) <= len(plan.jobs)
    told = json.dumps(found)
    assert all(told.count(f'"{key}"') == 1 for key in keys)


def test_what_is_packed_comes_back() -> None:
    found = {"jobs": [["score", "ä</script>"]] * 200, "rows": {}}
    text = packed(found)
    assert json.loads(gzip.decompress(base64.b64decode(text))) == found
    assert len(text) < len(json.dumps(found)) / 10
    assert packed(found) == text


def test_costs_are_for_people(plan: Plan) -> None:
    key = plan.results[0].score_key
    full = entry(
        plan,
        key,
        seconds=12.345,
        method_seconds=2.0,
        peak_bytes=3.0 * 2**30,
        peak_gpu_bytes=0.0,
        started=1.8e9,
        worker="host:1",
        protection="landlock",
    )
    assert cost_in_words(full) == (
        "12.35 s, 2.00 s of them the method's own, 3,072 MiB of memory at most, on host:1, "
        "kept from the data by landlock"
    )
    assert cost_in_words(entry(plan, key)) == "no cost recorded"
