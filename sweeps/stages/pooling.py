"""The score of a row whose cell stands for several requests, each with a model of its own.

Runs in a worker; must not import Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sweeps.graph.artifacts import ATTRIBUTES, PER_IDENTITY, PREDICTIONS, RETAIN, ROC
from sweeps.stages import evaluation
from sweeps.stages.context import JobContext
from sweeps.stages.evaluation import judged_people, paired_of, retain_table, views_of

if TYPE_CHECKING:
    from oneshui.attacks.membership import Membership
    from sweeps.store import Entry


def score(context: JobContext) -> dict[str, Any]:
    """Every measure of one row, without a model: of one request, or of several as one."""
    if "predictions" in context.entries:
        return evaluation.score(context)
    from oneshui.attacks.roc import log_log_points
    from oneshui.measures import loss_attack, measure_requests
    from oneshui.metrics.identities import per_identity
    from oneshui.metrics.pooled import averaged, forget_images, joined, of_request

    own = context.series["predictions"]
    task = own[0].value["task"]
    retrained, pretrained = (
        pd.read_parquet(context.entries[role].file(PREDICTIONS))
        for role in ("retrained", "pretrained")
    )
    requests = [_predictions(entry, retrained) for entry in own]
    seed = evaluation.attack_seed(context)
    votes = [loss_attack(request, seed) for request in requests]
    values = measure_requests(
        requests,
        retrained,
        pretrained,
        task=task,
        attacks=votes,
        further=evaluation.measures_of(context),
    )
    values |= evaluation.said_by_measures(context)
    values |= averaged([{"weight_distance": one.value["weight_distance"]} for one in own])
    values["rmia_references"] = 0
    scores, attacks = None, _attacks(context)
    if attacks:
        values |= averaged([found.values for found in attacks], forget_images(requests))
        # A score is a share of the population under the same model: those of several models agree.
        scores, others = (
            np.concatenate([getattr(found.attack, name) for found in attacks])
            for name in ("forget_scores", "nonmember_scores")
        )
        log_log_points(scores, others).to_parquet(context.folder / ROC, index=False)
    each = [of_request(retrained, request) for request in requests]
    values |= judged_people(context, requests, each, values, votes, attacks, task)
    predictions, theirs = joined(retrained, requests), joined(retrained, each)
    forget, theirs = (part[part["set"] == "forget"] for part in (predictions, theirs))
    people = per_identity(forget, theirs, scores, task=task)
    people.to_parquet(context.folder / PER_IDENTITY, index=False)
    tables = [retain_table(request, pretrained, task) for request in requests]
    _mean_of(tables, ["identity"]).to_parquet(context.folder / RETAIN, index=False)
    if task == "multilabel":
        _attributes(requests, predictions).to_parquet(context.folder / ATTRIBUTES, index=False)
    return values


def _predictions(entry: Entry, retrained: pd.DataFrame) -> pd.DataFrame:
    """Of one request's model; the labels are held once for all, being half of what is stored."""
    from oneshui.metrics.pooled import of_request

    columns = ["set", "image", "identity", "loss", "logits"]
    found = pd.read_parquet(entry.file(PREDICTIONS), columns=columns)
    return found.assign(label=of_request(retrained, found)["label"].to_numpy())


def _attacks(context: JobContext) -> list[Membership]:
    """The relative attack on every request's model; none where the row is a reference."""
    from oneshui.attacks.membership import membership
    from oneshui.metrics.pooled import of_request

    shared = [views_of(entry) for entry in context.series["references"]]
    copies = [views_of(entry) for entry in context.series["copies"]]
    paired = paired_of(context)
    found = []
    for number, entry in enumerate(context.series["predictions"] if shared else ()):
        target = views_of(entry)
        references = [of_request(views, target) for views in shared]
        found.append(membership(target, references, paired, copies[number : number + 1]))
    return found


def _attributes(requests: Sequence[pd.DataFrame], joined: pd.DataFrame) -> pd.DataFrame:
    """AP of every attribute: of all requests' forget and support images, else the models' mean."""
    from oneshui.measures import average_precision_table
    from oneshui.metrics.pooled import OF_A_REQUEST

    others = [request[~request["set"].isin(OF_A_REQUEST)] for request in requests]
    means = _mean_of([average_precision_table(part) for part in others], ["set", "attribute"])
    own = average_precision_table(joined[joined["set"].isin(OF_A_REQUEST)])
    return pd.concat([means, own], ignore_index=True)


def _mean_of(tables: Sequence[pd.DataFrame], keys: list[str]) -> pd.DataFrame:
    """The mean of tables about the same things, in the order of the first."""
    means = pd.concat(tables).groupby(keys, sort=False).mean().reset_index()
    return means.astype({name: tables[0][name].dtype for name in tables[0]})[list(tables[0])]
