"""Four requests of one person each, measured as one, against the stored predictions of each."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reference.ap import average_precision
from reference.auc import auc
from safetensors.torch import load_file
from support.inline_sweep import InlineSweep
from support.several_requests import (
    REQUESTS,
    row_of,
    several_requests,
    split_stored,
    stored,
)
from support.stage_contexts import entry_of, identity_of_rows, jobs_of, rows_of

ATTRIBUTES = 40


def mean_ap(rows: pd.DataFrame) -> float:
    logits, labels = (np.stack(rows[name].to_list()) for name in ("logits", "label"))
    found = [
        average_precision(logits[:, c].tolist(), labels[:, c].tolist()) for c in range(ATTRIBUTES)
    ]
    return float(np.mean([value for value in found if not math.isnan(value)]))


def predictions(sweep: InlineSweep, name: str) -> list[pd.DataFrame]:
    """Of every request's model."""
    return [stored(sweep, key, "predictions") for key in row_of(sweep, name).evaluate_keys]


def test_requests_are_disjoint_and_together_the_drawing(several: InlineSweep) -> None:
    row = row_of(several, "ssd")
    (drawn,) = (split_stored(several, key) for key in row_of(several, "retrain").model_keys)
    requests = [split_stored(several, key) for key in row.model_keys]
    assert [document["forget"] for document in requests] == [[who] for who in drawn["forget"]]
    assert [document["support"] for document in requests] == [[row] for row in drawn["support"]]
    assert len({*drawn["forget"]}) == REQUESTS
    identities = identity_of_rows(several)
    for document in requests:
        for name in ("retain", "val", "test"):
            assert document[name] == drawn[name]
        # Nobody is retained of whom the retrained model knows nothing.
        assert not {*drawn["forget"]} & {*document["retain"]}
        assert sorted(document["train"]) == sorted(document["forget"] + document["retain"])
        assert (identities == document["forget"][0]).sum() >= 6


def test_each_request_is_asked_with_its_own_person_s_picture(several: InlineSweep) -> None:
    (drawn,) = jobs_of(several, "split", num_forget=REQUESTS)
    everybody = load_file(entry_of(several, drawn.key).folder / "support.safetensors")
    for number, key in enumerate(row_of(several, "ssd").model_keys):
        split = several.plan.jobs[several.plan.jobs[key].inputs["split"]]
        entry = entry_of(several, split.key)
        own = load_file(entry.folder / "support.safetensors")
        assert own.keys() == everybody.keys() == {"images", "labels", "identities"}
        for name, tensor in own.items():
            assert tensor.equal(everybody[name][number : number + 1]), name
        assert entry.value["num_identities"]["forget"] == 1


