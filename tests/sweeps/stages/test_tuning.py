"""What the jobs of a study do, cell by cell, against plain loops over what is stored."""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support.inline_sweep import InlineSweep, inline_sweep
from support.stage_contexts import (
    Asked,
    changed,
    context_of,
    entry_of,
    identity_of_rows,
    images_of,
    moved,
    rows_of,
    run_jobs,
    split_document,
    with_source,
)

from oneshui import methods
from oneshui.errors import DataAccessError, NumericalError
from oneshui.measures import set_scores
from oneshui.requests import FullAccessRequest
from oneshui.seeding import derive_seed
from oneshui.tuning import objectives, simulated
from sweeps.graph.job import Job
from sweeps.sampler import next_point
from sweeps.stages import tuning
from sweeps.stages.context import JobContext
from sweeps.stages.requests import method_of


def study_of(studied: InlineSweep, method: str) -> Any:
    (found,) = [study for study in studied.plan.studies if study.method == method]
    return found


def listening(job: Job, method: str, **spec: Any) -> Job:
    """A study's job with the test's method in place of its own."""
    return changed(job, method=method, hyperparameters={"beta": 5.0}, **spec)


def unlearning_seeds(studied: InlineSweep, job: Job) -> list[int]:
    return [studied.plan.jobs[key].spec["unlearning_seed"] for key in job.series["simulated"]]


def requests_of(studied: InlineSweep, key: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        (entry_of(studied, key).folder / "requests.json").read_text()
    )
    return document


@pytest.mark.parametrize("cell", [0, 1])
def test_requests_are_simulated_among_those_who_stay(
    studied: InlineSweep, draft: Path, monkeypatch: pytest.MonkeyPatch, cell: int
) -> None:
    job = studied.plan.jobs[study_of(studied, "ssd").simulated[cell]]
    found: dict[str, Any] = {}
    real = simulated.draw_requests

    def draw(model: Any, train: Any, num_val: int, **further: Any) -> Any:
        found.update(train=train, num_val=num_val, **further)
        return real(model, train, num_val, **further)

    monkeypatch.setattr(simulated, "draw_requests", draw)
    value = tuning.simulate(context_of(studied, job, draft))
    document = split_document(studied, job)
    assert found["train"].rows.tolist() == rows_of(studied, document, "train")
    assert found["num_val"] == len(rows_of(studied, document, "val"))
    assert list(found["exclude"]) == document["forget"]
    assert list(found["reserved"]) == document["reserved"] != []
    assert list(found["train_identities"]) == document["train"]
    assert found["num_forget"] == len(document["forget"])
    assert found["num_requests"] == job.spec["requests"]
    assert found["seed"] == derive_seed(cell, "rehearsal")
    drawn = json.loads((draft / "requests.json").read_text())["requests"]
    assert len(value["before"]) == len(drawn) == job.spec["requests"]
    for request in drawn:
        assert not set(request["identities"]) & {*document["forget"], *document["reserved"]}
        assert len(request["identities"]) == len(document["forget"])


