"""The likelihood audit, computed: whom models saw, how well they know people, who is chosen."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.inline_sweep import InlineSweep
from support.pool import MODELS, PEOPLE, POOL, document_of, row_of, table_of, value_of
from support.stage_contexts import (
    changed,
    context_of,
    entry_of,
    identity_of_rows,
    images_of,
    jobs_of,
    rows_of,
)

from oneshui.audits import likelihood as mathematics
from oneshui.errors import NumericalError
from oneshui.spec import ModelSpec
from oneshui.training.models import make_model
from sweeps.config import load
from sweeps.graph.job import Job
from sweeps.graph.plan import expand
from sweeps.graph.pool import Pool, designed
from sweeps.stages import data, likelihood, unlearning
from sweeps.stages.context import load_split


def pool_of(sweep: InlineSweep) -> Pool:
    (found,) = sweep.plan.pools.values()
    return found


def lira_of(sweep: InlineSweep, name: str) -> Job:
    key = row_of(sweep, name).lira_key
    assert key is not None
    return sweep.plan.jobs[key]


def drawn(sweep: InlineSweep) -> dict[str, list[int]]:
    return document_of(sweep, pool_of(sweep).split_key)


def test_a_model_of_the_pool_saw_everybody_else_its_half_and_nobody_s_support_picture(
    pooled: InlineSweep, tmp_path: Path
) -> None:
    whole, identity = drawn(pooled), identity_of_rows(pooled)
    assert len(whole["forget"]) == PEOPLE
    for model, one in zip(pool_of(pooled).models, designed(PEOPLE, MODELS), strict=True):
        job = pooled.plan.jobs[model.base.pretrained]
        split = load_split(context_of(pooled, job, tmp_path))
        people = {*whole["retain"], *(whole["forget"][place] for place in one.seen)}
        expected = {row for row, who in enumerate(identity.tolist()) if who in people}
        assert set(split.images("train").tolist()) == expected - set(whole["support"])
        assert split.forget == tuple(whole["forget"][place] for place in one.asked)
        assert set(split.val) == set(whole["val"])


def test_full_access_has_whom_the_model_saw_and_nobody_whom_it_never_did(
    pooled: InlineSweep, draft: Path
) -> None:
    plan = expand(load([*POOL, "sweep.methods=[scrub]"]).sweep)
    sweep = dataclasses.replace(pooled, plan=plan)
    key = lira_of(sweep, "scrub").series["after"][1]
    job = plan.jobs[plan.jobs[key].inputs["weights"]]
    context = context_of(sweep, job, draft)
    split, identity = load_split(context), identity_of_rows(sweep)
    seen = [{int(identity[row]) for row in split.images(name)} for name in ("forget", "retain")]
    whole, one = drawn(sweep), designed(PEOPLE, MODELS)[1]
    asked = {whole["forget"][place] for place in one.asked}
    assert seen == [asked, {*whole["retain"], *(whole["forget"][p] for p in one.seen)} - asked]
    unlearning.unlearn(context)
    before = load_file(entry_of(pooled, job.inputs["pretrained"]).folder / "weights.safetensors")
    after = load_file(draft / "weights.safetensors")
    assert any(not torch.equal(after[name], value) for name, value in before.items())


def test_models_of_the_pool_start_and_shuffle_each_in_its_own_way(pooled: InlineSweep) -> None:
    trained = [pooled.plan.jobs[model.base.pretrained] for model in pool_of(pooled).models]
    assert len({job.spec["training_seed"] for job in trained}) == MODELS


def phi_by_hand(
    sweep: InlineSweep, weights: str, document: dict[str, list[int]]
) -> dict[int, list[float]]:
    """Log-odds of the truth on every picture but S of those who ask, by identity."""
    job = sweep.plan.jobs[weights]
    network = make_model(ModelSpec(**job.spec["model"]), 40, 0)
    network.load_state_dict(load_file(entry_of(sweep, weights).folder / "weights.safetensors"))
    network.eval()
    found: dict[int, list[float]] = {}
    asked = images_of(sweep, document, "forget")
    for place in range(len(asked)):
        picture, labels = asked.inputs(slice(place, place + 1)), asked.labels[place]
        with torch.no_grad():
            share = torch.sigmoid(network(picture)[0].double())
        truth = torch.where(labels > 0, share, 1 - share)
        found.setdefault(int(asked.identities[place]), []).append(
            float(torch.log(truth / (1 - truth)).mean())
        )
    return found


@pytest.mark.parametrize("which", ["before", "after"])
def test_how_well_a_model_knows_people_is_the_mean_over_their_pictures(
    pooled: InlineSweep, which: str
) -> None:
    key = lira_of(pooled, "ssd").series[which][2]
    job = pooled.plan.jobs[key]
    document = document_of(pooled, job.inputs["split"])
    by_hand = phi_by_hand(pooled, job.inputs["weights"], document)
    table = table_of(pooled, key, "known").set_index("identity")
    assert set(table.index) == set(by_hand) == set(document["forget"])
    assert len(by_hand) == (PEOPLE if which == "before" else PEOPLE // 4)
    for person, values in by_hand.items():
        assert table.loc[person, "images"] == len(values)
        assert table.loc[person, "phi"] == pytest.approx(statistics.fmean(values), abs=1e-4)
    assert value_of(pooled, key)["images"] == len(rows_of(pooled, document, "forget"))


def test_the_audit_is_handed_who_saw_whom_and_what_was_left_of_those_who_asked(
    pooled: InlineSweep, draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: dict[str, Any] = {}
    real = mathematics.audit

    def audit(before: Any, after: Any, seen: Any, asked: Any, **further: Any) -> Any:
        handed.update(before=before, after=after, seen=seen, asked=asked, **further)
        return real(before, after, seen, asked, **further)

    monkeypatch.setattr(mathematics, "audit", audit)
    job = lira_of(pooled, "jit")
    values = likelihood.lira(context_of(pooled, job, draft))
    people = drawn(pooled)["forget"]
    design = designed(PEOPLE, MODELS)
    for model in range(MODELS):
        before, after = (
            table_of(pooled, job.series[name][model], "known").set_index("identity")["phi"]
            for name in ("before", "after")
        )
        for place, person in enumerate(people):
            assert handed["seen"][model, place] == (place in design[model].seen)
            assert handed["asked"][model, place] == (place in design[model].asked)
            assert handed["before"][model, place] == before[person]
            if place in design[model].asked:
                assert handed["after"][model, place] == after[person]
            else:
                assert np.isnan(handed["after"][model, place])
    stored = value_of(pooled, job.key)
    assert values == stored
    assert (stored["lira_people"], stored["lira_models"]) == (PEOPLE, MODELS)
    assert stored["lira_positives"] == MODELS * PEOPLE // 4
    assert stored["lira_negatives"] == MODELS * PEOPLE // 2
    table = pd.read_parquet(draft / "likelihood.parquet")
    assert table["identity"].tolist() == people
    curve = pd.read_parquet(draft / "likelihood_roc.parquet")
    assert set(curve["attack"]) == {"privacy", "efficacy"}
    assert list(curve.columns) == ["attack", "fpr", "tpr", "low", "high"]


def test_doing_nothing_is_held_against_models_as_they_are(
    pooled: InlineSweep, draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[Any] = []
    real = mathematics.audit

    def audit(*arrays: Any, **further: Any) -> Any:
        handed.extend(arrays)
        return real(*arrays, **further)

    monkeypatch.setattr(mathematics, "audit", audit)
    likelihood.lira(context_of(pooled, lira_of(pooled, "pretrain"), draft))
    before, after, _, asked = handed
    assert (after[asked] == before[asked]).all()
    assert np.isnan(after[~asked]).all()


def memorised_by_hand(sweep: InlineSweep) -> dict[int, float]:
    """Mean of the models that were trained on a person minus that of the others."""
    found = {}
    examined = [table_of(sweep, model.before, "known") for model in pool_of(sweep).models]
    for place, person in enumerate(drawn(sweep)["forget"]):
        phi = [float(table.loc[table["identity"] == person, "phi"].iloc[0]) for table in examined]
        design = designed(PEOPLE, MODELS)
        seen = [value for value, one in zip(phi, design, strict=True) if place in one.seen]
        unseen = [value for value, one in zip(phi, design, strict=True) if place not in one.seen]
        assert len(seen) == len(unseen) == MODELS // 2
        found[person] = statistics.fmean(seen) - statistics.fmean(unseen)
    return found


def test_memorisation_is_what_models_that_saw_a_person_know_beyond_the_others(
    pooled: InlineSweep,
) -> None:
    key = pool_of(pooled).memorisation_key
    table = table_of(pooled, key, "memorisation")
    by_hand = memorised_by_hand(pooled)
    assert table["identity"].tolist() == list(by_hand)
    assert table["memorisation"].tolist() == pytest.approx(list(by_hand.values()))
    value = value_of(pooled, key)
    assert (value["people"], value["models"]) == (PEOPLE, MODELS)
    assert value["mean"] == pytest.approx(statistics.fmean(by_hand.values()))


@pytest.mark.parametrize("choose", ["memorised", "forgettable"])
def test_those_of_the_pool_are_chosen_whom_models_memorise_most_or_least(
    pooled: InlineSweep, draft: Path, choose: str
) -> None:
    row = row_of(pooled, "ssd")
    assert row.chosen is not None
    job = changed(pooled.plan.jobs[row.chosen.split_key], choose=choose)
    data.split(context_of(pooled, job, draft))
    chosen = document_of(pooled, pooled.plan.jobs[row.chosen.model_key].inputs["split"])
    random = document_of(pooled, row.split_key)
    memorised = memorised_by_hand(pooled)
    there = [person for person in memorised if person in random["train"]]
    ranked = sorted(there, key=memorised.__getitem__, reverse=choose == "memorised")
    assert len(there) > 2, "somebody is left"
    made = json.loads((draft / "split.json").read_text())
    assert made["forget"] == ranked[:2]
    for name in ("train", "val", "test"):
        assert made[name] == random[name]
    if choose == "memorised":
        assert chosen["forget"] == ranked[:2]


def test_chosen_people_are_forgotten_by_models_of_their_own(
    pooled: InlineSweep, tmp_path: Path
) -> None:
    identity = identity_of_rows(pooled)
    names: tuple[tuple[str, Literal["train", "retain"]], ...]
    names = (("pretrain", "train"), ("retrain", "retain"))
    for name, set_name in names:
        row = row_of(pooled, name).chosen
        assert row is not None
        forget = document_of(pooled, row.split_key)["forget"]
        job = pooled.plan.jobs[row.model_key]
        rows_seen = load_split(context_of(pooled, job, tmp_path)).images(set_name)
        seen = set(identity[rows_seen].tolist())
        assert (set(forget) <= seen) == (name == "pretrain")


def test_a_model_that_left_the_finite_numbers_is_refused(
    pooled: InlineSweep, draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jobs_of(pooled, "examine")[0]
    context = context_of(pooled, job, draft)
    state = load_file(context.entries["weights"].file("weights.safetensors"))
    spoiled = tmp_path / "weights.safetensors"
    save_file({name: torch.full_like(it, torch.nan) for name, it in state.items()}, spoiled)

    class Spoiled:
        def file(self, name: str) -> Path:
            assert name == "weights.safetensors"
            return spoiled

    monkeypatch.setitem(context.entries, "weights", Spoiled())
    with pytest.raises(NumericalError, match="images of the pool have logits that are not finite"):
        likelihood.examine(context)
