"""The starting weights, brought into the store once for all trainings and machines."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

from oneshui.errors import InputError
from sweeps.graph.artifacts import WEIGHTS
from sweeps.graph.job import Job
from sweeps.stages.context import JobContext, model_spec
from sweeps.store import DamagedEntryError, Store
from sweeps.store.base import sha256


def weights(context: JobContext) -> dict[str, Any]:
    """The user's file, named or timm's own weights; value: which weights those are.

    Raises:
        InputError: They cannot be had, or do not fit the network.
    """
    from safetensors.torch import save_file

    from oneshui.named_weights import NAMED
    from oneshui.spec import ModelSpec
    from oneshui.training.converted import converted
    from oneshui.training.models import (
        imagenet_model,
        imagenet_origin,
        make_model,
        save_weights,
    )

    spec, target = context.job.spec, context.folder / WEIGHTS
    if "is_pretrained" in spec:
        return _whole(context, target)
    if "content" not in spec:
        model = ModelSpec(**spec["model"])  # timm's: it has no code of the user's
        origin = imagenet_origin(model.name)
        save_weights(imagenet_model(model), target)
        return {"origin": origin}
    if spec["model"]["weights"] in NAMED:
        save_file(converted(NAMED[spec["model"]["weights"]]), target)
    else:
        file = context.env.weights_file
        assert file is not None
        _copy(file, "sweep.model.weights", context, target)
    # Whether it fits does not depend on a dataset's classes: it need not bring a classifier.
    make_model(model_spec(context.job, context.env.weights_file or target), 1, seed=0)
    return {"origin": spec["content"]}


def _whole(context: JobContext, target: Path) -> dict[str, Any]:
    """A model that exists, by its network's own names, held to network and dataset."""
    from oneshui.training.models import load_whole, make_model, save_weights

    content = context.job.spec["content"]
    file = context.env.pretrained_files[content]
    _copy(file, "sweep.pretrained", context, target)
    num_outputs = len(context.entries["index"].value["class_names"])
    model = make_model(model_spec(context.job), num_outputs, seed=0)
    save_weights(load_whole(model, file, "sweep.pretrained"), target)
    return {"origin": content}


def _copy(file: Path, key: str, context: JobContext, target: Path) -> None:
    """The user's file, which is still the one that was planned with."""
    try:
        shutil.copyfile(file, target)
    except OSError as error:
        raise InputError(
            f"the machine {socket.gethostname()} cannot read {key} {file} "
            f"({error.strerror}); put the file there too, or run the same command where it is"
        ) from None
    if sha256(target) != context.job.spec["content"]:
        raise InputError(f"{key} {file} changed while the sweep ran; run the same command again")


def are_current(store: Store, job: Job) -> bool:
    """Whether the store has the weights of the job, and timm still means the same by their name.

    Args:
        store: Where results are.
        job: From ``sweeps.graph.cells.weights_job``.
    """
    from oneshui.training.models import imagenet_origin

    try:
        entry = store.find(job.stage, job.key)
    except DamagedEntryError:
        return False
    if entry is None:
        return False
    return "content" in job.spec or entry.value["origin"] == imagenet_origin(
        job.spec["model"]["name"]
    )
