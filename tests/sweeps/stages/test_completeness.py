"""Completeness and the cheap measures of stored predictions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.inline_sweep import InlineSweep, inline_sweep
from support.probed import PROBED
from support.several_requests import SEVERAL, row_of, stored
from support.stage_contexts import changed, context_of, entry_of

from oneshui.audits.completeness import completeness as of_images
from oneshui.metrics.likeness import class_divergence
from oneshui.metrics.margin import logit_margins
from sweeps.report.audits.completeness import PEOPLE_FILE, part
from sweeps.report.results import results_frame
from sweeps.stages import completeness
from sweeps.store.status import scan

ONLY = "sweep.audit.probes=false"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    made = inline_sweep(tmp_path_factory.mktemp("complete"), *PROBED[:-1], ONLY)
    assert not made.scheduler.failures()
    return made


def value_of(sweep: InlineSweep, name: str) -> dict[str, Any]:
    key = row_of(sweep, name).completeness_key
    assert key is not None
    return dict(entry_of(sweep, key).value)


def forget_of(sweep: InlineSweep, key: str) -> pd.DataFrame:
    table = stored(sweep, key, "predictions")
    return table[table["set"] == "forget"].reset_index(drop=True)


def arrays(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return np.stack(table["logits"].to_list()), np.stack(table["label"].to_list())


def test_a_retrained_model_answers_as_itself_and_has_one_that_is_like_it(
    sweep: InlineSweep,
) -> None:
    retrained = value_of(sweep, "retrain")
    assert retrained["same_forget"] == retrained["same_test"] == 1
    assert retrained["activation_forget"] == retrained["activation_test"] == 0
    assert retrained["completeness_models"] == 1
    again = value_of(sweep, "retrain_again")
    assert again["activation_forget"] > 0
    assert again["completeness"] == pytest.approx(retrained["completeness"], abs=0.25)


def test_completeness_is_that_of_margins_on_forget_images_by_person(sweep: InlineSweep) -> None:
    tables = [
        forget_of(sweep, row_of(sweep, name).evaluate_key)
        for name in ("ssd", "pretrain", "retrain")
    ]
    own, known, stranger = (logit_margins(*arrays(table), "multilabel") for table in tables)
    expected = tables[0].assign(completeness=of_images(own, known, stranger[None]))
    expected = expected.groupby("identity")["completeness"].agg(["size", "mean"])
    key = row_of(sweep, "ssd").completeness_key
    assert key is not None
    table = stored(sweep, key, "completeness").set_index("identity")
    assert table["images"].to_dict() == expected["size"].to_dict()
    assert table["completeness"].to_dict() == pytest.approx(expected["mean"].to_dict())
    value = value_of(sweep, "ssd")
    assert value["completeness"] == pytest.approx(expected["mean"].mean())
    assert value["completeness_people"] == len(expected)
    assert value["completeness_images"] == len(tables[0])


def test_lotus_holds_the_forgotten_against_the_pretrained_model_on_strangers(
    sweep: InlineSweep,
) -> None:
    own = forget_of(sweep, row_of(sweep, "ssd").evaluate_key)
    other = stored(sweep, row_of(sweep, "pretrain").evaluate_key, "predictions")
    expected = class_divergence(*arrays(own), *arrays(other[other["set"] == "test"]), "multilabel")
    assert value_of(sweep, "ssd")["rf_js"] == pytest.approx(expected)


def test_an_untrained_network_knows_nothing_and_is_another_with_another_seed(
    sweep: InlineSweep, tmp_path: Path
) -> None:
    key = row_of(sweep, "ssd").completeness_key
    assert key is not None
    job = sweep.plan.jobs[sweep.plan.jobs[key].inputs["untrained"]]
    table = stored(sweep, job.key, "predictions")
    pd.testing.assert_series_equal(
        table["image"], forget_of(sweep, row_of(sweep, "ssd").evaluate_key)["image"]
    )
    for seed, is_same in ((job.spec["seed"], True), (job.spec["seed"] + 1, False)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        completeness.untrained(context_of(sweep, changed(job, seed=seed), folder))
        again = pd.read_parquet(folder / "predictions.parquet")
        assert np.array_equal(arrays(again)[0], arrays(table)[0]) == is_same
    logits = arrays(table)[0]
    assert logits.std(axis=0).max() < np.abs(logits).max()
    assert all(0 < value_of(sweep, name)["zrf"] < 1 for name in ("pretrain", "retrain", "ssd"))


def test_requests_are_measured_together_each_by_its_own_model(tmp_path: Path) -> None:
    made = inline_sweep(tmp_path, *SEVERAL, "+sweep.audit={probes: false}")
    assert not made.scheduler.failures()
    row = row_of(made, "ssd")
    assert row.completeness_key is not None
    table = stored(made, row.completeness_key, "completeness").set_index("identity")
    own = [forget_of(made, key) for key in row.evaluate_keys]
    assert sorted(table.index) == sorted({i for part in own for i in part["identity"]})
    joined = pd.concat(own, ignore_index=True)
    beside = [
        forget_of(made, row_of(made, name).evaluate_key).set_index("image").loc[joined["image"]]
        for name in ("pretrain", "retrain")
    ]
    margins = [logit_margins(*arrays(part), "multilabel") for part in (joined, *beside)]
    expected = joined.assign(value=of_images(margins[0], margins[1], margins[2][None]))
    means = expected.groupby("identity")["value"].mean()
    assert table["completeness"].to_dict() == pytest.approx(means.to_dict())


def test_the_report_has_a_line_per_row_and_a_file_of_people(
    sweep: InlineSweep, tmp_path: Path
) -> None:
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    frame = results_frame(sweep.plan, entries)
    assert frame["completeness"].notna().all()
    said = part(sweep.plan, entries, frame, tmp_path)
    assert said is not None
    (table,) = said.tables
    assert [line[0] for line in table.lines] == ["pretrain", "retrain", "retrain_again", "ssd"]
    assert {len(line) for line in table.lines} == {len(table.titles)}
    value = frame.set_index("method").loc["ssd"]
    line = dict(zip(table.titles, table.lines[3], strict=True))
    assert line["completeness"].startswith(f"{100 * value['completeness']:.1f}")
    assert line["ZRF"] == f"{100 * value['zrf']:.1f}"
    people = pd.read_csv(tmp_path / PEOPLE_FILE)
    assert people.groupby("method")["completeness"].mean()["ssd"] == pytest.approx(
        value["completeness"], abs=1e-6
    )
    bare = frame.assign(same_forget=math.nan)
    assert part(sweep.plan, entries, bare, tmp_path) is None
