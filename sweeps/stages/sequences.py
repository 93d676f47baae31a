"""What became of the models of a chain of requests, from stored predictions and weights.

Runs in a worker; must not import Ray or MLflow.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from oneshui.errors import InputError
from sweeps.graph.artifacts import PREDICTIONS, SPLIT, WEIGHTS
from sweeps.stages.context import JobContext
from sweeps.store import Entry

if TYPE_CHECKING:
    from oneshui.spec import Task


@dataclass(frozen=True, kw_only=True)
class _Time:
    """One time at which a chain is looked at; the names are those of ``oneshui.metrics.sequence``.

    Attributes:
        forgotten: The people who have asked so far.
        model: Predictions of theta_t on the cell's sets.
        retrained: Predictions of R_t.
        drift: Of the weights.
    """

    forgotten: frozenset[int]
    model: pd.DataFrame
    retrained: pd.DataFrame
    drift: float | None


def sequence(context: JobContext) -> dict[str, Any]:
    """Every measure of one chain, at the times when it is compared with a retrained model.

    Returns:
        Lists by time: "times" (people forgotten), "tow", "tow_nothing" (of the pretrained model),
        "tow_mean" (of the times so far), "forget_gap", "erosion", "erosion_test", "erosion_val",
        "retain_lost" and "drift". "reversal" holds for every time but the first those of all groups
        of people that were forgotten before, a group being who asked since the time before.
        "noise_floor" is null without a model that was retrained again, and then so is "survived"
        (people). "mia_first" is the AUC of the loss attack on the first group at the end,
        "mia_first_retrained" the same on the retrained model.
    """
    from oneshui.measures import loss_attack
    from oneshui.metrics.sequence import cumulative, erosion, lost, of_people, survived
    from oneshui.metrics.tow import tow

    task = context.entries["split"].value["task"]
    pretrained = _predictions(context.entries["pretrained"])
    times = _times(context)
    own, theirs, before = (
        [_scores(table, time.forgotten, task) for table, time in zip(tables, times, strict=True)]
        for tables in (
            [time.model for time in times],
            [time.retrained for time in times],
            [pretrained] * len(times),
        )
    )
    pairs = list(zip(own, theirs, strict=True))
    tows = list(itertools.starmap(tow, pairs))
    nothing = list(map(tow, before, theirs))
    eroded = {name: [erosion(*pair, name) for pair in pairs] for name in ("retain", "test", "val")}
    losses = [lost(*each, "retain") for each in zip(own, before, theirs, strict=True)]
    people = [len(time.forgotten) for time in times]
    floor = _noise_floor(context, times[-1], task)
    first, last = times[0].forgotten, times[-1]
    return {
        "times": people,
        "tow": tows,
        "tow_nothing": nothing,
        "tow_mean": cumulative(tows),
        "forget_gap": [one["forget"] - other["forget"] for one, other in pairs],
        "erosion": eroded["retain"],
        "erosion_test": eroded["test"],
        "erosion_val": eroded["val"],
        "retain_lost": losses,
        "drift": [time.drift for time in times],
        "reversal": _reversals(times, pretrained, task),
        "noise_floor": floor,
        "survived": None if floor is None else survived(people, tows, nothing, losses, floor),
        "mia_first": loss_attack(of_people(last.model, first)).auc,
        "mia_first_retrained": loss_attack(of_people(last.retrained, first)).auc,
    }


def _times(context: JobContext) -> list[_Time]:
    from safetensors.torch import load_file

    from oneshui.metrics.sequence import drift

    roles = ("asked", "predictions", "retrained", "weights", "retrained_weights")
    before = load_file(context.entries["pretrained_weights"].file(WEIGHTS))
    found = []
    for asked, model, retrained, weights, goal in zip(
        *(context.series[role] for role in roles), strict=True
    ):
        document = json.loads(asked.file(SPLIT).read_text(encoding="utf-8"))
        now, then = (load_file(entry.file(WEIGHTS)) for entry in (weights, goal))
        found.append(
            _Time(
                forgotten=frozenset(document["forget"]),
                model=_predictions(model),
                retrained=_predictions(retrained),
                drift=drift(now, before, then),
            )
        )
    return found


def _predictions(entry: Entry) -> pd.DataFrame:
    return pd.read_parquet(entry.file(PREDICTIONS))


def _scores(predictions: pd.DataFrame, forgotten: Collection[int], task: Task) -> dict[str, float]:
    from oneshui.measures import set_scores
    from oneshui.metrics.sequence import at_time

    return set_scores(at_time(predictions, forgotten), task)


def _noise_floor(context: JobContext, last: _Time, task: Task) -> float | None:
    """What the ToW of another model, retrained just as the last reference was, is short of 1."""
    from oneshui.metrics.tow import tow

    if "again" not in context.entries:
        return None
    again = _predictions(context.entries["again"])
    return 1 - tow(*(_scores(one, last.forgotten, task) for one in (again, last.retrained)))


def _reversals(
    times: Sequence[_Time], pretrained: pd.DataFrame, task: Task
) -> list[list[float | None]]:
    """The triangle: by time but the first, of every group that was forgotten before it."""
    from oneshui.metrics.sequence import reversal

    found: list[list[float | None]] = [[] for _ in times[1:]]
    gone: frozenset[int] = frozenset()
    for place, time in enumerate(times):
        group, gone = time.forgotten - gone, time.forgotten
        just_after, before = (_score(table, group, task) for table in (time.model, pretrained))
        for line, later in zip(found[place:], times[place + 1 :], strict=True):
            now, goal = (_score(table, group, task) for table in (later.model, later.retrained))
            share = reversal(now, just_after, before, goal)
            line.append(None if share is None or math.isnan(share) else share)
    return found


def _score(predictions: pd.DataFrame, people: Collection[int], task: Task) -> float:
    """On the pictures of some of the forgotten; NaN where no such picture shows any attribute."""
    from oneshui.measures import set_scores
    from oneshui.metrics.sequence import of_people

    chosen = of_people(predictions, people)
    try:
        return set_scores(chosen[chosen["set"] == "forget"], task)["forget"]
    except InputError:
        return math.nan
