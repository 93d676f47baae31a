"""Analyses of a whole sweep, and the measures of a demo-like one, from stored results."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reference.analyses import cosine_distance
from safetensors.numpy import load_file, save_file
from support.inline_sweep import InlineSweep, inline_sweep

from sweeps.graph.artifacts import ATTRIBUTES, FEATURES, PEOPLE, PER_IDENTITY, ROC
from sweeps.report import analyses
from sweeps.report.results import results_frame
from sweeps.store.status import scan

METHODS = ["pretrain", "retrain", "retrain_again", "ssd"]
COLUMNS = [
    "dataset",
    "num_forget",
    *("num_people", "num_points", "num_seeds"),
    *("slope", "slope_low", "slope_high"),
    *("slope_minus_again", "slope_minus_again_low", "slope_minus_again_high"),
    *("intercept", "pearson", "pearson_low", "pearson_high", "spearman"),
    *("features", "distance_measure"),
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    made = inline_sweep(
        tmp_path_factory.mktemp("analyses"),
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny]",
        f"sweep.methods=[{','.join(METHODS)}]",
        "+sweep.rows.retrain_again={method: retrain, reseed: 1}",
        "sweep.reference_copies=true",
    )
    assert not made.scheduler.failures()
    return made


def test_every_row_has_its_measures(sweep: InlineSweep) -> None:
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    frame: Any = results_frame(sweep.plan, entries).set_index("method")
    attacked = frame.drop(index="retrain")
    assert (
        attacked[["rmia_auc", "rmia_a"]].apply(lambda column: column.between(0, 1)).all(axis=None)
    )
    assert (attacked["rmia_references"] == 1).all()
    assert frame.loc["retrain", "rmia_references"].tolist() == [0, 0]
    assert frame.loc["retrain", "rmia_auc"].isna().all()
    copies = frame["rmia_copies_auc"].notna()
    assert set(frame.index[copies]) == {"ssd"}
    assert (frame.loc["ssd", "rmia_copies_auc"] != frame.loc["ssd", "rmia_auc"]).any()
    assert (frame.loc["pretrain", "tow_normalised"] == 0).all()
    assert (frame.loc["retrain", ["tow", "tow_normalised", "tow_with_mia"]] == 1).all(axis=None)
    zero = ["retain_gap", "forget_gap", "test_gap", "js_forget", "js_test", "weight_distance"]
    assert (frame.loc["retrain", zero] == 0).all(axis=None)
    assert (frame.loc["ssd", "js_forget"] > 0).all()
    assert frame["num_attributes"].between(1, 40).all()
    assert frame["nomus"].isna().all()
    assert (frame.loc["ssd", ["unlearn_peak_bytes", "prepare_peak_bytes"]] > 0).all(axis=None)
    for row in sweep.plan.results:
        expected = {ATTRIBUTES, PEOPLE} | ({ROC} if row.row.name != "retrain" else set())
        assert expected <= entries[row.score_key].files.keys()


def test_people_and_figures_are_written_without_a_model(sweep: InlineSweep, tmp_path: Path) -> None:
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    analyses.write(sweep.plan, entries, tmp_path)
    people: Any = pd.read_parquet(tmp_path / "per_identity.parquet")
    assert len(people) == 2 * len(METHODS) * 4
    assert people[["score", "gap", "loss", "js"]].notna().all(axis=None)
    assert (people["membership"].notna() == (people["method"] != "retrain")).all()
    assert (people.loc[people["method"] == "retrain", "gap"] == 0).all()
    hardness, drop = (pd.read_csv(tmp_path / f"{n}.csv") for n in ("hardness", "retain_drop"))
    assert len(hardness) == len(people)
    assert hardness["distance"].between(0, 2).all()
    assert (drop.loc[drop["method"] == "pretrain", "drop"] == 0).all()
    assert set(hardness["features"]) == {"pretrained model, input of its classifier"}
    for name, points in (("hardness", hardness), ("retain_drop", drop)):
        fitted: Any = pd.read_csv(tmp_path / f"{name}_fits.csv").set_index("method")
        assert list(fitted.index) == METHODS
        assert fitted.loc["ssd", "num_points"] == (points["method"] == "ssd").sum()
        assert pd.notna(fitted.loc["ssd", ["pearson", "slope_minus_again"]]).all()
        assert list(fitted.columns) == COLUMNS
        assert fitted.loc["ssd", "num_people"] == points["identity"].nunique()
        # Retrained again is the noise itself, and the other's gap or drop is one with itself.
        itself = {"hardness": "retrain", "retain_drop": "pretrain"}[name]
        assert fitted.loc[["retrain_again", itself], "slope_minus_again"].isna().all()


def test_distances_are_those_of_people_in_the_pretrained_model_s_features(
    sweep: InlineSweep, tmp_path: Path
) -> None:
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    tables = analyses.write(sweep.plan, entries, tmp_path)
    row = next(row for row in sweep.plan.results if row.row.name == "ssd" and row.cell.seed == 1)
    pretrained = sweep.plan.jobs[row.score_key].inputs["pretrained"]
    stored = load_file(entries[pretrained].folder / FEATURES)
    centre = {
        person: stored["train.features"][stored["train.identities"] == person].mean(0).tolist()
        for person in set(stored["train.identities"].tolist())
    }
    forgotten = stored["support.identities"].tolist()
    support = dict(zip(forgotten, stored["support.features"].tolist(), strict=True))

    def distances(name: str) -> dict[int, float]:
        points = tables[name]
        own = points[(points["method"] == "ssd") & (points["seed"] == 1)]
        return dict(zip(own["identity"].tolist(), own["distance"].tolist(), strict=True))

    hardness, drop = distances("hardness.csv"), distances("retain_drop.csv")
    assert hardness.keys() == set(forgotten)
    assert drop.keys() == centre.keys() - set(forgotten)
    for person, distance in hardness.items():
        expected = cosine_distance(support[person], centre[person])
        assert distance == pytest.approx(expected, abs=1e-6)
    for person, distance in drop.items():
        expected = min(cosine_distance(centre[person], centre[other]) for other in forgotten)
        assert distance == pytest.approx(expected, abs=1e-6)


def test_without_results_the_tables_are_empty(sweep: InlineSweep, tmp_path: Path) -> None:
    analyses.write(sweep.plan, {}, tmp_path)
    assert len(pd.read_parquet(tmp_path / "per_identity.parquet")) == 0
    assert len(pd.read_csv(tmp_path / "hardness_fits.csv")) == 0


def test_rows_without_features_or_tables_are_left_out(sweep: InlineSweep, tmp_path: Path) -> None:
    entries = dict(scan(sweep.plan, sweep.store, discard=False).entries)
    row = sweep.plan.results[-1]
    bare = dataclasses.replace(entries[row.score_key], files={})
    tables = analyses.write(sweep.plan, entries | {row.score_key: bare}, tmp_path)
    assert len(tables[PER_IDENTITY]) == (2 * len(METHODS) - 1) * 4
    # Both seeds' pretrained models lose their features: people stay, distances go.
    keys = {sweep.plan.jobs[r.score_key].inputs["pretrained"] for r in sweep.plan.results}
    without = {key: dataclasses.replace(entries[key], files={}) for key in keys}
    tables = analyses.write(sweep.plan, entries | without, tmp_path)
    assert len(tables[PER_IDENTITY]) == 2 * len(METHODS) * 4
    assert tables["hardness.csv"].empty
    assert tables["retain_drop.csv"].empty


def test_features_that_have_no_distance_leave_the_row_out(
    sweep: InlineSweep, tmp_path: Path
) -> None:
    entries = dict(scan(sweep.plan, sweep.store, discard=False).entries)
    key = sweep.plan.jobs[sweep.plan.results[0].score_key].inputs["pretrained"]
    shutil.copytree(entries[key].folder, tmp_path / "entry")
    path = tmp_path / "entry" / FEATURES
    stored = load_file(path)
    save_file({n: a * 0 if n == "support.features" else a for n, a in stored.items()}, path)
    digest = {FEATURES: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}
    still = dataclasses.replace(entries[key], folder=tmp_path / "entry", files=digest)
    (tmp_path / "report").mkdir()
    tables = analyses.write(sweep.plan, entries | {key: still}, tmp_path / "report")
    assert set(tables["hardness.csv"]["seed"]) == {1}
    assert len(tables[PER_IDENTITY]) == 2 * len(METHODS) * 4


def test_the_fit_is_that_of_points_on_a_line() -> None:
    points = pd.DataFrame(
        {
            "dataset": "faces",
            "num_forget": 5,
            "seed": 0,
            "method": ["up"] * 4 + ["flat"] * 3 + ["two"] * 2,
            "identity": range(9),
            "distance": [0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 0.5, 1.5],
            "gap": [0.1, 0.3, 0.5, 0.7, 0.2, 0.2 + 1e-17, 0.2, 0.5, 0.25],
        }
    )
    found: Any = analyses.fits(points, "gap").set_index("method")
    assert found["num_points"].to_dict() == {"up": 4, "flat": 3, "two": 2}
    assert found["slope"].to_dict() == pytest.approx({"up": 0.2, "flat": 0.0, "two": -0.25})
    assert found["intercept"].to_dict() == pytest.approx({"up": 0.1, "flat": 0.2, "two": 0.625})
    assert found["pearson"].isna().to_dict() == {"up": False, "flat": True, "two": True}
    assert (found["pearson"]["up"], found["spearman"]["up"]) == pytest.approx((1, 1))


def test_a_row_is_compared_with_retraining_again_person_by_person() -> None:
    """Both share what is particular to people, which is no uncertainty of their difference."""
    generator = np.random.default_rng(0)
    distance = generator.random(30)
    own, noise = generator.normal(size=30), generator.normal(0, 0.01, size=30)
    gaps = {
        "row": own + 0.5 * distance,
        "first": own + 0.25 * distance + noise,
        "second": own + 0.25 * distance - noise,
    }
    parts = [
        pd.DataFrame({"method": name, "identity": range(30), "distance": distance, "gap": gap})
        for name, gap in gaps.items()
    ]
    points = pd.concat(parts).assign(dataset="faces", num_forget=30, seed=0)
    elsewhere = points[points["method"] == "row"].assign(seed=1, gap=lambda p: -p["gap"])
    found: Any = analyses.fits(pd.concat([points, elsewhere]), "gap", {"first", "second"})
    found = found.set_index("method")
    assert found["num_points"].to_dict() == {"row": 60, "first": 30, "second": 30}
    # Seed 1 was not retrained again, so it says nothing of the difference.
    assert found["slope"]["row"] == pytest.approx(0, abs=1e-9)
    ends = ["slope_minus_again_low", "slope_minus_again", "slope_minus_again_high"]
    assert found.loc["row", ends].tolist() == pytest.approx([0.25] * 3)
    assert found.loc[["first", "second"], ends].isna().all(axis=None)
    wide = (found["slope_high"] - found["slope_low"])[["first", "second"]]
    assert (wide > 0.5).all()
    assert analyses.fits(points, "gap")[ends].isna().all(axis=None)
    assert analyses.fits(elsewhere, "gap", {"first"})[ends].isna().all(axis=None)