def test_the_forgotten_are_scored_together_and_others_by_every_model(several: InlineSweep) -> None:
    row, requests = row_of(several, "ssd"), predictions(several, "ssd")
    value = entry_of(several, row.score_key).value
    for name in ("forget", "support"):
        rows = pd.concat([part[part["set"] == name] for part in requests])
        assert value[f"{name}_score"] == pytest.approx(mean_ap(rows))
        assert value[f"{name}_loss"] == pytest.approx(rows["loss"].mean(), rel=1e-5)
    for name in ("retain", "test", "val"):
        each = [part[part["set"] == name] for part in requests]
        assert value[f"{name}_score"] == pytest.approx(np.mean([mean_ap(rows) for rows in each]))
        losses = [rows["loss"].mean() for rows in each]
        assert value[f"{name}_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
        assert len({mean_ap(rows) for rows in each}) == REQUESTS
    # One person by himself lacks most attributes.
    alone = requests[0][requests[0]["set"] == "forget"]
    one = (np.stack(alone["label"].to_list()).sum(axis=0) > 0).sum()
    assert value["num_attributes"] > one
    distances = [entry_of(several, key).value["weight_distance"] for key in row.evaluate_keys]
    assert value["weight_distance"] == pytest.approx(np.mean(distances))


def test_retraining_and_doing_nothing_are_scored_on_the_same_people(several: InlineSweep) -> None:
    forgotten = [
        {int(image) for part in predictions(several, name) for image in part["image"]}
        for name in ("ssd", "retrain", "retrain_again", "pretrain")
    ]
    assert forgotten[0] == forgotten[1] == forgotten[2] == forgotten[3]
    retrained = entry_of(several, row_of(several, "retrain").score_key).value
    value = entry_of(several, row_of(several, "ssd").score_key).value
    for name in ("retain", "forget", "test"):
        gap = value[f"{name}_score"] - retrained[f"{name}_score"]
        assert value[f"{name}_gap"] == pytest.approx(gap)
    assert value["forget_loss_gap"] == pytest.approx(
        value["forget_loss"] - retrained["forget_loss"]
    )
    assert retrained["forget_margin_gap"] == retrained["forget_loss_gap"] == 0.0


def test_an_attack_compares_images_under_one_model_only(several: InlineSweep) -> None:
    row = row_of(several, "ssd")
    found = []
    for part in predictions(several, "ssd"):
        own, others = ((-part.loc[part["set"] == n, "loss"]).tolist() for n in ("forget", "test"))
        found.append((auc(own, others), len(own)))
    expected = sum(area * images for area, images in found) / sum(images for _, images in found)
    value = entry_of(several, row.score_key).value
    assert value["mia_threshold_auc"] == pytest.approx(expected)
    assert 0 <= value["rmia_auc"] <= 1
    # The retrained model; in the second column also the request's own copy of it.
    assert value["rmia_references"] == 1
    assert 0 <= value["rmia_copies_auc"] <= 1
    assert (value["forget_people"], value["forget_images"]) == (4, sum(n for _, n in found))
    drawn = stored(several, row.score_key, "people")
    assert drawn["rmia_auc"].between(0, 1).all()
    assert drawn["tow"].mean() == pytest.approx(value["tow"], abs=0.1)
    curve = stored(several, row.score_key, "roc")
    assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(value["rmia_auc"], abs=0.1)


def test_people_and_attributes_are_told_of_all_requests(several: InlineSweep) -> None:
    row, requests = row_of(several, "ssd"), predictions(several, "ssd")
    people = stored(several, row.score_key, "per_identity")
    drawn = split_stored(several, row_of(several, "retrain").model_key)
    assert people["identity"].tolist() == drawn["forget"]
    for line, part in zip(people.to_dict("records"), requests, strict=True):
        own = part[part["set"] == "forget"]
        assert own["identity"].unique().tolist() == [line["identity"]]
        right = [(z > 0) == (y > 0) for z, y in zip(own["logits"], own["label"], strict=True)]
        assert line["score"] == pytest.approx(np.mean(right))
        assert line["loss"] == pytest.approx(own["loss"].mean(), rel=1e-5)
    assert people["membership"].between(0, 1).all()

    retain = stored(several, row.score_key, "retain").set_index("identity")
    who = retain.index[0]
    shares = []
    for part in requests:
        own = part[(part["set"] == "retain") & (part["identity"] == who)]
        shares.append(
            np.mean([(z > 0) == (y > 0) for z, y in zip(own["logits"], own["label"], strict=True)])
        )
    assert retain.loc[who, "score"] == pytest.approx(np.mean(shares))
    assert set(retain.index) == {*drawn["retain"]}

    attributes = stored(several, row.score_key, "attributes")
    assert len(attributes) == 5 * ATTRIBUTES
    forget = attributes[attributes["set"] == "forget"]
    assert forget["average_precision"].mean() == pytest.approx(
        entry_of(several, row.score_key).value["forget_score"]
    )
    assert forget["positives"].sum() == sum(
        np.stack(part.loc[part["set"] == "forget", "label"].to_list()).sum() for part in requests
    )


def test_full_access_s_retain_set_is_what_the_retrained_model_was_trained_on(
    several: InlineSweep,
) -> None:
    drawn = split_stored(several, row_of(several, "retrain").model_key)
    of_request = split_stored(several, row_of(several, "ssd").model_keys[-1])
    assert rows_of(several, drawn, "retain") == rows_of(several, of_request, "retain")


def test_everything_computed_anew_is_the_same(several: InlineSweep, tmp_path: Path) -> None:
    again = several_requests(tmp_path, fresh=True)
    for key, job in again.plan.jobs.items():
        assert entry_of(again, key).content == entry_of(several, key).content, job.label
