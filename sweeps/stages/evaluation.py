"""The last two stages: predictions of a model, and every measure as a function of them.

Runs in a worker; must not import Ray or MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from sweeps.graph.artifacts import (
    ATTRIBUTES,
    FEATURES,
    PEOPLE,
    PER_IDENTITY,
    PLUGINS,
    PREDICTIONS,
    RETAIN,
    ROC,
    SPLIT,
    VIEWS,
    WEIGHTS,
)
from sweeps.stages.context import (
    JobContext,
    device,
    images,
    load_split,
    require_same,
    spec_of,
    stored_model,
)
from sweeps.store import Entry

if TYPE_CHECKING:
    from oneshui.attacks.loss_mia import LossMIA
    from oneshui.attacks.membership import Membership, Paired
    from oneshui.spec import Task


def evaluate(context: JobContext) -> dict[str, Any]:
    """Predictions on every set, losses of views, and the distance to the retrained weights."""
    from safetensors.torch import load_file

    from oneshui.attacks.views import predict_views, sample
    from oneshui.data.splits import SET_NAMES
    from oneshui.metrics.divergence import weight_distance
    from oneshui.seeding import derive_seed
    from oneshui.training.predict import predict

    split, task = load_split(context), context.entries["split"].value["task"]
    model, where = stored_model(context, "weights"), device(context)
    sets = {str(name): images(context, split, name) for name in SET_NAMES}
    predictions = predict(model, sets, task=task, device=where)
    predictions.to_parquet(context.folder / PREDICTIONS, index=False)
    if context.job.spec["views"]:
        seed = spec_of(context.entries["split"])["split_seed"]
        again = context.job.spec.get("evaluation", 0)
        if again:
            seed = derive_seed(seed, "evaluation", again)
        attacked = {name: sets[name] for name in ("forget", "test", "val")}
        attacked["retain"] = sample(sets["retain"], len(sets["test"]), seed)
        predict_views(
            model, attacked, task=task, views=context.job.spec["views"], seed=seed, device=where
        ).to_parquet(context.folder / VIEWS, index=False)
    if context.job.spec["features"]:
        _save_features(context, model)
    weights, retrained = (
        load_file(context.entries[role].file(WEIGHTS)) for role in ("weights", "retrained_weights")
    )
    return {
        "num_images": len(predictions),
        "task": task,
        "weight_distance": weight_distance(weights, retrained),
    }


def _save_features(context: JobContext, model: Any) -> None:
    """Features of the training and support images, what the paper's analyses measure in."""
    import torch
    from safetensors.torch import save_file

    from oneshui.training.models import Features
    from oneshui.training.predict import predict_logits

    split, tensors = load_split(context), {}
    for name in ("train", "support"):
        data = images(context, split, name)
        tensors[f"{name}.features"] = predict_logits(Features(model), data, device=device(context))
        tensors[f"{name}.images"] = torch.from_numpy(data.rows)
        tensors[f"{name}.identities"] = data.identities
    save_file(tensors, context.folder / FEATURES)


def score(context: JobContext) -> dict[str, Any]:
    """Every measure of one row, without a model."""
    from oneshui.attacks.roc import log_log_points
    from oneshui.measures import average_precision_table, loss_attack, measure
    from oneshui.metrics.identities import per_identity

    own = context.entries["predictions"]
    task = own.value["task"]
    predictions, retrained, pretrained = (
        pd.read_parquet(context.entries[role].file(PREDICTIONS))
        for role in ("predictions", "retrained", "pretrained")
    )
    attack = loss_attack(predictions, attack_seed(context))
    values = measure(
        predictions, retrained, pretrained, task=task, attack=attack, further=measures_of(context)
    )
    values |= said_by_measures(context)
    values["weight_distance"] = own.value["weight_distance"]
    values["rmia_references"] = 0
    scores = None
    attacks: list[Membership] = []
    if context.series["references"]:
        found = _membership(context)
        attacks.append(found)
        values |= found.values
        scores, others = found.attack.forget_scores, found.attack.nonmember_scores
        log_log_points(scores, others).to_parquet(context.folder / ROC, index=False)
    values |= judged_people(context, [predictions], [retrained], values, [attack], attacks, task)
    forget, theirs = (part[part["set"] == "forget"] for part in (predictions, retrained))
    table = per_identity(forget, theirs, scores, task=task)
    table.to_parquet(context.folder / PER_IDENTITY, index=False)
    retain = retain_table(predictions, pretrained, task)
    retain.to_parquet(context.folder / RETAIN, index=False)
    if task == "multilabel":
        precisions = average_precision_table(predictions)
        precisions.to_parquet(context.folder / ATTRIBUTES, index=False)
    return values