def test_each_method_s_study_draws_points_of_its_own(
    studied: InlineSweep, draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DrawnError(Exception):
        """The point is known: the rest of the trial is not wanted."""

    drawn: list[dict[str, Any]] = []

    def draw(*arguments: Any, **more: Any) -> None:
        drawn.append(next_point(*arguments, **more))
        raise DrawnError

    monkeypatch.setattr(tuning, "next_point", draw)
    job = studied.plan.jobs[study_of(studied, "ssd").trials[1]]
    for method in ("ssd", "lfssd", "ssd"):
        drawing = changed(job, method=method, sampler="random", nothing=None)
        with pytest.raises(DrawnError):
            tuning.trial(context_of(studied, drawing, draft))
    assert drawn[0].keys() == drawn[1].keys() == {"share"}
    assert drawn[0] == drawn[2]
    assert all(drawn[0][name] != drawn[1][name] for name in drawn[0])


@pytest.mark.parametrize("method", ["curious", "nosy"])
def test_a_trial_asks_of_every_simulated_request_of_every_cell(
    studied: InlineSweep, asked: Asked, draft: Path, method: str
) -> None:
    study = study_of(studied, "scrub" if method == "nosy" else "ssd")
    job = studied.plan.jobs[study.trials[0]]
    job = listening(job, method, space={}, defaults={"alpha": 4.0})
    if method == "curious":
        # What SSD prepared is nothing to this method.
        job = dataclasses.replace(
            job, series={role: keys for role, keys in job.series.items() if role != "prepared"}
        )
    value = tuning.trial(context_of(studied, job, draft))
    assert value["point"] == {"alpha": 4.0}
    assert set(asked.methods) == {(4.0, 5.0)}
    identity = identity_of_rows(studied)
    expected = [
        (place, number, request)
        for place, key in enumerate(job.series["simulated"])
        for number, request in enumerate(requests_of(studied, key)["requests"])
    ]
    assert len(asked.unlearn) == len(expected) == 2 * 2
    for request, (place, number, drawn) in zip(asked.unlearn, expected, strict=True):
        seed = unlearning_seeds(studied, job)[place]
        assert request.seed == derive_seed(seed, method, "rehearsal", number)
        assert request.support.identities.tolist() == drawn["identities"]
        weights = load_file(
            entry_of(studied, job.series["pretrained"][place]).folder / "weights.safetensors"
        )
        assert all(torch.equal(v, weights[k]) for k, v in request.model.state_dict().items())
        assert isinstance(request, FullAccessRequest) == (method == "nosy")
        if isinstance(request, FullAccessRequest):
            document = split_document(studied, job, place)
            train = rows_of(studied, document, "train")
            gone = {row for row in train if identity[row] in drawn["identities"]}
            assert sorted(request.forget.rows.tolist()) == sorted(gone)
            assert request.retain.rows.tolist() == [row for row in train if row not in gone]
            assert request.val.rows.tolist() == rows_of(studied, document, "val")


def test_a_trial_is_worth_the_mean_over_cells_of_what_it_did_to_each(
    studied: InlineSweep, asked: Asked, draft: Path
) -> None:
    job = studied.plan.jobs[study_of(studied, "scrub").trials[0]]
    job = listening(job, "nosy", space={}, defaults={})
    value = tuning.trial(context_of(studied, job, draft))
    worth = []
    for place, key in enumerate(job.series["simulated"]):
        known, by_request = entry_of(studied, key).value, []
        for before, run in zip(known["before"], value["runs"][place], strict=True):
            after = run["after"]
            lost = [1 - abs(after[name] - before[name]) for name in ("retain", "val")]
            by_request.append((1 - abs(after["forget"] - known["val_score"])) * lost[0] * lost[1])
        worth.append(statistics.fmean(by_request))
    assert worth[0] != pytest.approx(worth[1], abs=1e-3)
    assert value["simulated"] == pytest.approx(statistics.fmean(worth), abs=1e-9)
    assert len(asked.unlearn) == 4
    for place, key in enumerate(job.series["simulated"]):
        importance = load_file(entry_of(studied, key).folder / "importances.safetensors")
        request = asked.unlearn[2 * place]
        after_model = dict(moved(request.model).named_parameters())
        way = 0.0
        for name, weight in request.model.named_parameters():
            way += float((importance[name] * (after_model[name] - weight) ** 2).detach().sum())
        assert value["runs"][place][0]["movement"] == pytest.approx(way, rel=1e-4)


def choice(values: list[float], judged: list[dict[int, float]], carried: int) -> Any:
    """A choice among made-up trials, and what its objective makes of them on two cells."""
    trials: list[Any] = [
        SimpleNamespace(value={"point": {"alpha": float(place)}, "simulated": it, "runs": [[], []]})
        for place, it in enumerate(values)
    ]
    cell: Any = SimpleNamespace(value={"before": [], "val_score": 0.5})
    spec = {"method": "ssd", "hyperparameters": {}, "carried": carried, "objective": "oracle"}
    spec["nothing"] = None
    context: Any = JobContext(
        job=SimpleNamespace(spec=with_source(spec)),  # type: ignore[arg-type]
        entries={},
        series={"trials": tuple(trials), "simulated": (cell,) * 2},
        folder=Path("/nowhere"),
        env=SimpleNamespace(),  # type: ignore[arg-type]
    )
    answers = iter(judged)

    def judge(_cell: Any, _study: Any, candidates: dict[int, Any]) -> dict[int, float]:
        answer = next(answers)
        assert list(candidates) == list(answer)
        assert [method.alpha for method in candidates.values()] == [float(p) for p in answer]
        return answer

    return context, judge


@pytest.mark.parametrize(
    ("judged", "best", "scores"),
    [
        # The first cell alone would say 1, the second alone 0.
        ([{0: 0.1, 1: 0.9, 3: 0.6}, {0: 0.9, 1: 0.1, 3: 0.8}], 3, [0.5, 0.5, 0.7]),
        # Of equal ones the first.
        ([{0: 0.2, 1: 0.5, 3: 0.5}, {0: 0.2, 1: 0.5, 3: 0.5}], 1, [0.2, 0.5, 0.5]),
    ],
)
def test_the_best_of_the_few_is_chosen_by_its_mean_over_cells(
    monkeypatch: pytest.MonkeyPatch,
    judged: list[dict[int, float]],
    best: int,
    scores: list[float],
) -> None:
    context, judge = choice([0.1, 0.8, 0.2, 0.7], judged, carried=2)
    monkeypatch.setattr(tuning, "_judged", judge)
    found = tuning.choose(context)
    assert found["point"] == best
    assert found["hyperparameters"] == {"alpha": float(best)}
    assert found["carried"] == [0, 1, 3]
    assert found["scores"] == pytest.approx(scores)


def test_every_cell_of_a_study_has_its_own_inputs(studied: InlineSweep, draft: Path) -> None:
    job = studied.plan.jobs[study_of(studied, "ssd").trials[1]]
    context = context_of(studied, job, draft)
    cells = tuning._cells(context)
    assert len(cells) == 2
    for place, role in itertools.product((0, 1), ("pretrained", "split", "simulated", "prepared")):
        assert cells[place].entries[role].key == job.series[role][place]
        assert cells[place].entries["cache"].key == job.inputs["cache"]


def choice_job(studied: InlineSweep, objective: str, **spec: Any) -> Job:
    job = studied.plan.jobs[study_of(studied, "ssd").choices[objective]]
    evaluations = list(job.series.get("retrained", ()))
    run_jobs(studied, evaluations)
    series = {role: keys for role, keys in job.series.items() if role != "prepared"}
    return changed(dataclasses.replace(job, series=series), **spec)


def choose_curious(studied: InlineSweep, draft: Path, objective: str) -> dict[str, Any]:
    """The choice among points that say nothing, of the method of these tests."""
    job = choice_job(studied, objective, method="curious", hyperparameters={}, nothing=None)
    trials = [
        SimpleNamespace(value={**entry_of(studied, key).value, "point": {}})
        for key in job.series["trials"]
    ]
    context = context_of(studied, job, draft)
    series: Any = {**context.series, "trials": tuple(trials)}
    return tuning.choose(dataclasses.replace(context, series=series))


@pytest.mark.parametrize("objective", ["support_only", "support_and_val"])
def test_the_training_data_cannot_be_opened_while_candidates_unlearn(
    studied: InlineSweep, asked: Asked, draft: Path, objective: str
) -> None:
    (index,) = [job for job in studied.plan.jobs.values() if job.stage == "index"]
    asked.does = entry_of(studied, index.key).file("images.parquet").read_bytes
    with pytest.raises(DataAccessError, match="curious"):
        choose_curious(studied, draft, objective)


@pytest.mark.parametrize("objective", ["support_only", "support_and_val", "oracle"])
@pytest.mark.usefixtures("asked")
def test_a_candidate_that_leaves_the_finite_numbers_is_worth_nothing(
    studied: InlineSweep, draft: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    def fail(_self: object, _request: object) -> None:
        raise NumericalError("left the finite numbers")

    monkeypatch.setattr(methods.get("curious"), "unlearn", fail)
    found = choose_curious(studied, draft, objective)
    assert set(found["scores"]) == {0.0}
    assert found["point"] == 0


def judged_by_oracle(
    studied: InlineSweep, draft: Path, monkeypatch: pytest.MonkeyPatch, cell: int
) -> tuple[Job, Any]:
    """What the oracle of a row with full access looks at on one cell."""
    job = choice_job(studied, "oracle", method="nosy", hyperparameters={}, access="full")
    recipe = studied.plan.jobs[study_of(studied, "scrub").trials[0]].spec
    job = changed(job, training=recipe["training"], training_seed=0)
    found: list[Any] = []

    def score(self: Any, _point: int, _model: Any) -> float:
        found.append(self)
        return 0.25

    monkeypatch.setattr(objectives.OracleChoice, "score", score)
    one = tuning._cells(context_of(studied, job, draft))[cell]
    method = method_of(one)
    assert tuning._by_oracle(one, {3: method}) == {3: 0.25}
    return job, found[0]


@pytest.mark.parametrize("cell", [0, 1])
def test_an_oracle_compares_the_cell_s_sets_with_its_retrained_model(
    studied: InlineSweep, asked: Asked, draft: Path, monkeypatch: pytest.MonkeyPatch, cell: int
) -> None:
    job, oracle = judged_by_oracle(studied, draft, monkeypatch, cell)
    document = split_document(studied, job, cell)
    (request,) = asked.unlearn
    assert isinstance(request, FullAccessRequest)
    for name in ("retain", "forget", "test"):
        rows = rows_of(studied, document, name)
        assert oracle.sets[name].rows.tolist() == rows
        if name != "test":
            assert getattr(request, name).rows.tolist() == rows
    assert request.val.rows.tolist() == rows_of(studied, document, "val")
    assert request.seed == derive_seed(unlearning_seeds(studied, job)[cell], "nosy", "unlearn")
    predictions = pd.read_parquet(
        entry_of(studied, job.series["retrained"][cell]).folder / "predictions.parquet"
    )
    assert oracle.retrained == set_scores(predictions, "multilabel")


def true_tow_job(studied: InlineSweep, cell: int) -> Job:
    study = study_of(studied, "scrub")
    job = studied.plan.jobs[study.true_tows[0][cell]]
    ssd = study_of(studied, "ssd").trials[0]
    run_jobs(studied, [job.inputs["retrained"]])
    job = dataclasses.replace(job, inputs={**job.inputs, "trial": ssd})
    return changed(job, method="nosy", hyperparameters={})


@pytest.mark.parametrize("cell", [0, 1])
def test_the_true_tow_is_what_the_sets_say(
    studied: InlineSweep, asked: Asked, draft: Path, monkeypatch: pytest.MonkeyPatch, cell: int
) -> None:
    job = true_tow_job(studied, cell)
    context = context_of(studied, job, draft)
    trial: Any = SimpleNamespace(value={"point": {"alpha": 6.0}})
    context = dataclasses.replace(context, entries={**context.entries, "trial": trial})
    found = tuning.true_tow(context)
    assert asked.methods == [(6.0, 1.0)]
    (request,) = asked.unlearn
    assert isinstance(request, FullAccessRequest)
    document = split_document(studied, job)
    for name in ("forget", "retain", "val"):
        assert getattr(request, name).rows.tolist() == rows_of(studied, document, name), name
    predictions = pd.read_parquet(
        entry_of(studied, job.inputs["retrained"]).folder / "predictions.parquet"
    )
    theirs = set_scores(predictions, "multilabel")
    model, tow = moved(request.model), 1.0
    for name in ("forget", "retain", "test"):
        data = images_of(studied, document, name)
        own = simulated.set_score(model, data, "multilabel", torch.device("cpu"))
        tow *= 1 - abs(own - theirs[name])
    assert found["tow"] == pytest.approx(tow, abs=1e-6)
    assert found["movement"] > 0

    def fail(_self: object, _request: object) -> None:
        raise NumericalError("left the finite numbers")

    monkeypatch.setattr(methods.get("nosy"), "unlearn", fail)
    nothing = {"tow": 0.0, "support_drop": None, "movement": None}
    assert tuning.true_tow(context) == nothing
    assert np.isfinite(found["support_drop"])


def test_a_row_whose_every_other_point_destroys_is_left_as_it_was(tmp_path: Path) -> None:
    sweep = inline_sweep(
        tmp_path,
        "sweep=leak_cost",
        "scale=toy",
        "sweep.datasets=[synthetic_tiny]",
        "sweep.seeds=[0]",
        "sweep.methods=[pretrain,gradient_ascent]",
        "sweep.rows={gradient_ascent: {learning_rate: 1e5, space: {learning_rate: [1e4, 1e6]}}}",
        "tuning.rows=[gradient_ascent]",
        "tuning.objective=support_only",
        "tuning.trials=4",
        "tuning.carried=4",
        "tuning.true_tow=false",
    )
    (study,) = sweep.plan.studies
    choice = entry_of(sweep, study.choices["support_only"]).value
    assert choice["point"] == 1
    assert choice["hyperparameters"] == {"learning_rate": 0.0, "step": 0.0}
    (row,) = [job for job in sweep.plan.jobs.values() if job.stage == "unlearn"]
    before = load_file(entry_of(sweep, row.inputs["pretrained"]).file("weights.safetensors"))
    after = load_file(entry_of(sweep, row.key).file("weights.safetensors"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
