from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.graph.job import (
    CHECKPOINTED,
    PICTURES,
    STAGE_VERSION,
    STAGES,
    Job,
    canonical,
    canonical_json,
    digest,
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def make(spec: dict[str, Any], stage: str = "split", **inputs: str) -> Job:
    return Job(stage=stage, spec=spec, inputs=inputs, label="a label")  # type: ignore[arg-type]


@given(st.dictionaries(st.text(), values, max_size=5))
def test_a_job_survives_its_json_with_its_key(spec: dict[str, Any]) -> None:
    job = make(spec)
    assert Job.from_json(job.to_json()) == job
    assert len(job.key) == 16


@given(st.dictionaries(st.text(), values, min_size=2, max_size=5))
def test_the_order_of_fields_does_not_matter(spec: dict[str, Any]) -> None:
    assert make(spec).key == make(dict(reversed(spec.items()))).key


@given(values, values)
def test_unequal_values_have_unequal_keys(one: Any, other: Any) -> None:
    same = canonical_json(one) == canonical_json(other)
    assert (make({"v": one}).key == make({"v": other}).key) == same


def test_keys_tell_apart_what_must_be_told_apart() -> None:
    jobs = [
        make({"a": 1}),
        make({"b": 1}),
        make({"a": "1"}),
        make({"a": True}),
        make({"a": 1.5}),
        make({"a": [1]}),
        make({"a": 1}, stage="index"),
        make({"a": 1}, index="0123"),
        make({"a": 1}, cache="0123"),
        make({"ab": "c"}),
        make({"a": "bc"}),
    ]
    assert len({job.key for job in jobs}) == len(jobs)


def test_the_same_number_has_one_key() -> None:
    assert make({"a": 1.0}).key == make({"a": 1}).key
    assert make({"a": (1, 2)}).key == make({"a": [1, 2]}).key


def test_the_label_is_not_part_of_the_identity() -> None:
    one = Job(stage="split", spec={}, inputs={}, label="one")
    other = Job(stage="split", spec={}, inputs={}, label="other")
    assert one == other
    assert one.key == other.key


def test_golden_key() -> None:
    """Fails when the way of making keys changes: every result on people's disks would be lost."""
    assert STAGE_VERSION["split"] == 1
    assert make({"num_forget": 20, "split_seed": 0}, index="0" * 16).key == "76983a577824e8ee"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="identity"):
        canonical({"a": [bad]})


@pytest.mark.parametrize("bad", [object(), {1, 2}, b"bytes", {1: "key"}])
def test_types_without_a_canonical_form_are_refused(bad: object) -> None:
    with pytest.raises(TypeError, match="identity"):
        canonical(bad)


def test_a_tampered_document_is_refused() -> None:
    document = {**make({"a": 1}).to_json(), "spec": {"a": 2}}
    with pytest.raises(ValueError, match="carries key"):
        Job.from_json(document)


def test_every_stage_has_a_version() -> None:
    assert set(STAGE_VERSION) == set(STAGES)


def test_no_stage_s_version_goes_back() -> None:
    reached = {"pretrain": 2, "retrain": 2, "unlearn": 2, "evaluate": 2, "score": 5, "lira": 2}
    for stage in STAGES:
        assert STAGE_VERSION[stage] >= reached.get(stage, 1), stage


def test_another_version_is_another_job() -> None:
    before = make({"a": 1})
    after = dataclasses.replace(before, version=5)
    assert after.key != before.key
    assert after.key_at(STAGE_VERSION["split"], {}) == before.key
    assert Job.from_json(after.to_json()) == after


def chosen(*trials: str, **inputs: str) -> Job:
    return Job(stage="choose", spec={}, inputs=inputs, series={"trials": trials}, label="choose")


def test_the_members_of_a_series_and_their_order_are_part_of_the_key() -> None:
    jobs = [chosen(), chosen("a"), chosen("a", "b"), chosen("b", "a"), chosen("a", "b", split="a")]
    assert len({job.key for job in jobs}) == len(jobs)


def test_a_job_needs_its_inputs_and_every_member_of_its_series() -> None:
    job = chosen("a", "b", "a", split="c", index="b")
    assert job.needed == {
        "split": "c",
        "index": "b",
        "trials[0]": "a",
        "trials[1]": "b",
        "trials[2]": "a",
    }
    assert job.needs == ("c", "b", "a")


def test_an_earlier_key_is_that_of_the_inputs_and_series_of_then() -> None:
    today = chosen("a", "b", split="c")
    assert today.key_at(1, {}) == today.key
    assert today.key_at(1, {"b": "old"}) == chosen("a", "old", split="c").key
    assert today.key_at(1, {"c": "old"}) == chosen("a", "b", split="old").key
    assert today.key_at(2, {}) != today.key


def test_pictures_can_be_reached_from_what_lists_them_and_what_holds_them() -> None:
    assert set(PICTURES) == {"index", "cache", "crops"}


def test_jobs_that_may_take_long_keep_checkpoints() -> None:
    assert set(CHECKPOINTED) == {"pretrain", "retrain", "prepare"}


@pytest.mark.parametrize("name", ["source", "content"])
def test_the_first_half_of_a_key_stays_when_code_or_files_change(name: str) -> None:
    keys = [make({"alpha": 1.0, name: value}).key for value in ("0" * 16, "1" * 16)]
    assert keys[0] != keys[1]
    assert keys[0][:8] == keys[1][:8]
    other = make({"alpha": 2.0, name: "0" * 16}).key
    assert other[:8] != keys[0][:8]
    # Without such fields a key is the beginning of one sha256.
    plain = make({"alpha": 1.0})
    assert plain.key == digest(plain.identity)[:16]
    assert plain.key[:8] == keys[0][:8]