def attack_seed(context: JobContext) -> int:
    """Seed of the loss attack's forest: the same for all rows of one evaluation."""
    from oneshui.measures import ATTACK_SEED
    from oneshui.seeding import derive_seed

    again = context.job.spec.get("evaluation", 0)
    return derive_seed(ATTACK_SEED, "evaluation", again) if again else ATTACK_SEED


def measures_of(context: JobContext) -> Collection[str]:
    """Keys of the plugins' measures that the job computes.

    Raises:
        InputError: This machine has other code of one than the one that planned the sweep.
    """
    from oneshui.metrics.registry import further_measures

    planned: Mapping[str, str] = context.job.spec.get("measures", {})
    here = further_measures()
    for key, source in planned.items():
        require_same(f"measure {key}", source, here.get(key, "absent"))
    return planned.keys()


def said_by_measures(context: JobContext) -> dict[str, Any]:
    """How the plugins' measures are to be shown, so that a report needs no plugin."""
    from oneshui.metrics.registry import MEASURES

    planned = context.job.spec.get("measures", {})
    shown = {key: MEASURES.get(key).to_json() for key in planned}
    return {PLUGINS: shown} if shown else {}


def _membership(context: JobContext) -> Membership:
    """The relative attack on the row's model."""
    from oneshui.attacks.membership import membership

    references, copies = (
        [views_of(entry) for entry in context.series[role]] for role in ("references", "copies")
    )
    return membership(
        views_of(context.entries["predictions"]), references, paired_of(context), copies
    )


def judged_people(
    context: JobContext,
    predictions: Sequence[pd.DataFrame],
    retrained: Sequence[pd.DataFrame],
    values: Mapping[str, Any],
    votes: Sequence[LossMIA],
    attacks: Sequence[Membership],
    task: Task,
) -> dict[str, float | int | None]:
    """Write measures over resamples of people; how many were judged, and the attacks' intervals.

    Args:
        context: Of the job.
        predictions: Of the row's models, one for each request.
        retrained: Of the retrained model, on the images of each request.
        values: What was measured.
        votes: The loss attack on each model.
        attacks: The relative attack on each model; none where the row was not attacked.
        task: "multilabel" or "multiclass".
    """
    from oneshui.metrics.resampling import interval, resampled

    drawn = resampled(
        predictions,
        retrained,
        task=task,
        retain_gap=values["retain_gap"],
        votes=[attack.votes for attack in votes if attack.votes is not None],
        membership=[(a.attack.forget_scores, a.attack.nonmember_scores) for a in attacks],
        fpr=values.get("rmia_fpr"),
    )
    drawn.to_parquet(context.folder / PEOPLE, index=False)
    found: dict[str, float | int | None] = {}
    for name, tables in (("forget", predictions), ("test", predictions[:1])):
        identities = pd.concat([table.loc[table["set"] == name, "identity"] for table in tables])
        found |= {f"{name}_people": identities.nunique(), f"{name}_images": len(identities)}
    fewest = min(int(found[f"{name}_people"] or 0) for name in ("forget", "test"))
    for name in ("mia_auc", "rmia_auc", "rmia_tpr"):
        value = values.get(name)
        ends = None if value is None else interval(value, drawn[name], fewest)
        found[f"{name}_low"], found[f"{name}_high"] = ends or (None, None)
    return found


def paired_of(context: JobContext) -> Paired | None:
    """What the attack is tuned on: the retrained models of this split and of another."""
    from oneshui.attacks.membership import Paired

    if "paired" not in context.entries:
        return None
    other = context.entries["paired_split"].file(SPLIT).read_text(encoding="utf-8")
    return Paired(
        target=views_of(context.entries["retrained"]),
        reference=views_of(context.entries["paired"]),
        seen=set(json.loads(other)["retain"]),
    )


def retain_table(predictions: pd.DataFrame, pretrained: pd.DataFrame, task: Task) -> pd.DataFrame:
    """How those who stay fare: score, that of the pretrained model, and the drop, by identity."""
    from oneshui.metrics.identities import per_identity

    retain, before = (part[part["set"] == "retain"] for part in (predictions, pretrained))
    identities = per_identity(retain, before, task=task)
    identities = identities.rename(columns={"retrained_score": "pretrained_score"})
    identities["drop"] = identities["pretrained_score"] - identities["score"]
    return identities[["identity", "images", "score", "pretrained_score", "drop"]]


def views_of(evaluated: Entry) -> pd.DataFrame:
    """Losses of views under an evaluated model."""
    return pd.read_parquet(evaluated.file(VIEWS))
