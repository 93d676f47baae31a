"""What a method computes before deletion, and unlearning after it."""

from __future__ import annotations

from typing import Any

from oneshui.errors import NumericalError
from oneshui.seeding import derive_seed
from sweeps.graph.artifacts import PREPARED, WEIGHTS
from sweeps.graph.job import PICTURES
from sweeps.stages.context import JobContext, images, load_split, model_of, pictures
from sweeps.stages.one_shot import Preparation, prepared, unlearned
from sweeps.stages.requests import full_access_request, handed_in_earnest, method_of


def prepare(context: JobContext) -> dict[str, Any]:
    """What a method computes while the training data still exist."""
    from safetensors.torch import save_file

    from oneshui.preparation import refuse_pictures

    spec = context.job.spec
    method = method_of(context)
    split = load_split(context)
    handed = Preparation(
        model=model_of(context, "pretrained"),
        task=context.entries["split"].value["task"],
        seed=derive_seed(spec["unlearning_seed"], spec["method"], "prepare"),
        pictures=pictures(context),
        train=split.images("train"),
        val=split.images("val"),
        train_identities=split.train,
        num_forget=spec["num_forget"],
        checkpoint_seconds=context.env.checkpoint_seconds,
    )
    kit = prepared(context, method, handed)
    for name, tensor in kit.items():
        if not tensor.isfinite().all():
            raise NumericalError(
                f"{spec['method']} prepared {name} with values that are not finite"
            )
    train = handed.pictures.select(handed.train)
    refuse_pictures(kit, method.name, train, handed.model.load())
    save_file(kit, context.folder / PREPARED)
    return {"tensors": len(kit)}


def unlearn(context: JobContext) -> dict[str, Any]:
    """After deletion: a one-shot method's inputs are weights, S and its own preparation."""
    from safetensors.torch import save_file

    from oneshui.spec import Access
    from oneshui.training.models import save_weights

    spec = context.job.spec
    tuned = context.entries["tuned"].value["hyperparameters"] if "tuned" in context.entries else {}
    method = method_of(context, tuned)
    handed = handed_in_earnest(context, spec["unlearning_seed"])
    if method.access is Access.FULL:
        split = load_split(context)
        request = full_access_request(
            context,
            handed.request(),
            forget=images(context, split, "forget"),
            retain=images(context, split, "retain"),
            val=images(context, split, "val"),
        )
        model = context.timed("method_seconds", lambda: method.unlearn(request))
        save_weights(model, context.folder / WEIGHTS)
    else:
        assert not context.entries.keys() & PICTURES
        (state,) = unlearned(context, method, [handed])
        if isinstance(state, NumericalError):
            raise state
        save_file(state, context.folder / WEIGHTS)
    return {"hyperparameters": tuned} if tuned else {}
