"""What the report makes of a row that stands for several requests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference.analyses import cosine_distance
from safetensors.numpy import load_file
from support.inline_sweep import InlineSweep
from support.several_requests import REQUESTS, row_of, split_stored

from sweeps.cli.why import explanation
from sweeps.graph.artifacts import FEATURES, PER_IDENTITY
from sweeps.report import analyses, provenance
from sweeps.report.results import is_complete, results_frame, row_values
from sweeps.store import Entry
from sweeps.store.status import scan


@pytest.fixture(scope="module")
def entries(several: InlineSweep) -> dict[str, Entry]:
    return dict(scan(several.plan, several.store, discard=False).entries)


def test_a_row_s_costs_are_those_of_one_request(
    several: InlineSweep, entries: dict[str, Entry]
) -> None:
    row = row_of(several, "ssd")
    for number, key in enumerate(row.model_keys):
        cost = {"method_seconds": 1.0 + number, "peak_bytes": 100.0 - number, "protection": "p"}
        entries[key] = dataclasses.replace(entries[key], cost=cost)
    values = row_values(row, entries)
    assert values["unlearn_seconds"] == 1.0 + (REQUESTS - 1) / 2
    assert values["unlearn_peak_bytes"] == 100.0
    assert values["protection"] == "p"
    assert values["prepare_seconds"] == entries[row.prepare_key or ""].cost["method_seconds"]
    assert values["task"] == "multilabel"


def test_a_row_says_for_how_many_requests_it_stands(
    several: InlineSweep, entries: dict[str, Entry]
) -> None:
    frame = results_frame(several.plan, entries)
    assert frame["requests"].tolist() == [REQUESTS] * len(several.plan.results)
    assert frame["num_forget"].tolist() == [1] * len(several.plan.results)
    assert frame[["tow", "forget_margin", "forget_margin_gap"]].notna().all(axis=None)


@pytest.mark.parametrize("number", range(REQUESTS))
def test_a_row_is_complete_with_all_its_models(
    several: InlineSweep, entries: dict[str, Entry], number: int
) -> None:
    row = row_of(several, "ssd")
    assert is_complete(row, entries)
    without = {key: entry for key, entry in entries.items() if key != row.model_keys[number]}
    assert not is_complete(row, without)


def test_the_cell_s_split_is_that_of_everybody_who_asks(
    several: InlineSweep, entries: dict[str, Entry]
) -> None:
    (told,) = provenance.splits(several.plan, entries)
    drawn = entries[row_of(several, "ssd").split_key]
    assert told.fingerprint == drawn.value["fingerprint"]
    assert f"{REQUESTS} support" in told.images


def test_distances_to_the_forgotten_are_means_over_the_requests(
    several: InlineSweep, entries: dict[str, Entry], tmp_path: Path
) -> None:
    tables = analyses.write(several.plan, entries, tmp_path)
    row = row_of(several, "ssd")
    pretrained = several.plan.jobs[row.score_key].inputs["pretrained"]
    stored = load_file(entries[pretrained].file(FEATURES))
    centre = {
        person: stored["train.features"][stored["train.identities"] == person].mean(0).tolist()
        for person in set(stored["train.identities"].tolist())
    }
    asking = split_stored(several, row_of(several, "retrain").model_key)["forget"]
    points: Any = tables["retain_drop.csv"]
    for name in ("ssd", "retrain"):
        own = points[points["method"] == name]
        assert set(own["identity"]) == centre.keys() - {*asking}
        for who, distance in zip(own["identity"], own["distance"], strict=True):
            each = [cosine_distance(centre[who], centre[other]) for other in asking]
            assert distance == pytest.approx(np.mean(each), abs=1e-6)
    people = tables[PER_IDENTITY]
    assert people[people["method"] == "ssd"]["identity"].tolist() == asking


def test_why_names_the_jobs_of_every_request(
    several: InlineSweep, entries: dict[str, Entry], tmp_path: Path
) -> None:
    text = "\n".join(
        explanation("synthetic_tiny 1 ssd tow", several.plan, entries, tmp_path, ["sweep=smoke"])
    )
    assert f"each seed stands for {REQUESTS} requests, measured as one" in text
    row = row_of(several, "ssd")
    for key in (*row.model_keys, *row.evaluate_keys, row.split_key):
        assert f"{several.plan.jobs[key].stage}/{key}" in text
