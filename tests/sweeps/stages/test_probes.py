"""Probes, computed: which pictures every model is shown, and what is kept of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference.probes import rank_one
from support.inline_sweep import InlineSweep
from support.probed import probed
from support.stage_contexts import (
    changed,
    context_of,
    entry_of,
    identity_of_rows,
    images_of,
    jobs_of,
    rows_of,
    split_document,
)

from oneshui.audits.hiding import TIMES
from oneshui.audits.reidentification import looked_at
from oneshui.audits.relearning import lessons, relearn
from oneshui.data.images import LabelledImages
from oneshui.errors import NumericalError
from oneshui.metrics.scores import mean_average_precision
from oneshui.spec import TrainingSpec
from oneshui.training.models import FeaturesAndLogits
from sweeps.graph.job import Job
from sweeps.graph.plan import ResultRow
from sweeps.stages.context import stored_model
from sweeps.stages.probes import probe


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    return probed(tmp_path_factory.mktemp("probed"))


def row_of(sweep: InlineSweep, name: str) -> ResultRow:
    (found,) = [row for row in sweep.plan.results if row.row.name == name]
    return found


def job_of(sweep: InlineSweep, name: str) -> Job:
    probes = row_of(sweep, name).probes
    assert probes is not None
    (key,) = probes.own
    return sweep.plan.jobs[key]


def value_of(sweep: InlineSweep, name: str) -> dict[str, Any]:
    return dict(entry_of(sweep, job_of(sweep, name).key).value)


def sets_of(sweep: InlineSweep) -> tuple[LabelledImages, LabelledImages]:
    document = split_document(sweep, job_of(sweep, "ssd"))
    return images_of(sweep, document, "forget"), images_of(sweep, document, "support")


def test_curves_begin_with_the_model_as_it_is_and_are_of_the_pictures_in_no_lesson(
    sweep: InlineSweep, tmp_path: Path
) -> None:
    forget, support = sets_of(sweep)
    drawn = lessons(forget, support, 0)
    for name in ("pretrain", "ssd"):
        value, job = value_of(sweep, name), job_of(sweep, name)
        model = stored_model(context_of(sweep, job, tmp_path), "weights").eval()
        with torch.no_grad():
            logits, on_support = model(drawn.asked.inputs()), model(support.inputs())
        expected = mean_average_precision(logits, drawn.asked.labels)
        first = [curve[0] for curve in value["curves"].values()]
        assert first == pytest.approx([expected] * 3)
        assert value["support_score"] == pytest.approx(
            mean_average_precision(on_support, support.labels)
        )
        assert value["times"] == list(TIMES)
        assert value["asked"] == len(drawn.asked)
        assert value["taught"] == {key: len(one) for key, one in drawn.taught.items()}
        answers = relearn(
            model,
            drawn.taught["5"],
            drawn.asked,
            TrainingSpec(**job.spec["recipe"]),
            task="multilabel",
            seed=0,
            device=torch.device("cpu"),
        )
        by_hand = [mean_average_precision(one, drawn.asked.labels) for one in answers]
        assert value["curves"]["5"] == pytest.approx(by_hand)


def test_all_models_of_a_cell_are_shown_the_same_pictures(sweep: InlineSweep) -> None:
    values = [value_of(sweep, row.row.name) for row in sweep.plan.results]
    for name in ("taught", "asked", "strangers", "times"):
        assert len({str(value[name]) for value in values}) == 1
    for who in ("forgotten", "retained"):
        for what in ("people", "pictures", "pairs"):
            assert len({str(value[who][what]) for value in values}) == 1
    assert len({str(value["curves"]) for value in values}) == len(values)


def test_the_forgotten_are_looked_for_by_their_support_pictures(
    sweep: InlineSweep, tmp_path: Path
) -> None:
    job = job_of(sweep, "ssd")
    document, identity = split_document(sweep, job), identity_of_rows(sweep)
    retain, test, forget, support = (
        np.array(rows_of(sweep, document, name)) for name in ("retain", "test", "forget", "support")
    )
    looked = looked_at(identity, retain, test, num_forget=len(support), seed=0)
    model = stored_model(context_of(sweep, job, tmp_path), "weights")
    every = images_of(sweep, {**document, "forget": sorted(set(identity.tolist()))}, "forget")
    places = {int(row): place for place, row in enumerate(every.rows)}
    places |= {int(row): len(places) + place for place, row in enumerate(support)}
    with torch.no_grad():
        shown = [data.inputs() for data in (every, images_of(sweep, document, "support"))]
        features = FeaturesAndLogits(model.eval())(torch.cat(shown))[1].tolist()

    def of(rows: np.ndarray[Any, Any]) -> tuple[list[Any], list[int]]:
        return [features[places[int(row)]] for row in rows], identity[rows].tolist()

    value = value_of(sweep, "ssd")
    for who, own, probes in (
        ("forgotten", support, forget),
        ("retained", looked.retained, looked.probes),
    ):
        by_hand = rank_one(*of(np.concatenate([own, looked.strangers])), *of(probes))
        found = dict(zip(value[who]["people"], value[who]["first"], strict=True))
        assert found == pytest.approx(by_hand)
        assert value[who]["pairs"] == len(probes) * (len(own) + len(looked.strangers) - 1)
    assert value["strangers"] == len(looked.strangers)
    assert value["forgotten"]["people"] == sorted(document["forget"])


def test_another_recipe_learns_otherwise_and_recognises_alike(
    sweep: InlineSweep, tmp_path: Path
) -> None:
    job = job_of(sweep, "pretrain")
    faster = changed(job, recipe={**job.spec["recipe"], "learning_rate": 0.04})
    value, known = probe(context_of(sweep, faster, tmp_path)), value_of(sweep, "pretrain")
    assert value["forgotten"] == known["forgotten"]
    for lesson, curve in value["curves"].items():
        assert curve[0] == known["curves"][lesson][0]
        assert curve != known["curves"][lesson]


def test_features_that_are_not_finite_are_said_to_be_the_unlearning_s_fault(
    sweep: InlineSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = stored_model(context_of(sweep, job_of(sweep, "ssd"), tmp_path), "weights")
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    monkeypatch.setattr("sweeps.stages.probes.stored_model", lambda *_: broken)
    monkeypatch.setattr("sweeps.stages.probes._score", lambda *_: None)
    with pytest.raises(NumericalError, match="features that are not finite"):
        probe(context_of(sweep, job_of(sweep, "ssd"), tmp_path))


def test_a_probe_is_not_told_which_method_it_audits(sweep: InlineSweep) -> None:
    assert {job.stage for job in jobs_of(sweep, "probe")} == {"probe"}
    for job in jobs_of(sweep, "probe"):
        assert "method" not in job.spec
        assert job.editable == ()
