"""Probes of one model: it is taught again about the people who asked, and asked to recognise them.

Runs in a worker, after deletion and after the methods: must not import Ray or MLflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from oneshui.errors import NumericalError
from sweeps.stages.context import (
    JobContext,
    device,
    images,
    load_split,
    pictures,
    spec_of,
    stored_model,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import nn

    from oneshui.audits.reidentification import Recognition
    from oneshui.data.images import LabelledImages


def probe(context: JobContext) -> dict[str, Any]:
    """What comes back of a request's people in one model, and who of them is recognised.

    Which pictures are shown depends on the request alone: all models of a cell see the same.

    Returns:
        "times" (steps); "curves" by lesson (scores in [0, 1] at these times; null where they cannot
        be); "heights" (``oneshui.audits.relearning.resampled_heights`` of the lesson with the most
        pictures); "taught" by lesson, and "asked" (pictures); "support_score" (in [0, 1]; null
        where no picture of S shows any attribute); "forgotten" and "retained"
        (``oneshui.audits.reidentification.Recognition``; null where nobody can be shown); and
        "strangers" (people).
    """
    from oneshui.audits.hiding import TIMES
    from oneshui.audits.relearning import (
        MOST_TAUGHT,
        curve_of,
        lessons,
        relearn,
        resampled_heights,
    )
    from oneshui.spec import TrainingSpec

    split, task = load_split(context), context.entries["split"].value["task"]
    seed, where = spec_of(context.entries["split"])["split_seed"], device(context)
    model = stored_model(context, "weights")
    # Fields of the recipe that only say how long a training is have no part in it.
    recipe = TrainingSpec(**context.job.spec["recipe"])
    support = images(context, split, "support")
    taught = lessons(images(context, split, "forget"), support, seed)
    answers = {
        name: relearn(model, lesson, taught.asked, recipe, task=task, seed=seed, device=where)
        for name, lesson in taught.taught.items()
    }
    return {
        "times": list(TIMES),
        "curves": {name: curve_of(own, taught.asked, task) for name, own in answers.items()},
        "heights": resampled_heights(answers[MOST_TAUGHT], taught.asked, task),
        "taught": {name: len(lesson) for name, lesson in taught.taught.items()},
        "asked": len(taught.asked),
        "support_score": _score(context, model, support),
        **_recognised(context, model, seed),
    }


def _score(context: JobContext, model: nn.Module, shown: LabelledImages) -> float | None:
    from oneshui.metrics.scores import score
    from oneshui.training.predict import predict_logits

    task = context.entries["split"].value["task"]
    if task == "multilabel" and not bool(shown.labels.any()):
        return None
    return score(predict_logits(model, shown, device=device(context)), shown.labels, task)


def _recognised(context: JobContext, model: nn.Module, seed: int) -> dict[str, Any]:
    """Who is recognised among pictures of strangers: the forgotten by S, others by one picture."""
    from oneshui.audits.reidentification import looked_at, recognise

    split = load_split(context)
    looked = looked_at(
        context.identities,
        split.images("retain"),
        split.images("test"),
        num_forget=len(split.forget),
        seed=seed,
    )

    def found(own: npt.NDArray[np.int64], probes: npt.NDArray[np.int64]) -> dict[str, Any] | None:
        if len(probes) == 0 or len(own) + len(looked.strangers) < 2:
            return None
        gallery = np.concatenate([own, looked.strangers])
        known: Recognition = recognise(
            _features(context, model, gallery),
            context.identities[gallery],
            _features(context, model, probes),
            context.identities[probes],
        )
        return known.to_json()

    return {
        "forgotten": found(split.images("support"), split.images("forget")),
        "retained": found(looked.retained, looked.probes),
        "strangers": len(looked.strangers),
    }


def _features(
    context: JobContext, model: nn.Module, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Last features of some images, float32 [n, D].

    Raises:
        NumericalError: One is not finite.
    """
    from oneshui.training.models import Features
    from oneshui.training.predict import predict_logits

    shown = pictures(context).select(rows)
    features = predict_logits(Features(model), shown, device=device(context))
    if not features.isfinite().all():
        raise NumericalError(
            f"{int((~features.isfinite()).any(dim=1).sum())} of {len(shown)} images have features "
            "that are not finite: the unlearning step was too large"
        )
    found: npt.NDArray[np.float32] = features.numpy()
    return found
