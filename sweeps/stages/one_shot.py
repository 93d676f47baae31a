"""Methods' code behind walls: what a stage hands over, and what the enclosed process does with it.

The functions that run there are handed values and names of files, never a job's view of the world,
so that neither the store nor another set can be found from where the method's code runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from oneshui.errors import MethodError, NumericalError
from oneshui.seeding import seed_shared
from sweeps.stages.context import JobContext, Pictures, StoredModel
from sweeps.stages.memory import measured
from sweeps.stages.requests import Handed, unlearned_as_asked
from sweeps.store.checkpoints import Checkpoint, PacedPrepareCheckpoint

if TYPE_CHECKING:
    import torch

    from oneshui.enclosure import Walls
    from oneshui.methods import Method
    from oneshui.spec import Task
    from oneshui.training.train import TrainingState

State = dict[str, "torch.Tensor"]


def unlearned(
    context: JobContext, method: Method, asked: Sequence[Handed]
) -> list[State | NumericalError]:
    """As ``unlearned_behind_walls``; costs are noted.

    Args:
        context: Of the job.
        method: With its hyperparameters.
        asked: One or more requests.
    """
    results, cost, protection = unlearned_behind_walls(context.env.protected, method, asked)
    _note(context, cost, protection)
    return results


def unlearned_behind_walls(
    protected: tuple[Path, ...], method: Method, asked: Sequence[Handed]
) -> tuple[list[State | NumericalError], Mapping[str, Any], str]:
    """What the method makes of each request, in one enclosed process.

    Args:
        protected: Folders of pictures and results, which the method must not reach.
        method: With its hyperparameters.
        asked: One or more requests.

    Returns:
        The weights, by name on the processor, or the method's error where it finds itself that it
        left the finite numbers; what it cost; and what kept the method from the data.

    Raises:
        MethodError: The method failed, or what it returned is not the model.
    """
    from oneshui.enclosure import enclosed
    from oneshui.methods import hyperparameters

    files = {path for one in asked for path in one.files}
    found = enclosed(
        partial(_unlearn, tuple(asked), method.name, hyperparameters(method)),
        _walls(protected, method, handed=tuple(sorted(files))),
    )
    errors: Mapping[str, str] = found.value["errors"]
    results: list[State | NumericalError] = []
    for number, one in enumerate(asked):
        if str(number) in errors:
            results.append(NumericalError(errors[str(number)]))
            continue
        prefix = f"{number}."
        state = {
            name.removeprefix(prefix): tensor
            for name, tensor in found.tensors.items()
            if name.startswith(prefix)
        }
        _check(method, state, one.model)
        results.append(state)
    return results, found.value["cost"], found.protection


def _unlearn(
    asked: Sequence[Handed], name: str, hyperparameters: Mapping[str, Any], _private: Path
) -> tuple[State, dict[str, Any]]:
    from oneshui import methods

    method = methods.build(name, hyperparameters)
    found: State = {}
    errors = {}
    requests = [one.request() for one in asked]

    def work() -> None:
        for number, (one, request) in enumerate(zip(asked, requests, strict=True)):
            try:
                seed_shared(request.seed)
                state = unlearned_as_asked(method, request, one.in_steps_of).state_dict()
            except NumericalError as error:
                errors[str(number)] = str(error)
            else:
                found.update({f"{number}.{key}": value for key, value in state.items()})

    _, cost = measured(asked[0].model.device, "method_seconds", work)
    return found, {"cost": cost, "errors": errors}


def _check(method: Method, state: State, model: StoredModel) -> None:
    """Compare names and shapes with the pretrained model's.

    Raises:
        MethodError: They differ.
    """
    expected = model.shapes()
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    if shapes != expected:
        odd = sorted(n for n in expected.keys() | shapes.keys() if expected.get(n) != shapes.get(n))
        raise MethodError(
            f"method {method.name} returned another model than it was handed: {odd[0]} differs"
        )


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """All that a method is handed before deletion; which people will ask is not among it.

    Attributes:
        model: The pretrained model.
        task: "multilabel" or "multiclass".
        seed: Of everything random.
        pictures: All pictures of the dataset.
        train: Rows of D_tr without the support images, int64 [n].
        val: Rows of D_v, int64 [n].
        train_identities: Identities of the training set, in the split's order.
        num_forget: Identities in the coming request.
        checkpoint_seconds: Least time between two checkpoints.
    """

    model: StoredModel
    task: Task
    seed: int
    pictures: Pictures
    train: npt.NDArray[np.int64]
    val: npt.NDArray[np.int64]
    train_identities: tuple[int, ...]
    num_forget: int
    checkpoint_seconds: float


def prepared(context: JobContext, method: Method, handed: Preparation) -> State:
    """What the method prepares, in an enclosed process; costs are noted.

    Raises:
        MethodError: The method failed.
    """
    from oneshui.enclosure import enclosed
    from oneshui.methods import hyperparameters

    kept = context.env.store.checkpoint(context.job, context.reached_with)
    folder = kept.make_folder()
    if folder is not None:
        checkpoint, before = kept, None
    else:
        checkpoint, before = None, kept.load()
    found = enclosed(
        partial(_prepare, handed, method.name, hyperparameters(method), checkpoint, before),
        _walls(
            context.env.protected,
            method,
            handed=(handed.model.weights, *handed.pictures.files.values()),
            writable=() if folder is None else (folder,),
        ),
        look=_Relay(kept) if folder is None else lambda _private: None,
    )
    _note(context, found.value["cost"], found.protection)
    return found.tensors


class _Relay:
    """Carries checkpoints to a bucket, which an enclosed process cannot reach."""

    def __init__(self, kept: Checkpoint) -> None:
        self._kept = kept
        self._epoch = -1

    def __call__(self, private: Path) -> None:
        reached = Checkpoint(private / "checkpoint").load()
        if reached is not None and reached.epoch > self._epoch:
            self._kept.save(reached)
            self._epoch = reached.epoch


def _prepare(
    handed: Preparation,
    name: str,
    hyperparameters: Mapping[str, Any],
    checkpoint: Checkpoint | None,
    before: TrainingState | None,
    private: Path,
) -> tuple[State, dict[str, Any]]:
    import torch

    from oneshui import methods
    from oneshui.requests import PrepareRequest

    method = methods.build(name, hyperparameters)
    assert isinstance(method, methods.PreparedMethod)
    if checkpoint is None:
        checkpoint = Checkpoint(private / "checkpoint")
    if before is not None:
        checkpoint.save(before)
    request = PrepareRequest(
        model=handed.model.load(),
        task=handed.task,
        seed=handed.seed,
        device=torch.device(handed.model.device),
        train=handed.pictures.select(handed.train),
        val=handed.pictures.select(handed.val),
        train_identities=handed.train_identities,
        num_forget=handed.num_forget,
        checkpoint=PacedPrepareCheckpoint(checkpoint, handed.checkpoint_seconds),
    )
    seed_shared(request.seed)
    found, cost = measured(handed.model.device, "method_seconds", lambda: method.prepare(request))
    return dict(found), {"cost": cost}


def _walls(
    protected: tuple[Path, ...],
    method: Method,
    *,
    handed: tuple[Path, ...],
    writable: tuple[Path, ...] = (),
) -> Walls:
    from oneshui.enclosure import Walls, packages_of

    return Walls(
        protected=protected,
        method=method.name,
        packages=(
            *packages_of("oneshui"),
            *packages_of(__name__),
            *packages_of(type(method).__module__),
        ),
        handed=handed,
        writable=writable,
    )


def _note(context: JobContext, cost: Mapping[str, Any], protection: str) -> None:
    numbers = {name: float(value) for name, value in cost.items()}
    context.cost.update(numbers, protection=protection)
