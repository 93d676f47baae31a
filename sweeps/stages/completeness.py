"""How complete forgetting is, from stored predictions.

Runs in a worker; must not import Ray or MLflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.seeding import torch_generator
from sweeps.graph.artifacts import COMPLETENESS, PREDICTIONS
from sweeps.stages.context import JobContext, device, images, load_split, model_spec
from sweeps.store import Entry

if TYPE_CHECKING:
    from oneshui.spec import Task


def untrained(context: JobContext) -> dict[str, Any]:
    """Predictions of a network of random weights on the forget set; value: how many images."""
    from oneshui.methods._distillation import random_teacher
    from oneshui.training.models import make_model
    from oneshui.training.predict import predict

    split, found = load_split(context), context.entries["split"].value
    spec, seed = model_spec(context.job), context.job.spec["seed"]
    model = random_teacher(
        make_model(spec, found["num_outputs"], 0), torch_generator(seed, "untrained")
    )
    where = device(context)
    sets = {"forget": images(context, split, "forget")}
    predictions = predict(model.to(where), sets, task=found["task"], device=where)
    predictions.to_parquet(context.folder / PREDICTIONS, index=False)
    return {"num_images": len(predictions), "task": found["task"]}


def completeness(context: JobContext) -> dict[str, Any]:
    """Completeness of every person, and the cheap measures that other benchmarks print.

    Returns:
        "completeness", the mean over people, with "completeness_low", "completeness_high",
        "completeness_people", "completeness_images" and "completeness_models" (which never saw
        them); None where every other model of the cell has seen them. "zrf", "rf_js",
        "activation_forget", "activation_test", "same_forget" and "same_test" are those of
        ``oneshui.metrics.likeness``. ``COMPLETENESS`` holds a line per person: "identity",
        "images", "completeness".
    """
    from oneshui.metrics.pooled import joined, of_request

    retrained, pretrained, blank = (
        _predictions(context.entries[role]) for role in ("retrained", "pretrained", "untrained")
    )
    task = context.entries["pretrained"].value["task"]
    requests = [_predictions(entry) for entry in context.series["predictions"]]
    strangers = [_predictions(entry) for entry in context.series["strangers"]]
    own = requests[0] if len(requests) == 1 else joined(retrained, requests)

    def beside(shared: pd.DataFrame) -> pd.DataFrame:
        """The same images in the order of the row's own."""
        if len(requests) == 1:
            return shared
        return joined(shared, [of_request(shared, request) for request in requests])

    values = _likeness(own, beside(retrained), pretrained, _forget(blank), task)
    return values | _completeness(
        context,
        _forget(own),
        _forget(beside(pretrained)),
        [_forget(beside(stranger)) for stranger in strangers],
        task,
    )


def _likeness(
    own: pd.DataFrame,
    retrained: pd.DataFrame,
    pretrained: pd.DataFrame,
    blank: pd.DataFrame,
    task: Task,
) -> dict[str, float | None]:
    from oneshui.metrics.likeness import activation_distance, class_divergence, same_answers, zrf

    found: dict[str, float | None] = {}
    for name in ("forget", "test"):
        first, second = (_logits(table[table["set"] == name]) for table in (own, retrained))
        found[f"activation_{name}"] = float(activation_distance(first, second, task).mean())
        found[f"same_{name}"] = float(same_answers(first, second, task).mean())
    forget, unseen = _forget(own), pretrained[pretrained["set"] == "test"]
    said = blank.set_index("image").loc[forget["image"]]
    found["zrf"] = zrf(_logits(forget), _logits(said), task)
    found["rf_js"] = class_divergence(
        _logits(forget), _labels(forget), _logits(unseen), _labels(unseen), task
    )
    return found


def _completeness(
    context: JobContext,
    own: pd.DataFrame,
    pretrained: pd.DataFrame,
    strangers: list[pd.DataFrame],
    task: Task,
) -> dict[str, float | int | None]:
    from oneshui.audits.completeness import of_people
    from oneshui.metrics.margin import logit_margins

    counts: dict[str, float | int | None] = {
        "completeness_people": own["identity"].nunique(),
        "completeness_images": len(own),
        "completeness_models": len(strangers),
    }
    if not strangers:
        return counts | dict.fromkeys(_ENDS)

    def margins(table: pd.DataFrame) -> npt.NDArray[np.float64]:
        return logit_margins(_logits(table), _labels(table), task)

    found = of_people(
        margins(own), margins(pretrained), np.stack(list(map(margins, strangers))), own["identity"]
    )
    found.people.to_parquet(context.folder / COMPLETENESS, index=False)
    low, high = found.interval or (None, None)
    return counts | dict(zip(_ENDS, (found.mean, low, high), strict=True))


_ENDS = ("completeness", "completeness_low", "completeness_high")


def _predictions(entry: Entry) -> pd.DataFrame:
    return pd.read_parquet(entry.file(PREDICTIONS))


def _forget(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["set"] == "forget"]


def _logits(table: pd.DataFrame) -> npt.NDArray[Any]:
    return np.stack(table["logits"].to_list())


def _labels(table: pd.DataFrame) -> npt.NDArray[Any]:
    return np.stack(table["label"].to_list())
