"""How a running job asks a method to unlearn the people of a cell.

The unlearn job and the jobs of a study must ask alike: what a study finds good is what the row
then gets. Runs in a worker; must not import Ray or MLflow.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oneshui.errors import InputError
from oneshui.seeding import derive_seed
from sweeps.graph.artifacts import PREPARED, SUPPORT
from sweeps.stages.context import JobContext, device, new_model, stored_model

if TYPE_CHECKING:
    import torch

    from oneshui.data.images import LabelledImages
    from oneshui.methods import Method
    from oneshui.requests import FullAccessRequest, UnlearnRequest


def method_of(context: JobContext, varied: Mapping[str, Any] | None = None) -> Method:
    """The job's method.

    Args:
        context: Of a job whose spec names the method, its code and its hyperparameters.
        varied: Those that a study has found or tries.

    Raises:
        InputError: This machine has other code of the method than the one that planned the sweep.
    """
    from oneshui import methods

    spec = context.job.spec
    method = methods.build(spec["method"], {**spec["hyperparameters"], **(varied or {})})
    if methods.source_of(type(method)) != spec["source"]:
        raise InputError(
            f"the code of method {spec['method']} on the machine {socket.gethostname()} is not "
            "that which the sweep was planned with; install the same on every machine, and run "
            "the same command again"
        )
    return method


def prepared_state(context: JobContext) -> dict[str, torch.Tensor]:
    """What the method prepared before deletion, by name; empty if it prepares nothing."""
    from safetensors.torch import load_file

    if "prepared" not in context.entries:
        return {}
    return load_file(context.entries["prepared"].file(PREPARED))


def real_request(context: JobContext, unlearning_seed: int) -> UnlearnRequest:
    """The request of the cell's real S, which opens no picture of the training data.

    Args:
        context: Of a job whose spec names model and method.
        unlearning_seed: The cell's; a study's job has those of several cells among its inputs.
    """
    from safetensors.torch import load_file

    from oneshui.requests import SupportSet, UnlearnRequest

    return UnlearnRequest(
        model=stored_model(context, "pretrained"),
        task=context.entries["split"].value["task"],
        seed=derive_seed(unlearning_seed, context.job.spec["method"], "unlearn"),
        device=device(context),
        support=SupportSet(**load_file(context.entries["split"].file(SUPPORT))),
        prepared=prepared_state(context),
    )


def full_access_request(
    context: JobContext,
    request: UnlearnRequest,
    *,
    forget: LabelledImages,
    retain: LabelledImages,
    val: LabelledImages,
) -> FullAccessRequest:
    """The same request for a reference row, which is handed the training data as well.

    Args:
        context: Of a job whose spec gives model, training recipe and training seed.
        request: What a one-shot method would be asked.
        forget: D_f, or what stands for it in a simulated request.
        retain: D_r, likewise.
        val: D_v.
    """
    from oneshui.requests import FullAccessRequest
    from oneshui.spec import TrainingSpec

    spec = context.job.spec
    return FullAccessRequest(
        **{field.name: getattr(request, field.name) for field in dataclasses.fields(request)},
        forget=forget,
        retain=retain,
        val=val,
        training=TrainingSpec(**spec["training"]),
        fresh_model=new_model(context, derive_seed(spec["training_seed"], 0)),
    )
