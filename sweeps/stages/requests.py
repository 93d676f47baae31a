"""How a running job asks a method to unlearn the people of a cell.

The unlearn job and the jobs of a study must ask alike: what a study finds good is what the row
then gets. Runs in a worker; must not import Ray or MLflow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneshui.seeding import derive_seed
from sweeps.graph.artifacts import PREPARED, SUPPORT
from sweeps.stages.context import JobContext, StoredModel, model_of, new_model, require_same

if TYPE_CHECKING:
    from torch import nn

    from oneshui.data.images import LabelledImages
    from oneshui.methods import Method
    from oneshui.requests import FullAccessRequest, SupportSet, UnlearnRequest
    from oneshui.spec import Task


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
    here = methods.source_of(type(method))
    require_same(f"method {spec['method']}", spec["source"], here)
    return method


@dataclass(frozen=True, kw_only=True)
class Handed:
    """All that a one-shot method is handed, not read yet; holds no way to anything else.

    Attributes:
        model: The pretrained model.
        task: "multilabel" or "multiclass".
        seed: Of everything random.
        support: S, or the file of it.
        prepared: File of what the method prepared; None if it prepares nothing.
        in_steps_of: People who ask at a time; None where all ask at once.
    """

    model: StoredModel
    task: Task
    seed: int
    support: Path | SupportSet
    prepared: Path | None
    in_steps_of: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What has to be read."""
        found = (self.model.weights, self.support, self.prepared)
        return tuple(path for path in found if isinstance(path, Path))

    def request(self) -> UnlearnRequest:
        """The request, which opens no picture of the training data."""
        import torch
        from safetensors.torch import load_file

        from oneshui.requests import SupportSet, UnlearnRequest

        support = self.support
        return UnlearnRequest(
            model=self.model.load(),
            task=self.task,
            seed=self.seed,
            device=torch.device(self.model.device),
            support=SupportSet(**load_file(support)) if isinstance(support, Path) else support,
            prepared=load_file(self.prepared) if self.prepared else {},
        )


def handed(context: JobContext, seed: int, support: SupportSet | None = None) -> Handed:
    """What the job's method is handed.

    Args:
        context: Of a job whose spec names model and method.
        seed: Of everything random.
        support: The support set of a simulated request; None for the cell's real S.
    """
    prepared = context.entries.get("prepared")
    return Handed(
        model=model_of(context, "pretrained"),
        task=context.entries["split"].value["task"],
        seed=seed,
        support=context.entries["split"].file(SUPPORT) if support is None else support,
        prepared=None if prepared is None else prepared.file(PREPARED),
        in_steps_of=context.job.spec.get("in_steps_of"),
    )


def handed_in_earnest(context: JobContext, unlearning_seed: int) -> Handed:
    """What the method is handed for the cell's real S.

    Args:
        context: As above.
        unlearning_seed: The cell's; a study's job has those of several cells among its inputs.
    """
    seed = derive_seed(unlearning_seed, context.job.spec["method"], "unlearn")
    return handed(context, seed)


def unlearned_as_asked(
    method: Method, request: UnlearnRequest, in_steps_of: int | None = None
) -> nn.Module:
    """What the method makes of a request, served as a whole or so many people at a time."""
    from oneshui.tuning.in_steps import unlearned_in_steps

    if in_steps_of is None:
        return method.unlearn(request)
    return unlearned_in_steps(method, request, in_steps_of)


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
