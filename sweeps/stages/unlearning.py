"""What a method computes before deletion, and unlearning after it."""

from __future__ import annotations

from typing import Any

from oneshui.errors import NumericalError
from sweeps.graph.artifacts import (
    PREPARED,
    WEIGHTS,
)
from sweeps.graph.job import PICTURES
from sweeps.stages.context import (
    JobContext,
    device,
    images,
    load_split,
    stored_model,
)
from sweeps.stages.requests import full_access_request, method_of, real_request
from sweeps.store.checkpoints import PacedPrepareCheckpoint


def prepare(context: JobContext) -> dict[str, Any]:
    """What a method computes while the training data still exist."""
    from safetensors.torch import save_file

    from oneshui import methods
    from oneshui.requests import PrepareRequest
    from oneshui.seeding import derive_seed

    spec = context.job.spec
    method = method_of(context)
    split = load_split(context)
    request = PrepareRequest(
        model=stored_model(context, "pretrained"),
        task=context.entries["split"].value["task"],
        seed=derive_seed(spec["unlearning_seed"], spec["method"], "prepare"),
        device=device(context),
        train=images(context, split, "train"),
        val=images(context, split, "val"),
        train_identities=split.train,
        num_forget=spec["num_forget"],
        checkpoint=PacedPrepareCheckpoint(
            context.env.store.checkpoint(context.job, context.contents),
            context.env.checkpoint_seconds,
        ),
    )
    assert isinstance(method, methods.PreparedMethod)
    prepared = context.timed("method_seconds", lambda: method.prepare(request))
    for name, tensor in prepared.items():
        if not tensor.isfinite().all():
            raise NumericalError(
                f"{spec['method']} prepared {name} with values that are not finite"
            )
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in prepared.items()},
        context.folder / PREPARED,
    )
    return {"tensors": len(prepared)}


def unlearn(context: JobContext) -> dict[str, Any]:
    """After deletion: a one-shot method's inputs are weights, S and its own preparation."""
    from oneshui.deletion import deleted
    from oneshui.spec import Access
    from oneshui.training.models import save_weights

    spec = context.job.spec
    tuned = context.entries["tuned"].value["hyperparameters"] if "tuned" in context.entries else {}
    method = method_of(context, tuned)
    request = real_request(context, spec["unlearning_seed"])
    if method.access is Access.FULL:
        split = load_split(context)
        request = full_access_request(
            context,
            request,
            forget=images(context, split, "forget"),
            retain=images(context, split, "retain"),
            val=images(context, split, "val"),
        )
        model = context.timed("method_seconds", lambda: method.unlearn(request))
    else:
        assert not context.entries.keys() & PICTURES
        with deleted(context.env.training_data, method.name):
            model = context.timed("method_seconds", lambda: method.unlearn(request))
    save_weights(model, context.folder / WEIGHTS)
    return {"hyperparameters": tuned} if tuned else {}
