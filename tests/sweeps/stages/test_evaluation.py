"""What is predicted and attacked of a model, and how a score's tables follow from it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support.inline_sweep import InlineSweep
from support.stage_contexts import (
    changed,
    context_of,
    entry_of,
    images_of,
    jobs_of,
    rows_of,
    split_document,
)

from oneshui.attacks import membership, views
from oneshui.spec import ModelSpec
from oneshui.training.models import make_model
from sweeps.graph.job import Job
from sweeps.graph.plan import ResultRow
from sweeps.stages import evaluation


def row_of(cells: InlineSweep, name: str, cell: int) -> ResultRow:
    (found,) = [row for row in cells.plan.results if row.row.name == name and row.cell.seed == cell]
    return found


def evaluation_of(cells: InlineSweep, name: str, cell: int) -> Job:
    return cells.plan.jobs[row_of(cells, name, cell).evaluate_key]


@pytest.mark.parametrize("cell", [0, 1])
def test_all_models_of_a_cell_are_attacked_on_the_same_pictures(
    cells: InlineSweep, draft: Path, monkeypatch: pytest.MonkeyPatch, cell: int
) -> None:
    asked: dict[str, Any] = {}
    real = views.predict_views

    def predict_views(model: Any, sets: Any, **further: Any) -> pd.DataFrame:
        asked.update(sets=sets, **further)
        return real(model, sets, **further)

    monkeypatch.setattr(views, "predict_views", predict_views)
    job = changed(evaluation_of(cells, "retrain", cell), views=3, features=False)
    evaluation.evaluate(context_of(cells, job, draft))
    assert asked["views"] == 3
    assert asked["seed"] == cell
    document = split_document(cells, job)
    for name in ("forget", "test", "val"):
        assert asked["sets"][name].rows.tolist() == rows_of(cells, document, name)
    retain, all_of_it = asked["sets"]["retain"].rows.tolist(), rows_of(cells, document, "retain")
    assert len(retain) == len(rows_of(cells, document, "test")) < len(all_of_it)
    assert set(retain) < set(all_of_it)
    drawn = views.sample(images_of(cells, document, "retain"), len(retain), cell)
    assert retain == drawn.rows.tolist()
    stored = pd.read_parquet(draft / "predictions.parquet")
    for name in ("retain", "forget", "test", "val", "support"):
        rows = stored.loc[stored["set"] == name, "image"].tolist()
        assert rows == rows_of(cells, document, name), name
    assert not (draft / "features.safetensors").exists()


def test_the_weights_distance_is_that_to_the_retrained_ones(cells: InlineSweep) -> None:
    job = evaluation_of(cells, "pretrain", 0)
    files = [
        load_file(entry_of(cells, job.inputs[role]).folder / "weights.safetensors")
        for role in ("weights", "retrained_weights")
    ]
    way = length = 0.0
    for name, value in files[0].items():
        way += float((value.double() - files[1][name].double()).square().sum())
        length += float(files[1][name].double().square().sum())
    expected = pytest.approx(math.sqrt(way / length), rel=1e-6)
    assert entry_of(cells, job.key).value["weight_distance"] == expected
    itself = evaluation_of(cells, "retrain", 0)
    assert entry_of(cells, itself.key).value["weight_distance"] == 0.0


def test_features_are_what_enters_the_pretrained_model_s_classifier(cells: InlineSweep) -> None:
    job = evaluation_of(cells, "pretrain", 0)
    stored = load_file(entry_of(cells, job.key).folder / "features.safetensors")
    document = split_document(cells, job)
    spec = ModelSpec(**job.spec["model"])
    model: Any = make_model(spec, images_of(cells, document, "support").labels.shape[1], 0)
    model.load_state_dict(
        load_file(entry_of(cells, job.inputs["weights"]).folder / "weights.safetensors")
    )
    for name in ("train", "support"):
        data = images_of(cells, document, name)
        with torch.no_grad():
            maps = model.eval().forward_features(data.inputs())
            expected = model.forward_head(maps, pre_logits=True)
        assert torch.allclose(stored[f"{name}.features"], expected, atol=1e-4)
        assert stored[f"{name}.images"].tolist() == data.rows.tolist()
        assert stored[f"{name}.identities"].tolist() == data.identities.tolist()


@pytest.mark.parametrize("cell", [0, 1])
def test_a_score_compares_with_the_right_models(
    cells: InlineSweep, draft: Path, monkeypatch: pytest.MonkeyPatch, cell: int
) -> None:
    seen: list[Any] = []
    real = membership.membership

    def attack(target: Any, references: Any, paired: Any, copies: Any) -> Any:
        seen.append((target, references, paired, copies))
        return real(target, references, paired, copies)

    monkeypatch.setattr(membership, "membership", attack)
    row = row_of(cells, "retrain_again", cell)
    job = cells.plan.jobs[row.score_key]
    values = evaluation.score(context_of(cells, job, draft))
    of = {
        name: entry_of(cells, row_of(cells, name, cell).score_key).value
        for name in ("pretrain", "retrain")
    }
    for name in ("retain", "forget", "test"):
        gap = values[f"{name}_score"] - of["retrain"][f"{name}_score"]
        assert values[f"{name}_gap"] == pytest.approx(gap, abs=1e-9)
    nothing = of["pretrain"]["tow"]
    assert nothing < 1
    normalised = (values["tow"] - nothing) / (1 - nothing)
    assert values["tow_normalised"] == pytest.approx(normalised, abs=1e-6)
    assert of["retrain"]["tow"] == 1.0

    def stored_views(key: str) -> pd.DataFrame:
        return pd.read_parquet(entry_of(cells, key).folder / "views.parquet")

    (target, references, paired, copies), *_ = seen
    pd.testing.assert_frame_equal(target, stored_views(row.evaluate_key))
    yardstick = row_of(cells, "retrain", cell).evaluate_key
    assert len(references) == 1
    assert copies == []
    pd.testing.assert_frame_equal(references[0], stored_views(yardstick))
    pd.testing.assert_frame_equal(paired.target, stored_views(yardstick))
    pd.testing.assert_frame_equal(paired.reference, stored_views(job.inputs["paired"]))
    other = jobs_of(cells, "split", split_seed=1 - cell)[0]
    text = (entry_of(cells, other.key).folder / "split.json").read_text()
    assert paired.seen == set(json.loads(text)["retain"])


def test_forget_identities_stand_beside_retraining_and_retain_ones_beside_pretraining(
    cells: InlineSweep,
) -> None:
    entry = entry_of(cells, row_of(cells, "retrain_again", 0).score_key)
    forget = pd.read_parquet(entry.folder / "per_identity.parquet").set_index("identity")
    retain = pd.read_parquet(entry.folder / "retain.parquet").set_index("identity")
    of_retrain = entry_of(cells, row_of(cells, "retrain", 0).score_key)
    theirs = pd.read_parquet(of_retrain.folder / "per_identity.parquet").set_index("identity")
    of_nothing = entry_of(cells, row_of(cells, "pretrain", 0).score_key)
    before = pd.read_parquet(of_nothing.folder / "retain.parquet").set_index("identity")
    document = split_document(cells, evaluation_of(cells, "retrain", 0))
    assert set(forget.index) <= set(document["forget"])
    assert set(retain.index) <= set(document["retain"])
    pd.testing.assert_series_equal(forget["retrained_score"], theirs["score"], check_names=False)
    pd.testing.assert_series_equal(
        forget["gap"], forget["score"] - theirs["score"], check_names=False
    )
    pd.testing.assert_series_equal(retain["pretrained_score"], before["score"], check_names=False)
    pd.testing.assert_series_equal(
        retain["drop"], before["score"] - retain["score"], check_names=False
    )
    assert (retain["drop"].abs() > 0.01).any()
    assert not before["drop"].any()


def test_a_curve_ends_where_everybody_is_taken_for_a_member(cells: InlineSweep) -> None:
    row = row_of(cells, "pretrain", 0)
    entry = entry_of(cells, row.score_key)
    curve = pd.read_parquet(entry.folder / "roc.parquet")
    area = float(np.trapezoid(curve["tpr"], curve["fpr"]))
    # The pretrained model knows D_f: the curve's area is the AUC, not its complement.
    assert entry.value["rmia_auc"] > 0.6
    assert area == pytest.approx(entry.value["rmia_auc"], abs=0.1)


def test_no_reference_no_attack(cells: InlineSweep, draft: Path) -> None:
    job = cells.plan.jobs[row_of(cells, "pretrain", 0).score_key]
    alone = dataclasses.replace(job, series={"references": (), "copies": ()})
    values = evaluation.score(context_of(cells, alone, draft))
    assert values["rmia_references"] == 0
    assert "rmia_auc" not in values
    assert not (draft / "roc.parquet").exists()


def test_a_copy_s_evaluation_is_a_reference_beside_the_others(
    cells: InlineSweep, draft: Path
) -> None:
    row, copied = (row_of(cells, name, 0) for name in ("pretrain", "retrain_again"))
    job = cells.plan.jobs[row.score_key]
    series = {**job.series, "copies": (copied.evaluate_key,)}
    values = evaluation.score(context_of(cells, dataclasses.replace(job, series=series), draft))
    stored = entry_of(cells, row.score_key).value
    changed_by_it = {name for name in stored if values[name] != stored[name]}
    assert changed_by_it == {"rmia_copies_auc"}
    joined = {"references": (*job.series["references"], copied.evaluate_key), "copies": ()}
    both = evaluation.score(context_of(cells, dataclasses.replace(job, series=joined), draft))
    assert values["rmia_copies_auc"] == both["rmia_auc"]


def test_a_row_s_resamples_are_paired_with_the_retrained_model_s(cells: InlineSweep) -> None:
    def people_of(name: str) -> pd.DataFrame:
        entry = entry_of(cells, row_of(cells, name, 0).score_key)
        return pd.read_parquet(entry.folder / "people.parquet")

    own, theirs = people_of("pretrain"), people_of("retrain")
    value = entry_of(cells, row_of(cells, "pretrain", 0).score_key).value
    expected = 1 - abs(value["retain_gap"])
    # Three of four people are drawn: there are twenty ways.
    assert 15 <= own["forget_score"].nunique() <= 20
    for name in ("forget_score", "test_score"):
        expected = expected * (1 - (own[name] - theirs[name]).abs())
        assert own[name].mean() == pytest.approx(value[name], abs=3 * own[name].std())
    np.testing.assert_allclose(own["tow"], expected, rtol=1e-12)
    assert (theirs["tow"] == 1).all()
    assert theirs["rmia_auc"].isna().all()
    assert own["rmia_auc"].median() > 0.5


def test_a_score_says_how_many_were_judged_and_no_interval_of_four_people(
    cells: InlineSweep,
) -> None:
    row = row_of(cells, "pretrain", 0)
    value = entry_of(cells, row.score_key).value
    document = split_document(cells, cells.plan.jobs[row.evaluate_key])
    for name in ("forget", "test"):
        assert value[f"{name}_people"] == len(document[name])
        assert value[f"{name}_images"] == len(rows_of(cells, document, name))
    assert value["forget_people"] == 4
    ends = {name: value[name] for name in value if name.endswith(("_low", "_high"))}
    measures = ("mia_auc", "rmia_auc", "rmia_tpr")
    assert ends == {f"{one}_{end}": None for one in measures for end in ("low", "high")}
