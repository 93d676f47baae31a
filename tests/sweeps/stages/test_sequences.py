"""Chains of requests, computed: who is in which split, what a step reads, what is measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support.in_turn import chain_of, row_of, steps_of
from support.inline_sweep import InlineSweep
from support.stage_contexts import changed, context_of, entry_of, identity_of_rows

from oneshui.data.splits import Split
from oneshui.metrics.scores import mean_average_precision
from oneshui.tuning.in_steps import unlearned_in_steps
from sweeps.stages import data
from sweeps.stages.one_shot import unlearned
from sweeps.stages.requests import handed_in_earnest, method_of


def split_at(sweep: InlineSweep, key: str) -> Split:
    document = json.loads((entry_of(sweep, key).folder / "split.json").read_text())
    return Split(**document, identity_of_image=identity_of_rows(sweep))


def drawn(sweep: InlineSweep) -> Split:
    return split_at(sweep, sweep.plan.results[0].split_key)


def test_a_step_reads_the_support_of_those_who_ask_and_no_other(in_turn: InlineSweep) -> None:
    whole = drawn(in_turn)
    for place, key in enumerate(steps_of(in_turn.plan, chain_of(in_turn.plan, "ssd", "4x1"))):
        job = in_turn.plan.jobs[key]
        asked = handed_in_earnest(context_of(in_turn, job, Path()), job.spec["unlearning_seed"])
        support = asked.request().support
        assert support.identities.tolist() == [whole.forget[place]]
        own, model, kit = asked.support, asked.model.weights, asked.prepared
        assert isinstance(own, Path)
        assert set(asked.files) == {own, model, kit}
        assert set(load_file(own)) == {"images", "labels", "identities"}
        previous = entry_of(in_turn, job.inputs["pretrained"])
        assert model.parent == previous.folder
        gone = split_at(in_turn, job.inputs["split"])
        assert not set(whole.forget[:place]) & {*gone.train, *gone.retain, *gone.forget}


def test_a_model_to_compare_with_never_saw_the_forgotten_or_anybody_s_support_picture(
    in_turn: InlineSweep,
) -> None:
    chain = chain_of(in_turn.plan, "ssd", "4x1")
    (key, _) = in_turn.plan.jobs[chain.score_key].series["retrained_weights"]
    whole = drawn(in_turn)
    seen = split_at(in_turn, in_turn.plan.jobs[key].inputs["split"]).images("retain")
    identity = identity_of_rows(in_turn)
    people = {*whole.retain, *whole.forget[2:]}
    expected = {row for row, who in enumerate(identity.tolist()) if who in people}
    assert set(seen.tolist()) == expected - set(whole.support)


def hardness(sweep: InlineSweep) -> dict[int, float]:
    """How many attributes more the pretrained model has right of each person, on average."""
    found = {}
    tables = []
    for name in ("pretrain", "retrain"):
        key = row_of(sweep.plan, name).evaluate_key
        tables.append(pd.read_parquet(entry_of(sweep, key).folder / "predictions.parquet"))
    for person in drawn(sweep).forget:
        shares = []
        for table in tables:
            own = table[(table["set"] == "forget") & (table["identity"] == person)]
            right = (np.stack(own["logits"].to_list()) > 0) == (
                np.stack(own["label"].to_list()) > 0
            )
            shares.append(right.mean())
        found[person] = float(shares[0] - shares[1])
    return found


def test_the_hardest_are_those_of_whom_most_is_to_be_forgotten(
    in_turn: InlineSweep, tmp_path: Path
) -> None:
    gaps = hardness(in_turn)
    assert len(set(gaps.values())) == 4, "otherwise this tells nothing"
    steps = steps_of(in_turn.plan, chain_of(in_turn.plan, "ssd", "4x1", "hardest"))
    splits = [in_turn.plan.jobs[in_turn.plan.jobs[key].inputs["split"]] for key in steps]
    asked = [tuple(split_at(in_turn, job.key).forget) for job in splits]
    assert asked == [(person,) for person in sorted(gaps, key=lambda one: -gaps[one])]
    for job, hardest in zip(splits, reversed(asked), strict=True):
        easiest = changed(job, order="easiest")
        data.split(context_of(in_turn, easiest, tmp_path))
        assert json.loads((tmp_path / "split.json").read_text())["forget"] == list(hardest)


def table_of(sweep: InlineSweep, key: str) -> pd.DataFrame:
    return pd.read_parquet(entry_of(sweep, key).folder / "predictions.parquet")


def mean_ap(table: pd.DataFrame, chosen: pd.Series[bool]) -> float:
    part = table[chosen]
    return mean_average_precision(
        np.stack(part["logits"].to_list()), np.stack(part["label"].to_list())
    )


def test_every_measure_is_what_the_predictions_say_at_its_time(in_turn: InlineSweep) -> None:
    chain = chain_of(in_turn.plan, "gradient_ascent", "4x1")
    series = in_turn.plan.jobs[chain.score_key].series
    value: Mapping[str, Any] = entry_of(in_turn, chain.score_key).value
    whole = drawn(in_turn)
    pretrained = table_of(in_turn, row_of(in_turn.plan, "pretrain").evaluate_key)
    assert value["times"] == [2, 4]
    scores: dict[tuple[int, str, str], float] = {}
    for place, time in enumerate(value["times"]):
        gone = set(whole.forget[:time])
        for who, table in (
            ("own", table_of(in_turn, series["predictions"][place])),
            ("retrained", table_of(in_turn, series["retrained"][place])),
            ("pretrained", pretrained),
        ):
            forgotten = (table["set"] == "forget") & table["identity"].isin(gone)
            later = (table["set"] == "forget") & ~forgotten
            scores[time, who, "forget"] = mean_ap(table, forgotten)
            scores[time, who, "retain"] = mean_ap(table, (table["set"] == "retain") | later)
            first = (table["set"] == "forget") & table["identity"].isin(whole.forget[:2])
            scores[time, who, "first"] = mean_ap(table, first)
            for name in ("test", "val"):
                scores[time, who, name] = mean_ap(table, table["set"] == name)
    for place, time in enumerate(value["times"]):
        for name, who in (("tow", "own"), ("tow_nothing", "pretrained")):
            gaps = [
                scores[time, who, part] - scores[time, "retrained", part]
                for part in ("retain", "forget", "test")
            ]
            expected = math.prod(1 - abs(gap) for gap in gaps)
            assert value[name][place] == pytest.approx(expected), (name, time)
        for name, part in (("erosion", "retain"), ("erosion_test", "test"), ("erosion_val", "val")):
            expected = scores[time, "retrained", part] - scores[time, "own", part]
            assert value[name][place] == pytest.approx(expected), (name, time)
        goal = min(scores[time, who, "retain"] for who in ("retrained", "pretrained"))
        assert value["retain_lost"][place] == pytest.approx(goal - scores[time, "own", "retain"])
    back = scores[4, "own", "first"] - scores[2, "own", "first"]
    known = scores[4, "pretrained", "first"] - scores[4, "retrained", "first"]
    share = back / known if known >= 0.01 else None
    assert value["reversal"] == [[None if share is None else pytest.approx(share)]]
    assert value["drift"][0] > 0


def test_at_the_end_a_chain_is_measured_as_the_ordinary_rows_are(in_turn: InlineSweep) -> None:
    ordinary = {
        row.row.name: entry_of(in_turn, row.score_key).value for row in in_turn.plan.results
    }
    for name in ("gradient_ascent", "ssd"):
        value = entry_of(in_turn, chain_of(in_turn.plan, name, "1x4", None).score_key).value
        assert value["times"] == [4]
        assert value["tow"] == pytest.approx([ordinary[name]["tow"]])
        assert value["tow_nothing"] == pytest.approx([ordinary["pretrain"]["tow"]])
        assert value["noise_floor"] == pytest.approx(1 - ordinary["retrain_again"]["tow"])
        assert value["mia_first"] == pytest.approx(ordinary[name]["mia_auc"])
        assert value["mia_first_retrained"] == pytest.approx(ordinary["retrain"]["mia_auc"])
        assert value["reversal"] == []
        assert value["survived"] in (0, 4)


def test_models_on_the_way_are_not_shown_views_for_an_attack_that_they_are_spared(
    in_turn: InlineSweep,
) -> None:
    chain = chain_of(in_turn.plan, "ssd", "4x1")
    (first, *_) = in_turn.plan.jobs[chain.score_key].series["predictions"]
    ordinary = entry_of(in_turn, row_of(in_turn.plan, "ssd").evaluate_key)
    assert "views.parquet" in ordinary.files
    assert set(entry_of(in_turn, first).files) == set(ordinary.files) - {"views.parquet"}


def test_a_request_in_steps_is_served_so_behind_the_walls(
    in_turn: InlineSweep, tmp_path: Path
) -> None:
    job = in_turn.plan.jobs[row_of(in_turn.plan, "gradient_ascent").model_key]
    context = context_of(in_turn, changed(job, in_steps_of=2), tmp_path)
    method, asked = method_of(context), handed_in_earnest(context, 0)
    (state,) = unlearned(context, method, [asked])
    assert isinstance(state, dict)
    by_hand = unlearned_in_steps(method, asked.request(), 2).state_dict()
    at_once = method.unlearn(asked.request()).state_dict()
    assert all(torch.equal(state[name], by_hand[name]) for name in by_hand)
    assert not all(torch.equal(state[name], at_once[name]) for name in at_once)
