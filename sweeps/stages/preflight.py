"""What this machine and the methods can do, asked before anything trains."""

from __future__ import annotations

import functools
import logging
import socket
from collections.abc import Iterable
from pathlib import Path

from oneshui.data.table import root_of
from oneshui.errors import InputError
from oneshui.spec import Task
from sweeps.graph.job import Job, canonical_json
from sweeps.stages.context import WorkerEnvironment, model_spec
from sweeps.store.objects import MissingCredentialsError, StoreUnreachableError

logger = logging.getLogger("oneshui.worker")


def preflight(jobs: Iterable[Job], env: WorkerEnvironment) -> None:
    """Refuse what this machine or a method cannot do in the sweep, before anything trains.

    Args:
        jobs: The graph; its index jobs are done.
        env: Store and device.

    Raises:
        InputError: Naming method and reason; the model does not exist, or the weights that it
            starts from are not there or do not fit; a dataset's folder is not there; the device
            is a GPU that cannot be used; or the machine has no credentials for the store.
    """
    try:
        _preflight(jobs, env)
    except MissingCredentialsError as error:
        raise InputError(f"on the machine {socket.gethostname()}: {error}") from None
    except StoreUnreachableError as error:
        # The jobs meet it too, and are tried again.
        logger.warning("%s", error)


def _preflight(jobs: Iterable[Job], env: WorkerEnvironment) -> None:
    from oneshui.accelerator import is_usable

    if not is_usable(env.device):
        raise InputError(
            f"the machine {socket.gethostname()} has a GPU in Ray's books, but this PyTorch cannot "
            f"use it as {env.device}; mend its driver, or say device=cpu to compute on processors"
        )
    by_key = {job.key: job for job in jobs}
    _check_folders(by_key.values(), env)
    seen = set()
    find = functools.cache(lambda key: env.store.find("index", key))
    for job in by_key.values():
        if job.stage not in ("pretrain", "retrain", "unlearn"):
            continue
        index = find(by_key[job.inputs["split"]].inputs["index"])
        if index is None:
            continue
        task, num_outputs = index.value["task"], len(index.value["class_names"])
        asked = ("model", "method", "hyperparameters")
        question = canonical_json([*(job.spec.get(one) for one in asked), task, num_outputs])
        if question in seen:
            continue
        if job.stage == "unlearn":
            _check_method(job, task, num_outputs)
        elif env.store.find(job.stage, job.key) is None:
            _check_start(job, num_outputs)
        else:
            continue
        seen.add(question)


def _check_method(job: Job, task: Task, num_outputs: int) -> None:
    from oneshui import methods
    from oneshui.training.models import make_model

    method = methods.build(job.spec["method"], job.spec["hyperparameters"])
    if isinstance(method, methods.CheckedMethod):
        try:
            method.check(make_model(model_spec(job), num_outputs, 0), task)
        except InputError as error:
            raise InputError(f"{method.name} cannot be used here: {error}") from None


def _check_start(job: Job, num_outputs: int) -> None:
    """Whether the model that is trained can be made; its starting weights are in the store."""
    from oneshui.training.models import make_model

    make_model(model_spec(job), num_outputs, 0)


def _check_folders(jobs: Iterable[Job], env: WorkerEnvironment) -> None:
    """Whether this machine sees the pictures that jobs have still to read."""
    for job in jobs:
        if job.stage == "cache" and env.store.find(job.stage, job.key) is None:
            folder = env.data_folders.get(job.inputs["index"])
            if isinstance(folder, Path) and not folder.exists():
                is_table = root_of(folder) != folder
                lacks = "has no table" if is_table else "has no dataset folder"
                raise InputError(
                    f"the machine {socket.gethostname()} {lacks} {folder}; put the "
                    "data there, share the folder, or set data_dir to one that every machine has"
                )
